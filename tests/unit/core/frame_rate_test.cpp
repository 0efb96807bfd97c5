// Frames a second as fractions: what people write, what files measure, and back.
#include "opensora/video.h"

#include <gtest/gtest.h>

namespace opensora {
namespace {

std::string read(const std::string& text) {
  const auto rate = parse_frame_rate(text);
  return rate ? to_string(*rate) : "none";
}

TEST(FrameRate, DecimalsOfNtscAreItsFractions) {
  EXPECT_EQ(read("23.976"), "24000/1001");
  EXPECT_EQ(read("23.98"), "24000/1001");
  EXPECT_EQ(read("23.9760239760"), "24000/1001");
  EXPECT_EQ(read("29.97"), "30000/1001");
  EXPECT_EQ(read("47.952"), "48000/1001");
  EXPECT_EQ(read("59.94"), "60000/1001");
  EXPECT_EQ(read("119.88"), "120000/1001");
}

TEST(FrameRate, OtherNumbersAreExact) {
  EXPECT_EQ(read("24"), "24");
  EXPECT_EQ(read("24.0"), "24");
  EXPECT_EQ(read("25.000"), "25");
  EXPECT_EQ(read("12.5"), "25/2");
  EXPECT_EQ(read("23.9"), "239/10");
  EXPECT_EQ(read("30000/1001"), "30000/1001");
  EXPECT_EQ(read("60/2"), "30");
  EXPECT_EQ(read("1"), "1");
  EXPECT_EQ(read("1000"), "1000");
}

TEST(FrameRate, NothingElseIsOne) {
  for (const char* text : {"",
                           "0",
                           "0.5",
                           "1001",
                           "1000.01",
                           "-24",
                           "+24",
                           "24 ",
                           " 24",
                           "1e2",
                           "0x18",
                           "24/",
                           "/1001",
                           "24/0",
                           "24/-1",
                           "24/1/1",
                           "24:1",
                           "24,5",
                           ".5",
                           "24.",
                           "nan",
                           "inf",
                           "999999999999999999999",
                           "99999999999999999/1",
                           "ntsc"}) {
    EXPECT_EQ(read(text), "none") << text;
  }
}

TEST(FrameRate, WhatIsWrittenIsReadAgain) {
  for (const FrameRate& rate : {FrameRate(24), FrameRate(24000, 1001), FrameRate(25, 2), FrameRate(1000000, 999999)}) {
    EXPECT_EQ(parse_frame_rate(to_string(rate)), rate);
  }
  EXPECT_EQ(FrameRate(30000, 1001).rounded(), 30);
  EXPECT_EQ(FrameRate(24000, 1001).rounded(), 24);
  EXPECT_DOUBLE_EQ(FrameRate(25, 2).value(), 12.5);
}

TEST(FrameRate, OfMeasuredRates) {
  EXPECT_EQ(nearest_frame_rate(24.0001), FrameRate(24));
  EXPECT_EQ(nearest_frame_rate(23.976), FrameRate(24000, 1001));
  EXPECT_EQ(nearest_frame_rate(29.97), FrameRate(30000, 1001));
  EXPECT_EQ(nearest_frame_rate(12.5), FrameRate(25, 2));
  EXPECT_EQ(nearest_frame_rate(0.2), FrameRate(1));
  EXPECT_EQ(nearest_frame_rate(90000), FrameRate(1000));
}

}  // namespace
}  // namespace opensora
