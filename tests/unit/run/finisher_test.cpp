// The thread that decodes and writes while the next video is sampled.
#include "run/finisher.h"

#include <gtest/gtest.h>

#include <future>
#include <stdexcept>
#include <vector>

namespace opensora::run {
namespace {

TEST(Finisher, WaitsUntilNothingIsLeft) {
  std::vector<Job> jobs(2);
  std::promise<void> go;
  const std::shared_future<void> gone = go.get_future().share();
  std::atomic<size_t> finished = 0;
  Finisher finisher(true, at::kCPU, [&](Job&) {
    gone.wait();
    ++finished;
  });
  finisher.wait_until_idle();
  for (Job& job : jobs) finisher.submit(job);
  std::promise<void> waits;
  auto idle = std::async(std::launch::async, [&] {
    waits.set_value();
    finisher.wait_until_idle();
    return finished.load();
  });
  waits.get_future().wait();
  go.set_value();
  EXPECT_EQ(idle.get(), jobs.size()) << "of the jobs were finished when it was said to be idle";
  finisher.wait_until_idle();
}

TEST(Finisher, WithoutAThreadThereIsNothingToWaitFor) {
  Job job;
  int finished = 0;
  Finisher finisher(false, at::kCPU, [&](Job&) { ++finished; });
  finisher.submit(job);
  finisher.wait_until_idle();
  EXPECT_EQ(finished, 0);
  finisher.finish_all();
  EXPECT_EQ(finished, 1);
}

TEST(Finisher, TellsOfItsError) {
  Job job;
  Finisher finisher(true, at::kCPU, [](Job&) { throw std::runtime_error("the disk is gone"); });
  finisher.submit(job);
  EXPECT_THROW(finisher.wait_until_idle(), std::runtime_error);
  EXPECT_THROW(finisher.finish_all(), std::runtime_error);
}

}  // namespace
}  // namespace opensora::run
