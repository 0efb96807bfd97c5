// Frames written on a thread: the file appears when all is done, and not before.
#include "pipeline/output_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <vector>

#include "opensora/error.h"
#include "support/temporary_folder.h"

namespace opensora::pipeline {
namespace {

namespace fs = std::filesystem;

class OutputWriterTest : public ::testing::TestWithParam<int64_t> {
 protected:
  OutputWriterTest() {
    plan_.output = folder_.path() / (GetParam() == 1 ? "out.png" : "out.mp4");
    request_.metadata = false;
    request_.save_frames = folder_.path() / "frames";
    fs::create_directory(request_.save_frames);
  }
  at::Tensor frames() const {
    return at::arange(GetParam() * 16 * 16 * 3, at::kLong).to(at::kByte).view({GetParam(), 16, 16, 3});
  }

  test::TemporaryFolder folder_;
  GenerateRequest request_;
  Plan plan_;
};

TEST_P(OutputWriterTest, CompletesItsFiles) {
  OutputWriter writer(request_, plan_, GetParam());
  writer.push(frames(), StageClock(at::kCPU, {}));
  std::vector<int64_t> told;
  writer.finish(StageClock(at::kCPU, [&](const Progress& progress) { told.push_back(progress.done); }));
  EXPECT_TRUE(fs::exists(plan_.output));
  EXPECT_EQ(told.back(), GetParam());
  EXPECT_TRUE(std::is_sorted(told.begin(), told.end()));
  EXPECT_EQ(std::distance(fs::directory_iterator(request_.save_frames), {}), GetParam());
}

TEST_P(OutputWriterTest, LeavesNothingWithoutFinish) {
  {
    OutputWriter writer(request_, plan_, GetParam());
    writer.push(frames(), StageClock(at::kCPU, {}));
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1);  // the folder of frames
  EXPECT_TRUE(fs::is_empty(request_.save_frames));
}

TEST_P(OutputWriterTest, LeavesNothingWhenStoppedAtTheLastReport) {
  {
    OutputWriter writer(request_, plan_, GetParam());
    writer.push(frames(), StageClock(at::kCPU, {}));
    const StageClock clock(at::kCPU, [&](const Progress& progress) {
      if (progress.done == GetParam()) throw InterruptedError(2);
    });
    EXPECT_THROW(writer.finish(clock), InterruptedError);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1);
  EXPECT_TRUE(fs::is_empty(request_.save_frames));
}

INSTANTIATE_TEST_SUITE_P(Frames, OutputWriterTest, ::testing::Values(1, 2, 9));

}  // namespace
}  // namespace opensora::pipeline
