// What --offload auto chooses.
#include "models/model_set.h"

#include <gtest/gtest.h>

#include "opensora/error.h"

namespace opensora::models {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

TEST(OffloadAuto, StreamsBlocksWhereATransformerDoesNotFit) {
  const at::Device gpu(at::kCUDA, 0);
  constexpr int64_t kNeeded = 24 * kGiB;
  EXPECT_EQ(settle_offload(Offload::kAuto, gpu, kNeeded, 24 * kGiB), Offload::kModel);
  EXPECT_EQ(settle_offload(Offload::kAuto, gpu, kNeeded, 23 * kGiB), Offload::kBlock);
  EXPECT_EQ(settle_offload(Offload::kAuto, gpu, kNeeded, std::nullopt), Offload::kModel);
}

TEST(OffloadAuto, LeavesWeightsInTheirFileOnTheCpu) {
  EXPECT_EQ(settle_offload(Offload::kAuto, at::kCPU, 23 * kGiB, 4 * kGiB), Offload::kModel);
}

TEST(OffloadAuto, WhatIsAskedForIsDone) {
  for (const Offload offload : {Offload::kNone, Offload::kModel, Offload::kBlock}) {
    EXPECT_EQ(settle_offload(offload, at::kCPU, 0, std::nullopt), offload);
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
