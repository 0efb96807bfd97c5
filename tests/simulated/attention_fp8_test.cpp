// Attention in 8 bits on a device: the kernel's place is taken by the emulation.
#include "nn/attention_fp8.h"

#include <gtest/gtest.h>

#include <vector>

#include "simulated/simulated_test.h"
#include "support/contains.h"
#include "support/log_capture.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using test::simulated::Counters;

class SimulatedFp8Attention : public test::SimulatedTest {
 protected:
  SimulatedFp8Attention() { nn::simulated_fp8_kernel() = nn::emulated_fp8_attention; }
  ~SimulatedFp8Attention() override { nn::simulated_fp8_kernel() = nullptr; }
};

// The first step in 8 bits waits once more, for what the comparison found.
TEST_F(SimulatedFp8Attention, WaitsOnceForItsCheckAndNeverAgain) {
  constexpr int64_t kSteps = 7;
  const test::TemporaryFolder folder;
  GenerateRequest request = test::short_request(folder.path(), kSteps);
  request.attention = "fp8";
  request.offload = "none";
  GenerateResult result;
  const std::vector<Counters> steps = test::counters_by_step(request, &result);
  EXPECT_TRUE(test::contains(result.attention, ", fp8 in ")) << result.attention;
  ASSERT_EQ(steps.size(), static_cast<size_t>(kSteps));
  for (size_t i = 1; i < steps.size(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i + 1));
    const Counters &before = steps[i - 1], &after = steps[i];
    EXPECT_LE(after.thread_synchronizations - before.thread_synchronizations, i == 2 ? 2 : 1);
    EXPECT_EQ(after.bytes_to_device, before.bytes_to_device);
    if (i > 3) EXPECT_EQ(after.device_allocations, before.device_allocations) << "the cache should serve all";
  }
}

TEST_F(SimulatedFp8Attention, WithoutAKernelAttentionStaysExact) {
  nn::simulated_fp8_kernel() = nullptr;
  const test::TemporaryFolder exact, asked;
  GenerateRequest request = test::short_request(exact.path(), 4);
  generate(request);
  request = test::short_request(asked.path(), 4);
  request.attention = "fp8";
  const test::LogCapture log;
  generate(request);
  EXPECT_TRUE(test::contains(log.text(), "attention stays exact")) << log.text();
  test::expect_equal_tensors(asked.path() / "tensors.safetensors", exact.path() / "tensors.safetensors");
}

}  // namespace
}  // namespace opensora
