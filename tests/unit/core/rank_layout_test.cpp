#include "core/rank_layout.h"

#include <gtest/gtest.h>

#include "opensora/error.h"

namespace opensora {
namespace {

TEST(RankLayout, IsReadAsItIsWritten) {
  const RankLayout layout{.guidance = 2, .ulysses = 4, .ring = 3};
  EXPECT_EQ(layout.ranks(), 24);
  EXPECT_EQ(layout_text(layout), "guidance=2,ulysses=4,ring=3");
  EXPECT_EQ(parse_layout(layout_text(layout)), layout);
  EXPECT_EQ(parse_layout("ring=3"), (RankLayout{.ring = 3}));
}

TEST(RankLayout, RefusesOtherWords) {
  for (const char* text : {"ring", "ring=", "ring=0", "ring=-1", "ring=2x", "tensor=2", "ring=2,,ulysses=2"}) {
    EXPECT_THROW(parse_layout(text), UsageError) << text;
  }
}

TEST(RankLayout, OneSequenceIsByUlyssesAsFarAsHeadsGo) {
  EXPECT_EQ(whole_sequence(8, 24), (RankLayout{.ulysses = 8}));
  EXPECT_EQ(whole_sequence(16, 24), (RankLayout{.ulysses = 8, .ring = 2}));
  EXPECT_EQ(whole_sequence(5, 24), (RankLayout{.ring = 5}));
}

}  // namespace
}  // namespace opensora
