#include "batch/output_name.h"

#include <gtest/gtest.h>

#include "core/text.h"
#include "opensora/error.h"
#include "support/contains.h"

namespace opensora::batch {
namespace {

using test::contains;

const NameFields kFields{.index = 7, .name = "boat", .prompt = "A ship/boat, sailing\n🚢", .seed = 42, .sample = 3};

TEST(OutputName, EveryField) {
  EXPECT_EQ(video_name("{index}_{name}_{seed}_{sample}", kFields), "00007_boat_42_3");
  EXPECT_EQ(video_name("{slug}", kFields), "a-ship-boat-sailing");
  EXPECT_EQ(video_name("{prompt}-{sample}", kFields), "A ship_boat, sailing_🚢-3");
  EXPECT_EQ(video_name("a{{{seed}}}", kFields), "a{42}");
  EXPECT_EQ(video_name("{index}", {.index = 1'234'567}), "1234567");
  EXPECT_EQ(video_name("{seed}", {.seed = ~uint64_t{0}}), "18446744073709551615");
  EXPECT_EQ(video_name("{seed}-{{sample}}", kFields), "42-{sample}");
}

TEST(OutputName, WithoutANameTheSlugStandsIn) {
  EXPECT_EQ(video_name("{name}", {.prompt = "a red circle"}), "a-red-circle");
  EXPECT_EQ(video_name("{name}", {.prompt = "猫"}), "video");
  EXPECT_EQ(video_name("{prompt}", {.prompt = ""}), "video");
  EXPECT_EQ(default_name_template(true, false), "{name}");
  EXPECT_EQ(video_name(default_name_template(false, true), {.index = 2, .prompt = "a b", .sample = 1}), "00002-a-b-1");
}

TEST(OutputName, APromptIsCutBetweenCharacters) {
  std::string prompt = "x";
  for (int i = 0; i < 100; ++i) prompt += "🚢";
  const std::string name = safe_file_name(prompt);
  EXPECT_EQ(name.size(), 197U);  // 1 + 49 * 4
  EXPECT_FALSE(find_invalid_utf8(name));
  EXPECT_EQ(safe_file_name(std::string("a\0b\tc\x7F/", 7)), "a_b_c__");
}

TEST(OutputName, BadTemplates) {
  const auto expect_error = [](const std::string& text, const std::string& part) {
    try {
      FAIL() << video_name(text, kFields);
    } catch (const UsageError& error) {
      EXPECT_TRUE(contains(error.what(), part));
      EXPECT_TRUE(contains(error.what(), "{sample}")) << "the known fields are listed";
    }
  };
  expect_error("{promt}", "unknown field {promt}; did you mean \"prompt\"?");
  expect_error("{}", "unknown field {}");
  expect_error("{name", "a brace without its partner");
  expect_error("name}", "a brace without its partner");
  expect_error("a/{name}", "`output_dir`");
  expect_error("..", "is no file's name");
  expect_error("", "is empty");
  expect_error("a\nb", "\"a\\u000ab\": holds a control character");
}

TEST(OutputName, NamesOfRows) {
  RowErrors errors("f");
  for (const char* good : {"boat", "a..b", ".hidden", "Größe 🚢", "-x"}) check_row_name(1, good, errors);
  EXPECT_TRUE(errors.empty()) << errors.lines().front();
  check_row_name(2, "../x", errors);
  check_row_name(3, "/etc/passwd", errors);
  check_row_name(4, "..", errors);
  check_row_name(5, "a\nb", errors);
  check_row_name(6, std::string(252, 'x'), errors);
  const auto lines = errors.lines();
  ASSERT_EQ(lines.size(), 5U);
  EXPECT_TRUE(contains(lines[0], "f:2: name \"../x\""));
  EXPECT_TRUE(contains(lines[4], "252 bytes"));
}

TEST(OutputName, CollisionsNameBothRows) {
  RowErrors errors("f");
  check_names({{2, 0, "a"}, {2, 1, "a"}, {3, 0, "b"}, {4, 0, "B"}, {9, 0, "b"}, {10, 0, "b"}}, errors);
  const auto lines = errors.lines();
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_TRUE(contains(lines[0], "f:2: samples 0 and 1 would both be called \"a\""));
  EXPECT_TRUE(contains(lines[1], "f:9: would be called \"b\", as that of line 3"));
  EXPECT_TRUE(contains(lines[2], "f:10: would be called \"b\", as that of line 3"));
}

}  // namespace
}  // namespace opensora::batch
