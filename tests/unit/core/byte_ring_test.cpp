// A ring of bytes: what is there stays until it is allowed to go, and as much is there as has room.
#include "core/byte_ring.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace opensora {
namespace {

struct Place {
  int64_t begin, end;
};

// Whatever lies in the way of the next, and nothing else, is older than what newest_in_the_way() says.
TEST(ByteRing, TellsWhatLiesInTheWay) {
  std::mt19937 random(1);
  for (const int64_t size : {100, 257, 1000}) {
    ByteRing ring(size);
    std::map<int64_t, Place> there;
    for (int64_t turn = 0; turn < 500; ++turn) {
      const int64_t bytes = std::uniform_int_distribution<int64_t>(0, size)(random);
      const int64_t newest = ring.newest_in_the_way(bytes);
      std::vector<int64_t> overwritten;
      const int64_t begin = ring.take(turn, bytes, overwritten);
      ASSERT_GE(begin, 0);
      ASSERT_LE(begin + bytes, size);
      EXPECT_EQ(newest, overwritten.empty() ? -1 : overwritten.back());
      for (const int64_t old : overwritten) there.erase(old);
      for (const auto& [other, place] : there) {
        EXPECT_TRUE(place.end <= begin || begin + bytes <= place.begin || bytes == 0) << turn << " lies on " << other;
      }
      there[turn] = {begin, begin + bytes};
    }
    EXPECT_EQ(ring.clear().size(), there.size());
  }
}

// What the transformer does: 19 double blocks, then 38 single ones of half their size, in a ring for three double ones.
TEST(ByteRing, HoldsTwiceAsManyOfHalfTheSize) {
  ByteRing ring(3 * 200);
  std::vector<int64_t> gone;
  int64_t oldest = 0;
  for (int64_t turn = 0; turn < 4 * 57; ++turn) {
    ring.take(turn, turn % 57 < 19 ? 200 : 100, gone);
    if (!gone.empty()) oldest = gone.back() + 1;
    if (turn >= 2) EXPECT_GE(turn - oldest + 1, 3);
    if (turn % 57 >= 19 + 5) EXPECT_EQ(turn - oldest + 1, 6);
  }
}

TEST(ByteRing, AtTheEndOfWhatIsThereTheStartIsTaken) {
  ByteRing ring(10);
  std::vector<int64_t> gone;
  EXPECT_EQ(ring.take(0, 4, gone), 0);
  EXPECT_EQ(ring.take(1, 4, gone), 4);
  EXPECT_EQ(ring.newest_in_the_way(2), -1);
  EXPECT_EQ(ring.newest_in_the_way(3), 0);
  EXPECT_EQ(ring.newest_in_the_way(5), 1);
  EXPECT_EQ(ring.take(2, 3, gone), 0);  // two bytes stay free
  EXPECT_EQ(gone, std::vector<int64_t>{0});
}

}  // namespace
}  // namespace opensora
