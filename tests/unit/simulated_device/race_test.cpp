// Seeded faults: each is found, and with the right event in its place nothing is.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <gtest/gtest.h>

#include "core/device.h"
#include "support/simulated_device/simulated_device.h"

namespace opensora::test {
namespace {

TEST(SimulatedRace, IsFoundWhereAnEventIsMissing) {
  simulated::start();
  const c10::InferenceMode inference;
  const at::Device device = resolve_device("sim");
  const at::Tensor x = at::ones({1000}, at::TensorOptions().device(device));
  const auto second = second_stream(device);
  DeviceEvent written(device);
  written.record_current();
  const c10::OptionalStreamGuard guard(second);
  x.mul_(2);
  EXPECT_EQ(simulated::take_races().size(), 1);
  written.block_current();
}

}  // namespace
}  // namespace opensora::test
