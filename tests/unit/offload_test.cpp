// What --offload auto chooses.
#include "models/offload.h"

#include <gtest/gtest.h>

#include "opensora/error.h"

namespace opensora::models {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

TEST(OffloadAuto, StreamsBlocksWhereATransformerDoesNotFit) {
  const at::Device gpu(at::kCUDA, 0);
  const TransformerMemory memory{.weight_bytes = 22 * kGiB, .activation_bytes = 2 * kGiB, .free_bytes = 24 * kGiB};
  EXPECT_EQ(settle_offload(Offload::kAuto, gpu, memory), Offload::kModel);
  TransformerMemory less = memory;
  less.free_bytes = 23 * kGiB;
  EXPECT_EQ(settle_offload(Offload::kAuto, gpu, less), Offload::kBlock);
  less.free_bytes = std::nullopt;
  EXPECT_EQ(settle_offload(Offload::kAuto, gpu, less), Offload::kModel);
}

TEST(OffloadAuto, LeavesWeightsInTheirFileOnTheCpu) {
  const TransformerMemory memory{.weight_bytes = 22 * kGiB, .activation_bytes = kGiB, .free_bytes = 4 * kGiB};
  EXPECT_EQ(settle_offload(Offload::kAuto, at::kCPU, memory), Offload::kModel);
}

TEST(OffloadAuto, WhatIsAskedForIsDone) {
  for (const Offload offload : {Offload::kNone, Offload::kModel, Offload::kBlock}) {
    EXPECT_EQ(settle_offload(offload, at::kCPU, {}), offload);
  }
  EXPECT_EQ(parse_offload("block"), Offload::kBlock);
  EXPECT_THROW(parse_offload("half"), UsageError);
}

TEST(OffloadAuto, ReckonsWithTheLengthOfTheVideo) {
  const MMDiTConfig config;
  const int64_t one = transformer_activation_bytes(config, 1000, at::kBFloat16);
  EXPECT_EQ(transformer_activation_bytes(config, 2000, at::kBFloat16), 2 * one);
  EXPECT_EQ(transformer_activation_bytes(config, 1000, at::kFloat), 2 * one);
}

}  // namespace
}  // namespace opensora::models
