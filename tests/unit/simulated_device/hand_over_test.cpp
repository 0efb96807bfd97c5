// What one thread's stream has made is waited for by the stream of the thread that goes on with it: a wait that is left
// out is found.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/device.h"
#include "run/finisher.h"
#include "run/output_writer.h"
#include "support/simulated_device/simulated_device.h"
#include "support/temporary_folder.h"

namespace opensora::test {
namespace {

using Races = std::vector<std::string>;

Races races_of_finisher(int64_t ignored_wait) {
  simulated::start({.ignored_wait = ignored_wait});
  const c10::InferenceMode inference;
  const at::Device device = simulated::device();
  run::Job job;
  job.latent = at::ones({8}, at::TensorOptions().device(device));
  run::Finisher finisher(true, device, [](run::Job& its) {
    its.latent.mul_(2);
    EXPECT_EQ(its.latent.sum().item<float>(), 16);
    its.latent.reset();
  });
  finisher.submit(job);
  finisher.finish_all();
  return simulated::take_races();
}

Races races_of_output_writer(int64_t ignored_wait) {
  simulated::start({.ignored_wait = ignored_wait});
  const c10::InferenceMode inference;
  const TemporaryFolder folder;
  run::Job job;
  job.device = simulated::device();
  job.output = folder.path() / "out.png";
  job.request.metadata = false;
  const run::StageClock clock(job.device, {});
  run::OutputWriter writer(job, 1);
  writer.push(at::ones({1, 16, 16, 3}, at::TensorOptions(at::kByte).device(job.device)), clock);
  writer.finish(clock);
  return simulated::take_races();
}

TEST(SimulatedHandOver, TheFinisherWaitsForTheSamplersStream) {
  EXPECT_EQ(races_of_finisher(0), Races{});
  EXPECT_FALSE(races_of_finisher(1).empty());
}

TEST(SimulatedHandOver, TheWriterWaitsForTheDecodersStream) {
  EXPECT_EQ(races_of_output_writer(0), Races{});
  EXPECT_FALSE(races_of_output_writer(1).empty());
}

}  // namespace
}  // namespace opensora::test
