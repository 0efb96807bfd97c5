// The full-size models without weights: names and shapes of every tensor against the published files, and a run of the
// whole transformer on the meta device at the published sizes with its FLOPs counted.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <string_view>

#include "autoencoder/autoencoder_2d.h"
#include "autoencoder/dc_ae.h"
#include "autoencoder/hunyuan_vae.h"
#include "core/meta_device.h"
#include "diffusion/mmdit.h"
#include "io/quantized_file.h"
#include "io/quantized_layout.h"
#include "opensora/config.h"
#include "sampling/size.h"
#include "support/reference.h"
#include "text/encoders.h"

namespace opensora {
namespace {

using Shapes = std::map<std::string, std::vector<int64_t>>;

Shapes manifest(const std::string& name) {
  return test::read_json(test::reference_dir() / "manifest" / (name + ".json"))["tensors"].get<Shapes>();
}

int64_t parameters(const Shapes& shapes) {
  int64_t count = 0;
  for (const auto& [name, shape] : shapes) count += c10::multiply_integers(shape);
  return count;
}

template <typename Model, typename ModelConfig, typename... Options>
Shapes requested_by(const ModelConfig& config, Options... options) {
  const auto source = std::make_shared<MetaSource>();
  const Model model(Weights(source, at::kMeta, at::kBFloat16), config, options...);
  Shapes shapes;
  for (const MetaSource::Entry& entry : source->requested()) {
    EXPECT_TRUE(shapes.emplace(entry.name, entry.shape).second) << entry.name << " is bound twice";
  }
  return shapes;
}

MMDiTConfig flux_config() {
  MMDiTConfig config;  // the defaults are FLUX's layout
  config.guidance_embed = true;
  return config;
}

MMDiTConfig open_sora_config() { return load_config(find_config("256px")).model; }

MMDiTConfig high_compression_config() {
  MMDiTConfig config = open_sora_config();
  config.in_channels = 128;
  config.patch_size = 1;
  return config;
}

TEST(FullSize, OpenSoraTransformer) {
  const Shapes shapes = requested_by<diffusion::MMDiT>(open_sora_config());
  EXPECT_EQ(shapes, manifest("Open_Sora_v2"));
  std::cout << "Open-Sora 2.0 transformer: " << parameters(shapes) << " parameters\n";
  EXPECT_NEAR(static_cast<double>(parameters(shapes)), 11.89e9, 0.01e9);
}
TEST(FullSize, HighCompressionTransformer) {
  EXPECT_EQ(requested_by<diffusion::MMDiT>(high_compression_config()), manifest("Open_Sora_v2_Video_DC_AE"));
}
TEST(FullSize, FluxTransformer) { EXPECT_EQ(requested_by<diffusion::MMDiT>(flux_config()), manifest("flux1-dev")); }
TEST(FullSize, ClipText) {
  EXPECT_EQ(requested_by<text::ClipEncoder>(text::ClipConfig{}), manifest("clip-vit-large-patch14-text"));
}
TEST(FullSize, T5Encoder) {
  Shapes expected = manifest("t5-v1_1-xxl-encoder");
  expected.erase("encoder.embed_tokens.weight");  // the same table as shared.weight
  EXPECT_EQ(requested_by<text::T5Encoder>(text::T5Config{}), expected);
}

// By the published shapes, against as many numbers in bf16. T5's embedding, which it has twice, stays.
TEST(FullSize, InEightBitsTransformersAndT5AreHalfOfBf16) {
  for (const char* name : {"Open_Sora_v2", "Open_Sora_v2_Video_DC_AE", "flux1-dev", "t5-v1_1-xxl-encoder"}) {
    for (const QuantizedFormat format : {QuantizedFormat::kInt8, QuantizedFormat::kFp8E4M3}) {
      int64_t bf16 = 0, in_8_bits = 0;
      for (const auto& [tensor, shape] : manifest(name)) {
        const MetaSource::Entry entry{tensor, shape};
        const auto quantization = io::quantization_of(entry, {.format = format, .rotates = true});
        bf16 += 2 * entry.elements();
        if (quantization && shape[1] >= 1024) EXPECT_EQ(quantization->rotation, 256) << tensor;
        const int64_t note = quantization ? static_cast<int64_t>(io::comfy_note(format, 256).size()) : 0;
        in_8_bits += quantization ? entry.elements() + 4 * shape[0] + note : 2 * entry.elements();
      }
      const double ratio = static_cast<double>(in_8_bits) / static_cast<double>(bf16);
      std::cout << name << " in " << format_name(format) << ": " << in_8_bits << " bytes, " << ratio << " of bf16\n";
      EXPECT_LE(ratio, std::string_view(name).starts_with("t5") ? 0.53 : 0.52) << name;
    }
  }
}

// Asked for one half, an autoencoder binds the tensors of that half alone; of both, all of them.
template <typename Model, typename ModelConfig>
void expect_autoencoder(const std::string& name, const ModelConfig& config,
                        const std::string& encoder_outside = "encoder.") {
  using autoencoder::Half;
  const auto is_encoder = [&](const auto& entry) {
    return entry.first.starts_with("encoder.") || entry.first.starts_with(encoder_outside);
  };
  const Shapes all = manifest(name);
  Shapes encoder = all, decoder = all;
  std::erase_if(encoder, std::not_fn(is_encoder));
  std::erase_if(decoder, is_encoder);
  EXPECT_EQ((requested_by<Model>(config, Half::kBoth)), all);
  EXPECT_EQ((requested_by<Model>(config, Half::kEncoder)), encoder);
  EXPECT_EQ((requested_by<Model>(config, Half::kDecoder)), decoder);
}

TEST(FullSize, HunyuanVAE) {
  expect_autoencoder<autoencoder::HunyuanVAE>(
      "hunyuan_vae", std::get<HunyuanVAEConfig>(load_config(find_config("256px")).ae), "quant_conv.");
}
TEST(FullSize, DCAE) { expect_autoencoder<autoencoder::DCAE>("F32T4C128_AE", DCAEConfig{}); }
TEST(FullSize, Autoencoder2D) { expect_autoencoder<autoencoder::Autoencoder2D>("flux1-dev-ae", Autoencoder2DConfig{}); }

FlopCount forward_on_meta(const Config& config) {
  const auto [width, height] = sampling::image_size(*config.sampling.resolution, *config.sampling.aspect_ratio, 16);
  const int64_t frames = sampling::latent_frames(config.sampling.num_frames, config.sampling.temporal_reduction);
  const int64_t tokens = frames * (height / 16) * (width / 16), text = config.t5.max_length;
  const MMDiTConfig& m = config.model;
  MetaDevice meta_device(at::kCUDA);
  const diffusion::MMDiT model(Weights(std::make_shared<MetaSource>(), at::kMeta, at::kBFloat16), m);
  const auto meta = at::TensorOptions().device(at::kMeta).dtype(at::kFloat);
  const diffusion::MMDiTInput input{.img = at::empty({1, tokens, m.in_channels}, meta),
                                    .txt = at::empty({1, text, m.context_in_dim}, meta),
                                    .y_vec = at::empty({1, m.vec_in_dim}, meta),
                                    .timesteps = at::empty({1}, meta),
                                    .cond = at::empty({1, tokens, m.in_channels + 4}, meta),
                                    .guidance = {}};
  const diffusion::RotaryEmbedding pe = diffusion::rotary_embedding(at::empty({tokens + text, 3}, meta), m);

  const at::Tensor out = model.forward(input, pe);
  EXPECT_EQ(out.sizes(), (std::vector<int64_t>{1, tokens, m.in_channels}));
  return meta_device.flops();
}

class FullSizeForward : public ::testing::TestWithParam<std::pair<const char*, int64_t>> {};

TEST_P(FullSizeForward, RunsOnTheMetaDevice) {
  const auto [name, image_tokens] = GetParam();
  const FlopCount flops = forward_on_meta(load_config(find_config(name)));
  const double n = static_cast<double>(image_tokens) + 512;
  const double linear = 12.0 * 3072 * 3072 * 57 * 2 * n, attention = 4.0 * n * n * 3072 * 57;
  std::cout << name << ": " << image_tokens << " image tokens, " << flops.total() / 1e15 << " PFLOP a forward, "
            << 100 * flops.attention / flops.total() << " % of it attention\n";
  EXPECT_DOUBLE_EQ(flops.attention, attention);
  EXPECT_NEAR(flops.linear / linear, 1.0, 0.002);  // the formula leaves out embeddings, modulation and the last layer
}

INSTANTIATE_TEST_SUITE_P(Configurations, FullSizeForward,
                         ::testing::Values(std::pair<const char*, int64_t>("256px", 8316),
                                           std::pair<const char*, int64_t>("768px", 76032),
                                           std::pair<const char*, int64_t>("720p", 118800)),
                         [](const auto& info) { return "Config" + std::string(info.param.first); });

}  // namespace
}  // namespace opensora
