// The transformer against the official one: every intermediate value, both layouts of weights and of RoPE.
#include "diffusion/mmdit.h"

#include <gtest/gtest.h>

#include <limits>

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

void expect_golden(const std::string& name, const std::string& file, const MMDiTConfig& config,
                   const diffusion::MlpLayout& layout) {
  const Case reference(name);
  MMDiT model(test::reference_weights(file), config);
  const MMDiTInput input{.img = reference["in.img"],
                         .txt = reference["in.txt"],
                         .y_vec = reference["in.y_vec"],
                         .timesteps = reference["in.timesteps"],
                         .cond = config.cond_embed ? reference["in.cond"] : at::Tensor(),
                         .guidance = config.guidance_embed ? reference["in.guidance"] : at::Tensor()};
  const at::Tensor ids = at::cat({reference["in.txt_ids"][0], reference["in.img_ids"][0]});
  const diffusion::RotaryEmbedding pe = diffusion::rotary_embedding(ids, config);
  model.layout = layout;

  const at::Tensor vec = model.embed_vector(input);
  const at::Tensor txt = model.embed_text(input.txt);
  EXPECT_TRUE(close(vec, reference["mid.vec"]));
  EXPECT_TRUE(close(txt, reference["mid.txt_in"]));

  const int64_t text_length = txt.size(1), length = text_length + input.img.size(1);
  const diffusion::Workspace work = model.workspace(txt.size(0), length, at::kCPU);
  const at::Tensor text = work.x.slice(1, 0, text_length), image = work.x.slice(1, text_length);
  text.copy_(txt);
  model.embed_image(image, input.img, input.cond, work.normed.slice(1, text_length));
  EXPECT_TRUE(close(image, reference["mid.img_in"]));  // with the condition, where there is one

  const diffusion::Modulations mods = model.modulations(vec);
  for (size_t i = 0; i < model.double_blocks.size(); ++i) {
    model.double_blocks[i](work, text_length, mods.double_blocks[i], pe);
    const std::string key = "mid.double." + std::to_string(i);
    EXPECT_TRUE(close(image, reference[key + ".img"])) << key;
    EXPECT_TRUE(close(text, reference[key + ".txt"])) << key;
  }
  for (size_t i = 0; i < model.single_blocks.size(); ++i) {
    model.single_blocks[i](work, mods.single_blocks[i], pe);
    EXPECT_TRUE(close(work.x, reference["mid.single." + std::to_string(i)])) << "single block " << i;
  }
  EXPECT_TRUE(close(model.forward(input, pe), reference["out"]));
}

void expect_golden(const std::string& name, const std::string& file, const MMDiTConfig& config) {
  expect_golden(name, file, config, diffusion::kCpuLayout);
  expect_golden(name, file, config, diffusion::kAcceleratorLayout);
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
  const at::Tensor img = reference["in.img"], zeros = at::zeros_like(reference["in.cond"]);
  const auto embedded = [&](const at::Tensor& cond) {
    const at::Tensor out = at::empty({img.size(0), img.size(1), model.config.hidden_size});
    model.embed_image(out, img, cond, at::empty_like(out));
    return out;
  };
  EXPECT_TRUE(close(embedded({}), embedded(zeros), 1e-6, 1e-6));
}

// The MLP's tokens in several parts, of unequal length: more of them than the reference has.
TEST(MMDiTGolden, ManyTokensGiveWhatFewGive) {
  const MMDiTConfig config = tiny_config();
  MMDiT model(test::reference_weights("Open_Sora_v2.safetensors"), config);
  for (const diffusion::MlpLayout& layout : {diffusion::kCpuLayout, diffusion::kAcceleratorLayout}) {
    model.layout = layout;
    const int64_t image = 2 * layout.tokens + 1, text = 7;
    const diffusion::Workspace work = model.workspace(1, text + image, at::kCPU);
    const at::Tensor tokens = at::randn_like(work.x);
    const auto mlp = [&](const at::Tensor& x) {
      at::Tensor result = x.clone();
      model.double_blocks[0].img.mlp(result, work);
      return result;
    };
    const at::Tensor all = mlp(tokens.slice(1, text));
    for (const int64_t first : {int64_t{0}, layout.tokens - 2, 2 * layout.tokens - 4}) {
      EXPECT_TRUE(close(all.narrow(1, first, 5), mlp(tokens.narrow(1, text + first, 5)), 1e-5, 1e-5)) << first;
    }
  }
}

