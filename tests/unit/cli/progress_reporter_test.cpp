// Progress on stderr: whatever order of reports a command makes, it draws, and never fails.
#include "cli/standard_error.h"

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <vector>

namespace opensora::cli {
namespace {

// What is written for a list of reports. Plain lines come without a pause between them.
std::string drawn(ProgressStyle style, const std::vector<Progress>& reports) {
  testing::internal::CaptureStderr();
  {
    ProgressReporter reporter(style, ProgressReporter::Clock::duration::zero());
    for (const Progress& progress : reports) reporter(progress);
  }
  return testing::internal::GetCapturedStderr();
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(ProgressReporter, PrintsALineForEachReport) {
  const std::string text =
      drawn(ProgressStyle::kPlain, {{"denoise", 0, 0}, {"denoise", 1, 4}, {"denoise", 2, 4}, {"denoise", 4, 4}});
  EXPECT_EQ(text,
            "denoise 1/4, 0:00 elapsed, 0:00 left\ndenoise 2/4, 0:00 elapsed, 0:00 left\n"
            "denoise 4/4, 0:00 elapsed, 0:00 left\n");
}

TEST(ProgressReporter, DrawsABarAndTakesItAway) {
  const std::string text = drawn(ProgressStyle::kBar, {{"decode", 0, 0}, {"decode", 1, 2}, {"decode", 2, 2}});
  EXPECT_EQ(count(text, "decode   ["), 2U);
  EXPECT_NE(text.find("[===============               ] 1/2"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\r\033[K")) << text;
}

TEST(ProgressReporter, MakesRoomForALineOfTheLog) {
  const auto before = spdlog::default_logger();
  init_logging();
  testing::internal::CaptureStderr();
  {
    ProgressReporter reporter(ProgressStyle::kBar);
    reporter({"decode", 1, 2});
    spdlog::warn("something");
  }
  spdlog::set_default_logger(before);
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("left\033[K\r\033[Kopensora: warning: something\n"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("something\n")) << text;  // the bar is not taken away twice
}

TEST(ProgressReporter, IsSilentIfAsked) {
  EXPECT_EQ(drawn(ProgressStyle::kNone, {{"decode", 0, 0}, {"decode", 1, 2}, {"decode", 2, 2}}), "");
}

// As bench (stages that are repeated), encode-text (a stage named after each encoder) and reconstruct do.
TEST(ProgressReporter, TakesReportsOfStagesThatNeverBegan) {
  const std::vector<std::vector<Progress>> cases = {
      {{"probe", 1, 2}, {"probe", 2, 2}, {"step", 1, 6}},                           // no beginnings at all
      {{"t5", 1, 1}, {"clip", 1, 1}, {"t5", 1, 1}},                                 // a stage that ended before
      {{"decode", 0, 0}, {"decode", 2, 2}, {"decode", 1, 2}},                       // goes on after its end
      {{"denoise", 1, 3, 1, 2}, {"write", 5, 9, 2, 2}, {"denoise", 2, 3, 1, 2}},    // two videos at a time
      {{"read", 0, 10}, {"read", 7, 5}, {"read", -1, 5}, {"read", 1, INT64_MAX}}};  // odd counts
  for (const auto& reports : cases) {
    EXPECT_EQ(count(drawn(ProgressStyle::kPlain, reports), "\n"),
              reports.size() - static_cast<size_t>(reports.front().total == 0));
    EXPECT_NE(drawn(ProgressStyle::kBar, reports).find("elapsed"), std::string::npos);
  }
}

TEST(ProgressReporter, NamesTheVideoOfABatch) {
  EXPECT_EQ(drawn(ProgressStyle::kPlain, {{"decode", 1, 2, 3, 7}}), "decode 3/7 1/2, 0:00 elapsed, 0:00 left\n");
}

}  // namespace
}  // namespace opensora::cli
