// What the tests on the simulated device share: each ends without a race, and with the device's memory as it was.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "opensora/generate.h"
#include "support/simulated_device/simulated_device.h"

namespace opensora::test {

inline constexpr const char* kSimulated = "sim";  // for --device

class SimulatedTest : public ::testing::Test {
 protected:
  void SetUp() override { restart(); }
  void TearDown() override { expect_clean(); }

  // Begins to count anew. For tests of several runs.
  void restart(const simulated::Options& options = {});
  // No race was found since then, and nothing is left on the device or in pinned memory.
  void expect_clean() const;

 private:
  int64_t held_before_ = 0, pinned_before_ = 0;  // bytes
};

// Five frames of 16 x 16 pixels, the smallest there are, by the tiny models in so many steps, in float32 on one thread,
// into `folder`, with the tensors beside it. Each step has two forwards.
GenerateRequest short_request(const std::filesystem::path& folder, int64_t steps = 2);

// Makes the video; the counters as each step of its sampling ends.
std::vector<simulated::Counters> counters_by_step(const GenerateRequest& request, GenerateResult* result = nullptr);

// What a request's save_tensors holds is equal in every bit.
void expect_equal_tensors(const std::filesystem::path& file, const std::filesystem::path& expected);

}  // namespace opensora::test
