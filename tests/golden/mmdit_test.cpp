// The transformer against the official one: every intermediate value, both layouts of weights and of RoPE.
#include "diffusion/mmdit.h"

#include <gtest/gtest.h>

#include "opensora/config.h"
#include "opensora/error.h"
#include "support/reference.h"

namespace opensora {
namespace {

using diffusion::MMDiT;
using diffusion::MMDiTInput;
using test::Case;
using test::close;

MMDiTConfig tiny_config() { return load_config(test::checkpoint_dir() / "tiny.json").model; }

MMDiTConfig flux_config() {
  MMDiTConfig config = tiny_config();
  config.depth = 1;
  config.depth_single_blocks = 2;
  config.guidance_embed = true;
  config.cond_embed = false;
  config.fused_qkv = true;
  config.use_liger_rope = false;
  return config;
}

MMDiTConfig dc_ae_config() {
  MMDiTConfig config = tiny_config();
  config.in_channels = 128;
  config.patch_size = 1;
  return config;
}

void expect_golden(const std::string& name, const std::string& file, const MMDiTConfig& config) {
  const Case reference(name);
  const MMDiT model(test::reference_weights(file), config);
  const MMDiTInput input{.img = reference["in.img"],
                         .txt = reference["in.txt"],
                         .y_vec = reference["in.y_vec"],
                         .timesteps = reference["in.timesteps"],
                         .cond = config.cond_embed ? reference["in.cond"] : at::Tensor(),
                         .guidance = config.guidance_embed ? reference["in.guidance"] : at::Tensor()};
  const at::Tensor ids = at::cat({reference["in.txt_ids"][0], reference["in.img_ids"][0]});
  const diffusion::RotaryEmbedding pe = diffusion::rotary_embedding(ids, config);

  const at::Tensor vec = model.embed_vector(input);
  at::Tensor img = model.embed_image(input);
  at::Tensor txt = model.txt_in(input.txt);
  EXPECT_TRUE(close(vec, reference["mid.vec"]));
  EXPECT_TRUE(close(img, reference["mid.img_in"]));  // with the condition, where there is one
  EXPECT_TRUE(close(txt, reference["mid.txt_in"]));
  for (size_t i = 0; i < model.double_blocks.size(); ++i) {
    std::tie(img, txt) = model.double_blocks[i](img, txt, vec, pe);
    const std::string key = "mid.double." + std::to_string(i);
    EXPECT_TRUE(close(img, reference[key + ".img"])) << key;
    EXPECT_TRUE(close(txt, reference[key + ".txt"])) << key;
  }
  at::Tensor x = at::cat({txt, img}, 1);
  for (size_t i = 0; i < model.single_blocks.size(); ++i) {
    x = model.single_blocks[i](x, vec, pe);
    EXPECT_TRUE(close(x, reference["mid.single." + std::to_string(i)])) << "single block " << i;
  }
  EXPECT_TRUE(close(model.forward(input, pe), reference["out"]));
}

TEST(MMDiTGolden, OpenSora) { expect_golden("mmdit", "Open_Sora_v2.safetensors", tiny_config()); }
TEST(MMDiTGolden, OpenSoraHighCompression) {
  expect_golden("mmdit_dc_ae", "Open_Sora_v2_Video_DC_AE.safetensors", dc_ae_config());
}
TEST(MMDiTGolden, Flux) { expect_golden("flux", "flux1-dev.safetensors", flux_config()); }

TEST(MMDiTGolden, TimestepEmbedding) {
  const Case reference("timestep_embedding");
  const at::Tensor actual = diffusion::timestep_embedding(reference["t"], 256);
  const int64_t within = 5;  // rows of times in [0, 1]; the last, 7.5, is a guidance scale
  EXPECT_TRUE(close(actual.slice(0, 0, within), reference["out"].slice(0, 0, within)));
  // Its angles reach 7,500 radians, where one unit in the last place of float32 is 5e-4: processors' exp() differ by
  // it.
  EXPECT_TRUE(close(actual.slice(0, within), reference["out"].slice(0, within), 1e-3));
}

TEST(MMDiTGolden, AnUndefinedConditionIsAZeroCondition) {
  const Case reference("mmdit");
  const MMDiT model(test::reference_weights("Open_Sora_v2.safetensors"), tiny_config());
  MMDiTInput input{.img = reference["in.img"],
                   .txt = reference["in.txt"],
                   .y_vec = reference["in.y_vec"],
                   .timesteps = reference["in.timesteps"],
                   .cond = at::zeros_like(reference["in.cond"]),
                   .guidance = {}};
  const at::Tensor with_zeros = model.embed_image(input);
  input.cond = at::Tensor();
  EXPECT_TRUE(close(model.embed_image(input), with_zeros, 1e-6, 1e-6));
}

TEST(MMDiTGolden, HalfPrecisionStaysNear) {
  const Case reference("mmdit");
  const MMDiTInput input{.img = reference["in.img"],
                         .txt = reference["in.txt"],
                         .y_vec = reference["in.y_vec"],
                         .timesteps = reference["in.timesteps"],
                         .cond = reference["in.cond"],
                         .guidance = {}};
  const at::Tensor ids = at::cat({reference["in.txt_ids"][0], reference["in.img_ids"][0]});
  const diffusion::RotaryEmbedding pe = diffusion::rotary_embedding(ids, tiny_config());
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    const MMDiT model(test::reference_weights("Open_Sora_v2.safetensors", dtype), tiny_config());
    const at::Tensor out = model.forward(input, pe);
    EXPECT_EQ(out.scalar_type(), dtype);
    const at::Tensor error = (out.to(at::kFloat) - reference["out"]).norm() / reference["out"].norm();
    EXPECT_LT(error.item<float>(), dtype == at::kHalf ? 0.01 : 0.05);
  }
}

TEST(MMDiTBinding, OneErrorListsAllThatIsWrong) {
  MMDiTConfig config = tiny_config();
  config.in_channels = 32;         // img_in, cond_in and the last layer have another shape
  config.depth_single_blocks = 4;  // block 3 is missing
  try {
    const MMDiT model(test::reference_weights("Open_Sora_v2.safetensors"), config);
    FAIL() << "a mismatching checkpoint was accepted";
  } catch (const CheckpointError& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("Open_Sora_v2.safetensors"), std::string::npos);
    EXPECT_NE(what.find("img_in.weight: shape [64, 64], expected [64, 32]"), std::string::npos) << what;
    EXPECT_NE(what.find("single_blocks.3.linear2.weight: missing"), std::string::npos) << what;
  }
}

}  // namespace
}  // namespace opensora