TEST(MlpLayout, PartsAreMultiplesAndNotTooLong) {
  for (const diffusion::MlpLayout& layout : {diffusion::kCpuLayout, diffusion::kAcceleratorLayout}) {
    for (const int64_t tokens : {0, 1, 127, 2048, 2049, 8828, 16384, 16385, 19520, 76544, 119312}) {
      int64_t end = 0, parts = 0;
      diffusion::for_token_chunks(tokens, layout, [&](int64_t first, int64_t length) {
        EXPECT_EQ(first, end);
        EXPECT_EQ(first % layout.multiple, 0);
        EXPECT_LE(length, layout.tokens);
        EXPECT_GT(length, 0);
        end = first + length;
        ++parts;
      });
      EXPECT_EQ(end, tokens);
      EXPECT_EQ(parts, (tokens + layout.tokens - 1) / layout.tokens);
    }
  }
}

// A forward leaves nothing behind in what it works in.
TEST(MMDiTGolden, AWorkspaceServesManyForwards) {
  const Case reference("mmdit");
  const MMDiT model(test::reference_weights("Open_Sora_v2.safetensors"), tiny_config());
  const at::Tensor txt = model.embed_text(reference["in.txt"]);
  const MMDiTInput input{.img = {},
                         .txt = {},
                         .y_vec = reference["in.y_vec"],
                         .timesteps = reference["in.timesteps"],
                         .cond = {},
                         .guidance = {}};
  const diffusion::Modulations mods = model.modulations(model.embed_vector(input));
  const at::Tensor ids = at::cat({reference["in.txt_ids"][0], reference["in.img_ids"][0]});
  const diffusion::RotaryEmbedding pe = diffusion::rotary_embedding(ids, model.config);
  const diffusion::Workspace work = model.workspace(txt.size(0), ids.size(0), at::kCPU);
  for (const at::Tensor& buffer : {work.x, work.normed, work.qkv, work.hidden}) {
    buffer.fill_(std::numeric_limits<float>::quiet_NaN());
  }
  const diffusion::MMDiTStep step{
      .img = reference["in.img"], .txt = txt, .cond = reference["in.cond"], .modulations = mods};
  const at::Tensor first = model.forward(step, pe, work);
  EXPECT_TRUE(close(first, reference["out"]));
  EXPECT_TRUE(at::equal(model.forward(step, pe, work), first));
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

// They are used once a video: a device never holds more than one layer of them.
TEST(MMDiTBinding, ModulationWeightsStayOnTheHost) {
  const Weights weights(io::Checkpoint::open(test::checkpoint_dir() / "Open_Sora_v2.safetensors"), at::kMeta,
                        at::kFloat);
  const MMDiT model(weights, tiny_config());
  EXPECT_TRUE(model.single_blocks[0].linear2.weight.is_meta());
  EXPECT_TRUE(model.time_in.in_layer.weight.is_cpu());
  EXPECT_TRUE(model.modulation_layers.double_blocks[1].txt.weight.is_cpu());
  EXPECT_TRUE(model.modulation_layers.final_layer.bias.is_cpu());
  const diffusion::Modulations mods = model.modulations(at::empty({3, 64}, at::TensorOptions().device(at::kMeta)));
  EXPECT_TRUE(mods.single_blocks[2].is_meta());
  EXPECT_EQ(mods.rows(1, 2).single_blocks[2].sizes(), (std::vector<int64_t>{2, 3 * 64}));
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
