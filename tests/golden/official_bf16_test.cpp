// bfloat16 against the official code in bfloat16: what scripts/official_bf16_cases.py wrote, of the inputs of the
// float32 cases.
//
// What bfloat16 itself does is the distance of the official result in bfloat16 from the official one in float32, here
// its *spread*, relative to the norm. Ours is as near to float32, within a tenth; and it is as near to the official
// result in bfloat16 as another run with roundings of that size, but independent of them, would be: sqrt(2) times the
// spread. That holds whether this CPU computes in bfloat16 or in float32 (core/cpu_features.h).
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "autoencoder/autoencoder_2d.h"
#include "autoencoder/dc_ae.h"
#include "autoencoder/hunyuan_vae.h"
#include "diffusion/mmdit.h"
#include "opensora/config.h"
#include "opensora/generate.h"
#include "sampling/sampler.h"
#include "support/pipeline_case.h"
#include "support/reference.h"
#include "support/temporary_folder.h"
#include "text/encoders.h"

namespace opensora {
namespace {

using autoencoder::Half;
using sampling::TimestepRounding;
using test::Case;
using test::checkpoint_dir;
using test::relative_error;

constexpr at::ScalarType kDtype = at::kBFloat16;
const double kIndependent = std::sqrt(2.0);

const Case& official() {
  static const Case tensors("official_bf16");
  return tensors;
}

struct TransformerCase {
  const char *name, *weights, *config;
  bool is_flux = false;
};

MMDiTConfig config_of(const TransformerCase& of) {
  const Config config = load_config(checkpoint_dir() / of.config);
  return of.is_flux ? config.text_to_image->model : config.model;
}

at::Tensor forward(const TransformerCase& of, TimestepRounding rounding) {
  const Case reference(of.name);
  const diffusion::MMDiT model(test::reference_weights(of.weights, kDtype), config_of(of));
  const auto times = [&](const char* key) { return sampling::rounded_times(reference[key], rounding, kDtype); };
  const at::Tensor ids = at::cat({reference["in.txt_ids"][0], reference["in.img_ids"][0]});
  return model.forward({.img = reference["in.img"],
                        .txt = reference["in.txt"],
                        .y_vec = reference["in.y_vec"],
                        .timesteps = times("in.timesteps"),
                        .cond = model.config.cond_embed ? reference["in.cond"] : at::Tensor(),
                        .guidance = model.config.guidance_embed ? times("in.guidance") : at::Tensor()},
                       diffusion::rotary_embedding(ids, model.config));
}

class OfficialTransformer : public ::testing::TestWithParam<TransformerCase> {
 protected:
  at::Tensor tensor(const char* part) const { return official()[std::string(GetParam().name) + part]; }
  double spread() const { return relative_error(tensor(".out"), tensor(".exact")); }
};

TEST_P(OfficialTransformer, ErrsAtLeastAsMuch) {
  const at::Tensor ours = forward(GetParam(), TimestepRounding::kNone);
  EXPECT_LE(relative_error(ours, Case(GetParam().name)["out"]), 1.1 * spread());
}

TEST_P(OfficialTransformer, IsMatched) {
  const at::Tensor expected = tensor(".out");
  EXPECT_LE(relative_error(forward(GetParam(), TimestepRounding::kOfficial), expected), kIndependent * spread());
  for (const TimestepRounding other : {TimestepRounding::kNone, TimestepRounding::kEager}) {
    EXPECT_GT(relative_error(forward(GetParam(), other), expected), 5 * spread());
  }
}

INSTANTIATE_TEST_SUITE_P(Bf16, OfficialTransformer,
                         ::testing::Values(TransformerCase{"mmdit", "Open_Sora_v2.safetensors", "tiny.json"},
                                           TransformerCase{"mmdit_dc_ae", "Open_Sora_v2_Video_DC_AE.safetensors",
                                                           "tiny_high_compression.json"},
                                           TransformerCase{"flux", "flux1-dev.safetensors", "tiny_t2i2v.json", true}),
                         [](const auto& info) { return std::string(info.param.name); });

// `exact` is the official result in float32.
void expect_as_good(const at::Tensor& ours, const at::Tensor& exact, const std::string& key) {
  SCOPED_TRACE(key);
  const double spread = relative_error(official()[key], exact);
  EXPECT_LE(relative_error(ours, exact), 1.1 * spread);
  EXPECT_LE(relative_error(ours, official()[key]), kIndependent * spread);
}

void expect_as_good(const autoencoder::Autoencoder& ours, const std::string& name) {
  const Case reference(name);
  expect_as_good(ours.encode(reference["in.x"]), reference["z"], name + ".z");
  expect_as_good(ours.decode(reference["z"]), reference["out"], name + ".out");
}

TEST(OfficialBf16, Clip) {
  const Case reference("clip");
  const char* const folder = "openai/clip-vit-large-patch14";
  const text::ClipEncoder encoder(test::reference_weights(folder, kDtype),
                                  text::load_clip_config(checkpoint_dir() / folder));
  expect_as_good(encoder.forward(reference.raw("ids")).last_hidden_state, reference["last_hidden_state"], "clip.out");
}

TEST(OfficialBf16, T5) {
  const Case reference("t5");
  const char* const folder = "google/t5-v1_1-xxl";
  const text::T5Encoder encoder(test::reference_weights(folder, kDtype),
                                text::load_t5_config(checkpoint_dir() / folder));
  expect_as_good(encoder.forward(reference.raw("ids")), reference["out"], "t5.out");
}

TEST(OfficialBf16, HunyuanVAE) {
  auto config = std::get<HunyuanVAEConfig>(load_config(checkpoint_dir() / "tiny.json").ae);
  config.use_spatial_tiling = config.use_temporal_tiling = false;
  const autoencoder::HunyuanVAE vae(test::reference_weights("hunyuan_vae.safetensors", kDtype), config, Half::kBoth);
  for (const char* name : {"hunyuan_vae_image", "hunyuan_vae_untiled"}) expect_as_good(vae, name);
}

TEST(OfficialBf16, DCAE) {
  auto config = std::get<DCAEConfig>(load_config(checkpoint_dir() / "tiny_high_compression.json").ae);
  config.use_spatial_tiling = config.use_temporal_tiling = false;
  const autoencoder::DCAE ae(test::reference_weights("F32T4C128_AE.safetensors", kDtype), config, Half::kBoth);
  for (const char* name : {"dc_ae_image", "dc_ae_untiled"}) expect_as_good(ae, name);
}

TEST(OfficialBf16, FluxAutoencoder) {
  const Config config = load_config(checkpoint_dir() / "tiny_t2i2v.json");
  const autoencoder::Autoencoder2D ae(test::reference_weights("flux1-dev-ae.safetensors", kDtype),
                                      config.text_to_image->ae, Half::kBoth);
  expect_as_good(ae, "flux_ae");
}

// The whole run with what --match official sets.
TEST(OfficialBf16, Pipeline) {
  const std::string name = "pipeline_t2v";
  const auto run = [&](const std::string& rng, const std::string& rounding) {
    const test::TemporaryFolder folder;
    GenerateRequest request = test::pipeline_request(name, folder.path());
    request.dtype = "bf16";
    request.rng = rng;
    request.timestep_rounding = rounding;
    generate(request);
    const io::SafetensorsFile saved(folder.path() / "tensors.safetensors");
    return std::pair(saved.tensor("latent").clone(), saved.tensor("video").clone());
  };
  const at::Tensor exact = official()[name + ".exact"], latent = official()[name + ".latent"];
  const autoencoder::HunyuanVAE vae(test::reference_weights("hunyuan_vae.safetensors"),
                                    std::get<HunyuanVAEConfig>(load_config(checkpoint_dir() / "tiny.json").ae));
  const auto [our_latent, our_video] = run("cuda", "official");
  expect_as_good(our_latent, exact, name + ".latent");
  expect_as_good(our_video, vae.decode(exact), name + ".video");

  const double spread = relative_error(latent, exact);
  EXPECT_GT(relative_error(run("cuda", "none").first, latent), 2 * spread);
  EXPECT_GT(relative_error(run("cpu", "official").first, latent), 20 * spread);
}

}  // namespace
}  // namespace opensora
