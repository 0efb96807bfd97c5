// What the autoencoders share: recognition, the common interface, padding, the posterior.
#include "autoencoder/autoencoder.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "io/checkpoint.h"
#include "io/inspect.h"
#include "io/safetensors.h"
#include "opensora/error.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using autoencoder::Autoencoder;
using autoencoder::AutoencoderConfig;
using autoencoder::Half;

std::string kind_of(const fs::path& file) { return io::recognise(*io::Checkpoint::open(file)).name; }

TEST(AutoencoderKindTest, RecognisedByTensorNames) {
  const auto kind_of_tiny = [](const char* file) { return kind_of(test::checkpoint_dir() / file); };
  EXPECT_EQ(kind_of_tiny("hunyuan_vae.safetensors"), "HunyuanVAE");
  EXPECT_EQ(kind_of_tiny("F32T4C128_AE.safetensors"), "DC-AE");
  EXPECT_EQ(kind_of_tiny("flux1-dev-ae.safetensors"), "FLUX autoencoder");
  EXPECT_EQ(kind_of_tiny("Open_Sora_v2.safetensors"), "Open-Sora transformer");
  EXPECT_EQ(kind_of_tiny("openai/clip-vit-large-patch14"), "CLIP text encoder");
}

TEST(AutoencoderKindTest, EitherHalfTells) {
  const test::TemporaryFolder folder;
  for (const auto& [name, kind] : std::map<std::string, std::string>{
           {"hunyuan_vae", "HunyuanVAE"}, {"F32T4C128_AE", "DC-AE"}, {"flux1-dev-ae", "FLUX autoencoder"}}) {
    const auto whole = io::Checkpoint::open(test::checkpoint_dir() / (name + ".safetensors"));
    for (const char* half : {"encoder.", "decoder."}) {
      std::vector<std::pair<std::string, at::Tensor>> tensors;
      for (const std::string& tensor : whole->all_names()) {
        if (tensor.starts_with(half)) tensors.emplace_back(tensor, *whole->find(tensor, {}));
      }
      const fs::path file = folder.path() / (half + name + ".safetensors");
      io::save_safetensors(file, tensors);
      EXPECT_EQ(kind_of(file), kind) << name << " " << half;
    }
  }
}

struct Tiny {
  const char* file;
  AutoencoderConfig config;
};

std::vector<Tiny> tiny_models() {
  HunyuanVAEConfig hunyuan;
  hunyuan.block_out_channels = {32, 32, 64, 64};
  DCAEConfig dc_ae;
  dc_ae.width_list = {32, 32, 64, 64, 128, 128};
  dc_ae.encoder_depths = dc_ae.decoder_depths = {1, 1, 1, 1, 1, 1};
  Autoencoder2DConfig image;
  image.ch = 32;
  image.ch_mult = {1, 1, 2, 2};
  image.num_res_blocks = 1;
  return {
      {"hunyuan_vae.safetensors", hunyuan}, {"F32T4C128_AE.safetensors", dc_ae}, {"flux1-dev-ae.safetensors", image}};
}

TEST(AutoencoderInterface, AnySizeGoesThroughOncePadded) {
  for (const Tiny& tiny : tiny_models()) {
    const std::unique_ptr<Autoencoder> ae =
        make_autoencoder(test::reference_weights(tiny.file), tiny.config, Half::kBoth);
    const at::Tensor frames = at::rand({1, 3, 3, 37, 50}) * 2 - 1;
    const at::Tensor padded = pad_frames(*ae, frames);
    EXPECT_TRUE(at::equal(padded.slice(2, 0, 3).slice(3, 0, 37).slice(4, 0, 50), frames)) << tiny.file;
    EXPECT_TRUE(
        at::equal(padded.slice(2, -1).slice(3, -1).slice(4, -1), frames.slice(2, -1).slice(3, -1).slice(4, -1)));
    const at::Tensor latent = ae->encode(padded);
    EXPECT_EQ(latent.size(2), ae->latent_frames(3)) << tiny.file;
    EXPECT_EQ(ae->decode(latent).sizes(), padded.sizes()) << tiny.file;
  }
}

TEST(AutoencoderInterface, WrongWidthsAreNamed) {
  for (const Tiny& tiny : tiny_models()) {
    const AutoencoderConfig published =
        std::visit([](auto config) { return AutoencoderConfig(decltype(config){}); }, tiny.config);
    EXPECT_THROW(make_autoencoder(test::reference_weights(tiny.file), published, Half::kBoth), CheckpointError);
  }
}

TEST(Posterior, LogVarianceIsClamped) {
  const at::Tensor mean = at::zeros({1, 1, 1, 1, 2});
  const at::Tensor log_variance = at::tensor({-100.0f, 100.0f}).reshape({1, 1, 1, 1, 2});
  const at::Tensor moments = at::cat({mean, log_variance}, 1);
  EXPECT_TRUE(at::equal(autoencoder::latent_of_moments(moments, std::nullopt), mean));
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(3);
  const at::Tensor noise = at::randn({1, 1, 1, 1, 2}, generator, at::TensorOptions());
  generator.set_current_seed(3);
  const at::Tensor std = at::tensor({std::exp(-15.0f), std::exp(10.0f)}).reshape({1, 1, 1, 1, 2});
  EXPECT_TRUE(at::allclose(autoencoder::latent_of_moments(moments, generator), std * noise, 1e-5, 0.0));
}

}  // namespace
}  // namespace opensora
