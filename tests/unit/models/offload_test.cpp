// What --offload auto chooses, and what it reckons with.
#include "models/offload.h"

#include <gtest/gtest.h>

#include "diffusion/mmdit.h"
#include "models/model_set.h"
#include "opensora/error.h"
#include "support/reference.h"

namespace opensora::models {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

const at::Device kGpu(at::kCUDA, 0);

// 24 GiB whole; 10 GiB with three blocks at once.
DeviceNeed some_need() {
  return {.weights = {.outside = 2 * kGiB, .blocks = std::vector<int64_t>(10, 2 * kGiB)}, .activations = 2 * kGiB};
}

TEST(OffloadAuto, StreamsBlocksWhereAModelDoesNotFit) {
  EXPECT_EQ(settle_offload(Offload::kAuto, kGpu, some_need(), 24 * kGiB), Offload::kModel);
  EXPECT_EQ(settle_offload(Offload::kAuto, kGpu, some_need(), 23 * kGiB), Offload::kBlock);
  EXPECT_EQ(settle_offload(Offload::kAuto, kGpu, some_need(), std::nullopt), Offload::kModel);
  EXPECT_EQ(some_need().with(Offload::kModel), 24 * kGiB);
  EXPECT_EQ(some_need().with(Offload::kBlock), 10 * kGiB);
}

TEST(OffloadAuto, LeavesWeightsInTheirFileOnTheCpu) {
  EXPECT_EQ(settle_offload(Offload::kAuto, at::kCPU, some_need(), 4 * kGiB), Offload::kModel);
}

TEST(OffloadAuto, WhatIsAskedForIsDone) {
  for (const Offload offload : {Offload::kNone, Offload::kModel, Offload::kBlock}) {
    EXPECT_EQ(settle_offload(offload, at::kCPU, {}, std::nullopt), offload);
    EXPECT_EQ(settle_offload(offload, kGpu, some_need(), kGiB), offload);
  }
  EXPECT_EQ(parse_offload("block"), Offload::kBlock);
  EXPECT_THROW(parse_offload("half"), UsageError);
}

TEST(OffloadAuto, LeavesAReserveAndKeepsToTheLimit) {
  EXPECT_EQ(room_in(24 * kGiB, 0), 24 * kGiB - kDeviceReserve);
  EXPECT_EQ(room_in(24 * kGiB, 8 * kGiB), 8 * kGiB);
  EXPECT_EQ(room_in(24 * kGiB, 8 * kGiB, /*allocated=*/3 * kGiB), 5 * kGiB);
  EXPECT_EQ(room_in(4 * kGiB, 8 * kGiB), 4 * kGiB - kDeviceReserve);  // what is there is less than the limit
  EXPECT_EQ(room_on(at::kCPU, kGiB), std::nullopt);
}

TEST(OffloadAuto, ReckonsWithTheLengthOfTheVideo) {
  const MMDiTConfig config;
  const auto growth = [&](at::ScalarType dtype) {
    return diffusion::forward_bytes(config, 40000, dtype, at::kCUDA) -
           diffusion::forward_bytes(config, 20000, dtype, at::kCUDA);
  };
  EXPECT_GT(growth(at::kBFloat16), 20000 * 6 * config.hidden_size * 2);  // x, normed, q, k, v, attention's output
  EXPECT_LT(growth(at::kBFloat16), 20000 * 8 * config.hidden_size * 2);
  EXPECT_GT(growth(at::kFloat), growth(at::kBFloat16) * 3 / 2);
}

// A limit to a GPU's memory says nothing of the host's pages.
TEST(BlockWeights, GiveTheFilesPagesBackOnTheCpuAlone) {
  EXPECT_TRUE(block_weights(Offload::kModel, at::kCPU, kGiB).gives_back_pages);
  EXPECT_FALSE(block_weights(Offload::kModel, at::kCPU, 0).gives_back_pages);
  EXPECT_FALSE(block_weights(Offload::kBlock, kGpu, kGiB).gives_back_pages);
  EXPECT_EQ(block_weights(Offload::kBlock, kGpu, 0).residence, Residence::kStreamed);
  EXPECT_EQ(block_weights(Offload::kNone, kGpu, 0).residence, Residence::kDevice);
}

ModelSet on_a_gpu(Offload offload, std::optional<int64_t> room) {
  return ModelSet({test::checkpoint_dir(), load_config(test::checkpoint_dir() / "tiny_t2i2v.json")},
                  {.source = Source::kHeaders,
                   .device = kGpu,
                   .dtype = at::kBFloat16,
                   .offload = offload,
                   .video_tokens = 1000,
                   .picture_tokens = 100,
                   .room = [room] { return room; }});
}

TEST(OffloadAuto, DecidesForEachModelOfBlocksByItself) {
  ModelSet ample = on_a_gpu(Offload::kAuto, 8 * kGiB), tight = on_a_gpu(Offload::kAuto, 1000),
           asked = on_a_gpu(Offload::kBlock, 8 * kGiB), whole = on_a_gpu(Offload::kModel, 1000);
  for (const Component component : {Component::kModel, Component::kImgFlux, Component::kT5}) {
    for (ModelSet* models : {&ample, &tight, &asked, &whole}) {
      models->bind(component);
      EXPECT_EQ(models->is_streamed(component), models == &tight || models == &asked) << component_name(component);
    }
  }
  tight.bind(Component::kClip);
  EXPECT_FALSE(tight.is_streamed(Component::kClip));
  tight.release(Component::kT5);
  EXPECT_FALSE(tight.is_streamed(Component::kT5));
}

// The picture is smaller than the video, whatever both transformers are.
TEST(OffloadAuto, ReckonsWithEachModelsOwnTokens) {
  ModelSet of_video = on_a_gpu(Offload::kModel, 8 * kGiB);
  SetOptions longer = of_video.options();
  longer.video_tokens *= 2;
  const ModelSet models(of_video.choice(), longer);
  EXPECT_GT(models.running_bytes(Component::kModel), of_video.running_bytes(Component::kModel));
  EXPECT_EQ(models.running_bytes(Component::kImgFlux), of_video.running_bytes(Component::kImgFlux));
}

TEST(OffloadAuto, LeavesRoomForWhatRunsBesideTheTransformer) {
  ModelSet alone = on_a_gpu(Offload::kModel, std::nullopt);
  SetOptions options = alone.options();
  options.offload = Offload::kAuto;
  options.room = [room = alone.running_bytes(Component::kModel)] { return room; };
  ModelSet models(alone.choice(), options);
  models.bind(Component::kModel);
  EXPECT_FALSE(models.is_streamed(Component::kModel));
  options.beside_bytes = 1;
  ModelSet beside(alone.choice(), options);
  beside.bind(Component::kModel);
  EXPECT_TRUE(beside.is_streamed(Component::kModel));
}

TEST(OffloadAuto, T5StaysMappedOnTheCpu) {
  for (const Offload offload : {Offload::kAuto, Offload::kBlock, Offload::kNone}) {
    ModelSet models({test::checkpoint_dir(), load_config(test::checkpoint_dir() / "tiny.json")}, {.offload = offload});
    models.bind(Component::kT5);
    EXPECT_FALSE(models.is_streamed(Component::kT5));
  }
}

}  // namespace
}  // namespace opensora::models
