// Frames written on a thread: the file appears when all is done, and not before.
#include "run/output_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <vector>

#include "opensora/error.h"
#include "support/temporary_folder.h"

namespace opensora::run {
namespace {

namespace fs = std::filesystem;

class OutputWriterTest : public ::testing::TestWithParam<int64_t> {
 protected:
  OutputWriterTest() {
    job_.output = folder_.path() / (GetParam() == 1 ? "out.png" : "out.mp4");
    job_.request.metadata = false;
    job_.request.save_frames = folder_.path() / "frames";
    fs::create_directory(job_.request.save_frames);
  }
  at::Tensor frames() const {
    return at::arange(GetParam() * 16 * 16 * 3, at::kLong).to(at::kByte).view({GetParam(), 16, 16, 3});
  }

  test::TemporaryFolder folder_;
  Job job_;
};

TEST_P(OutputWriterTest, CompletesItsFiles) {
  OutputWriter writer(job_, GetParam());
  writer.push(frames(), StageClock(at::kCPU, {}));
  std::vector<int64_t> told;
  writer.finish(StageClock(at::kCPU, [&](const Progress& progress) { told.push_back(progress.done); }));
  EXPECT_TRUE(fs::exists(job_.output));
  EXPECT_EQ(told.back(), GetParam());
  EXPECT_TRUE(std::is_sorted(told.begin(), told.end()));
  EXPECT_EQ(std::distance(fs::directory_iterator(job_.request.save_frames), {}), GetParam());
}

TEST_P(OutputWriterTest, LeavesNothingWithoutFinish) {
  {
    OutputWriter writer(job_, GetParam());
    writer.push(frames(), StageClock(at::kCPU, {}));
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1);  // the folder of frames
  EXPECT_TRUE(fs::is_empty(job_.request.save_frames));
}

TEST_P(OutputWriterTest, LeavesNothingWhenStoppedAtTheLastReport) {
  {
    OutputWriter writer(job_, GetParam());
    writer.push(frames(), StageClock(at::kCPU, {}));
    const StageClock clock(at::kCPU, [&](const Progress& progress) {
      if (progress.done == GetParam()) throw InterruptedError(2);
    });
    EXPECT_THROW(writer.finish(clock), InterruptedError);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1);
  EXPECT_TRUE(fs::is_empty(job_.request.save_frames));
}

INSTANTIATE_TEST_SUITE_P(Frames, OutputWriterTest, ::testing::Values(1, 2, 9));

}  // namespace
}  // namespace opensora::run
