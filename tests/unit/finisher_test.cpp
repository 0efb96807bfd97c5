// The thread that decodes and writes while the next video is sampled.
#include "pipeline/finisher.h"

#include <gtest/gtest.h>

#include <future>
#include <stdexcept>
#include <vector>

namespace opensora::pipeline {
namespace {

TEST(Finisher, WaitsUntilNothingIsLeft) {
  std::vector<Video> videos(2);
  std::promise<void> go;
  const std::shared_future<void> gone = go.get_future().share();
  std::atomic<size_t> finished = 0;
  Finisher finisher(true, at::kCPU, [&](Video&) {
    gone.wait();
    ++finished;
  });
  finisher.wait_until_idle();
  for (Video& video : videos) finisher.submit(video);
  std::promise<void> waits;
  auto idle = std::async(std::launch::async, [&] {
    waits.set_value();
    finisher.wait_until_idle();
    return finished.load();
  });
  waits.get_future().wait();
  go.set_value();
  EXPECT_EQ(idle.get(), videos.size()) << "of the videos were finished when it was said to be idle";
  finisher.wait_until_idle();
}

TEST(Finisher, WithoutAThreadThereIsNothingToWaitFor) {
  Video video;
  int finished = 0;
  Finisher finisher(false, at::kCPU, [&](Video&) { ++finished; });
  finisher.submit(video);
  finisher.wait_until_idle();
  EXPECT_EQ(finished, 0);
  finisher.finish_all();
  EXPECT_EQ(finished, 1);
}

TEST(Finisher, TellsOfItsError) {
  Video video;
  Finisher finisher(true, at::kCPU, [](Video&) { throw std::runtime_error("the disk is gone"); });
  finisher.submit(video);
  EXPECT_THROW(finisher.wait_until_idle(), std::runtime_error);
  EXPECT_THROW(finisher.finish_all(), std::runtime_error);
}

}  // namespace
}  // namespace opensora::pipeline
