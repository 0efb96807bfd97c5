// Which videos are called black, of one colour or frozen, and which are not.
#include "run/suspicious.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "opensora/error.h"

namespace opensora::run {
namespace {

constexpr int kWidth = 37, kHeight = 21;  // no multiples of the blocks

using Value = std::function<int(int x, int y, int channel, int t)>;

std::string finding(int frames, const Value& value) {
  SuspicionDetector detector;
  for (int t = 0; t < frames; ++t) {
    std::vector<uint8_t> rgb;
    for (int y = 0; y < kHeight; ++y) {
      for (int x = 0; x < kWidth; ++x) {
        for (int c = 0; c < 3; ++c) rgb.push_back(static_cast<uint8_t>(value(x, y, c, t)));
      }
    }
    detector.add(rgb.data(), kWidth, kHeight);
  }
  return detector.finding();
}

// -1, 0 or 1, different everywhere and in every frame.
int flicker(int x, int y, int c, int t) { return (x * 7 + y * 13 + c * 5 + t * 11) % 3 - 1; }

int gradient(int x, int y, int c, int) { return 40 + 4 * x + 2 * y + 10 * c; }

TEST(Suspicion, Black) {
  EXPECT_EQ(finding(5, [](int, int, int, int) { return 0; }), "all black");
  EXPECT_EQ(finding(1, [](int, int, int, int) { return 0; }), "all black");
  EXPECT_EQ(finding(5, [](int x, int y, int c, int t) { return 4 + 3 * flicker(x, y, c, t); }), "all black");
}

TEST(Suspicion, ANightScenePasses) {
  // One star of 2x2 pixels that moves over black, and faint hills.
  const auto night = [](int x, int y, int, int t) {
    if (y == 3 || y == 4) return x / 2 == 4 + t ? 60 : 1;
    return y > 12 + std::lround(3 * std::sin(x)) ? 10 : 1;
  };
  EXPECT_EQ(finding(5, night), "");
  EXPECT_EQ(finding(1, night), "");
}

TEST(Suspicion, OneColour) {
  const auto grey = [](int x, int y, int c, int t) { return 100 + 20 * c + flicker(x, y, c, t); };
  EXPECT_EQ(finding(5, grey), "all of one colour");
  EXPECT_EQ(finding(1, grey), "all of one colour");
  EXPECT_EQ(finding(5, [](int, int, int c, int t) { return 100 + 20 * c + 5 * t; }), "all of one colour");
  // A faint shade is a picture.
  EXPECT_EQ(finding(1, [](int x, int, int, int) { return 100 + x / 4; }), "");
}

TEST(Suspicion, Frozen) {
  EXPECT_EQ(finding(5, gradient), "frozen");
  EXPECT_EQ(finding(1, gradient), "") << "a picture need not move";
  EXPECT_EQ(finding(5, [](int x, int y, int c, int t) { return gradient(x, y, c, 0) + (flicker(x, y, c, t) > 0); }),
            "frozen");
}

TEST(Suspicion, SmallAndSlowMotionIsMotion) {
  // A dot of 2x2 pixels that moves on.
  const auto dot = [](int x, int y, int c, int t) { return x / 2 == t && y / 2 == 4 ? 255 : gradient(x, y, c, 0); };
  EXPECT_EQ(finding(3, dot), "");
  // Only the last frame differs, or the last pixel.
  EXPECT_EQ(finding(9, [](int x, int y, int c, int t) { return gradient(x, y, c, 0) + (t == 8 ? 3 : 0); }), "");
  EXPECT_EQ(
      finding(2, [](int x, int y, int c,
                    int t) { return gradient(x, y, c, 0) + (t == 1 && x == kWidth - 1 && y == kHeight - 1 ? 40 : 0); }),
      "");
  // A fade of a level in four frames.
  EXPECT_EQ(finding(20, [](int x, int y, int c, int t) { return gradient(x, y, c, 0) + t / 4; }), "");
}

TEST(Suspicion, NothingSeenIsNothingFound) { EXPECT_EQ(SuspicionDetector().finding(), ""); }

TEST(Suspicion, TheTextNamesFileAndFinding) {
  EXPECT_NE(suspicion_text("frozen", "a.mp4").find("a.mp4: the output is frozen"), std::string::npos);
}

}  // namespace
}  // namespace opensora::run
