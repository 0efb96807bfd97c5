// What the autoencoders share: recognition, the common interface, padding, the posterior.
#include "autoencoder/autoencoder.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "opensora/error.h"
#include "support/reference.h"

namespace opensora {
namespace {

using autoencoder::Autoencoder;
using autoencoder::autoencoder_kind;
using autoencoder::AutoencoderConfig;
using autoencoder::AutoencoderKind;
using autoencoder::Half;

std::optional<AutoencoderKind> kind_of_file(const std::string& file) {
  return autoencoder_kind(io::Checkpoint::open(test::checkpoint_dir() / file)->names());
}

TEST(AutoencoderKindTest, RecognisedByTensorNames) {
  EXPECT_EQ(kind_of_file("hunyuan_vae.safetensors"), AutoencoderKind::kHunyuanVAE);
  EXPECT_EQ(kind_of_file("F32T4C128_AE.safetensors"), AutoencoderKind::kDCAE);
  EXPECT_EQ(kind_of_file("flux1-dev-ae.safetensors"), AutoencoderKind::kAutoencoder2D);
  EXPECT_EQ(kind_of_file("Open_Sora_v2.safetensors"), std::nullopt);
  EXPECT_EQ(kind_of_file("openai/clip-vit-large-patch14"), std::nullopt);
  EXPECT_EQ(autoencoder_kind_name(AutoencoderKind::kDCAE), "dc_ae");
}

TEST(AutoencoderKindTest, EitherHalfTells) {
  for (const auto& [name, kind] :
       std::map<std::string, AutoencoderKind>{{"hunyuan_vae", AutoencoderKind::kHunyuanVAE},
                                              {"F32T4C128_AE", AutoencoderKind::kDCAE},
                                              {"flux1-dev-ae", AutoencoderKind::kAutoencoder2D}}) {
    const nlohmann::json manifest = test::read_json(test::reference_dir() / "manifest" / (name + ".json"));
    std::vector<std::string> encoder, decoder;
    for (const auto& [tensor, shape] : manifest["tensors"].items()) {
      (tensor.starts_with("encoder.") ? encoder : decoder).push_back(tensor);
    }
    EXPECT_EQ(autoencoder_kind(encoder), kind) << name;
    EXPECT_EQ(autoencoder_kind(decoder), kind) << name;
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
