// Models from the files in 8 bits and fewer that people have: each gives bit for bit what the weights give that its
// file stands for.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "diffusion/mmdit.h"
#include "io/checkpoint.h"
#include "opensora/config.h"
#include "support/gguf_writer.h"
#include "support/quantized_files.h"
#include "support/reference.h"
#include "support/temporary_folder.h"
#include "text/encoders.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using diffusion::MMDiT;
using diffusion::MMDiTInput;
using test::all_weights;
using test::Case;
using test::NamedTensors;

// Tensors in memory.
class Tensors final : public WeightSource {
 public:
  explicit Tensors(const NamedTensors& tensors) : tensors_(tensors.begin(), tensors.end()) {}
  std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef) const override {
    return contains(name) ? std::optional(tensors_.at(name)) : std::nullopt;
  }
  bool contains(const std::string& name) const override { return tensors_.contains(name); }
  std::vector<std::string> names() const override { return {}; }
  std::string description() const override { return "memory"; }

 private:
  std::map<std::string, at::Tensor> tensors_;
};

MMDiTConfig open_sora() { return load_config(test::checkpoint_dir() / "tiny.json").model; }

MMDiTConfig flux() { return load_config(test::checkpoint_dir() / "tiny_t2i2v.json").text_to_image->model; }

at::Tensor forward(std::shared_ptr<const WeightSource> source, const MMDiTConfig& config) {
  const Case reference(config.guidance_embed ? "flux" : "mmdit");
  const MMDiT model(Weights(std::move(source), at::kCPU, at::kFloat, {.exact_products = true}), config);
  const MMDiTInput input{.img = reference["in.img"],
                         .txt = reference["in.txt"],
                         .y_vec = reference["in.y_vec"],
                         .timesteps = reference["in.timesteps"],
                         .cond = config.cond_embed ? reference["in.cond"] : at::Tensor(),
                         .guidance = config.guidance_embed ? reference["in.guidance"] : at::Tensor()};
  const at::Tensor ids = at::cat({reference["in.txt_ids"][0], reference["in.img_ids"][0]});
  return model.forward(input, diffusion::rotary_embedding(ids, config));
}

class QuantizedModels : public testing::Test {
 protected:
  void expect_same(const NamedTensors& numbers, const MMDiTConfig& config, const std::string& what) const {
    const at::Tensor expected = forward(std::make_shared<Tensors>(numbers), config);
    EXPECT_TRUE(forward(io::Checkpoint::open(file_), config).equal(expected)) << what;
    EXPECT_TRUE(at::isfinite(expected).all().item<bool>()) << what;
  }
  test::TemporaryFolder folder_;
  const fs::path file_ = folder_.path() / "model";
};

TEST_F(QuantizedModels, TheTransformerInEachLayoutOfEightBits) {
  const NamedTensors tensors = all_weights(test::checkpoint_dir() / "Open_Sora_v2.safetensors");
  for (const test::FileLayout& layout : test::file_layouts()) {
    expect_same(test::write_quantized(file_, tensors, layout, "model.diffusion_model."), open_sora(), layout.name);
  }
}

TEST_F(QuantizedModels, TheTransformerAsGguf) {
  const NamedTensors tensors = all_weights(test::checkpoint_dir() / "Open_Sora_v2.safetensors");
  for (const QuantizedFormat format : test::kBlockFormats) {
    for (const char* architecture : {"flux", ""}) {
      expect_same(test::write_gguf(file_, tensors, format, architecture), open_sora(), format_name(format));
    }
  }
}

TEST_F(QuantizedModels, Flux) {
  const NamedTensors tensors = all_weights(test::checkpoint_dir() / "flux1-dev.safetensors");
  expect_same(test::write_gguf(file_, tensors, QuantizedFormat::kQ5_K, "flux"), flux(), "GGUF");
  for (const test::FileLayout& layout : test::file_layouts()) {
    if (!layout.name.starts_with("ComfyUI")) continue;
    expect_same(test::write_quantized(file_, tensors, layout), flux(), layout.name);
  }
}

TEST_F(QuantizedModels, T5) {
  const Case reference("t5");
  const text::T5Config config = text::load_t5_config(test::checkpoint_dir() / "google/t5-v1_1-xxl");
  const NamedTensors tensors = all_weights(test::checkpoint_dir() / "google/t5-v1_1-xxl");
  const auto encode = [&](std::shared_ptr<const WeightSource> source) {
    const text::T5Encoder encoder(Weights(std::move(source), at::kCPU, at::kFloat, {.exact_products = true}), config);
    return encoder.forward(reference.raw("ids"));
  };
  const auto expect_same_text = [&](const NamedTensors& numbers, const std::string& what) {
    const auto checkpoint = io::Checkpoint::open(file_);
    EXPECT_TRUE(encode(checkpoint).equal(encode(std::make_shared<Tensors>(numbers)))) << what;
    const text::T5Config deduced = text::deduce_t5_config(*checkpoint);
    EXPECT_EQ(deduced.d_model, config.d_model) << what;
    EXPECT_EQ(deduced.d_ff, config.d_ff) << what;
    EXPECT_EQ(deduced.num_layers, config.num_layers) << what;
  };
  for (const QuantizedFormat format : test::kBlockFormats) {
    expect_same_text(test::write_gguf(file_, tensors, format, "t5encoder"), format_name(format));
  }
  for (const test::FileLayout& layout : test::file_layouts()) {
    if (layout.name == "ComfyUI, rotated int8") continue;  // its groups are wider than this encoder
    expect_same_text(test::write_quantized(file_, tensors, layout), layout.name);
  }
}

}  // namespace
}  // namespace opensora
