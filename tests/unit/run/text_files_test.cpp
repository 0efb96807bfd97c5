// The text encoders in the layouts that people have them in: each must give the embeddings of the published layout.
#include <gtest/gtest.h>

#include <filesystem>

#include "io/safetensors.h"
#include "models/model_files.h"
#include "opensora/config.h"
#include "opensora/error.h"
#include "run/text_stage.h"
#include "support/contains.h"
#include "support/named_tensors.h"
#include "support/pytorch_writer.h"
#include "support/reference.h"
#include "support/temporary_folder.h"
#include "text/encoder_config.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::contains;

constexpr const char* kT5 = "google/t5-v1_1-xxl";
constexpr const char* kClip = "openai/clip-vit-large-patch14";

// A folder with the reference's tokenizers and encoder configurations, into which a test puts weights.
class TextFiles : public testing::Test {
 protected:
  TextFiles() {
    for (const char* name : {kT5, kClip}) copy_without_weights(name, folder_.path() / name);
  }
  static void copy_without_weights(const char* name, const fs::path& to) {
    fs::create_directories(to);
    for (const char* file : {"config.json", "spiece.model", "vocab.json", "merges.txt"}) {
      const fs::path from = test::checkpoint_dir() / name / file;
      if (fs::exists(from)) fs::copy_file(from, to / file);
    }
  }
  static sampling::TextEmbedding encode(const fs::path& model_dir) {
    models::ModelSet models({.model_dir = model_dir, .config = load_config(test::checkpoint_dir() / "tiny.json")});
    return run::encode_prompts({"raining, sea"}, models, {})[0];
  }
  void expect_same_embeddings(double tolerance = 0) const {
    const sampling::TextEmbedding actual = encode(folder_.path()), expected = encode(test::checkpoint_dir());
    EXPECT_TRUE(test::close(actual.txt, expected.txt, tolerance, 0));
    EXPECT_TRUE(test::close(actual.vec, expected.vec, 0, 0));
  }
  fs::path at(const fs::path& name) const { return folder_.path() / name; }

  const test::NamedTensors t5_ = test::all_weights(test::checkpoint_dir() / kT5);
  const test::NamedTensors clip_ = test::all_weights(test::checkpoint_dir() / kClip);
  test::TemporaryFolder folder_;
};

TEST_F(TextFiles, OneSafetensorsFileEach) {
  io::save_safetensors(at(kT5) / "model.safetensors", t5_);
  io::save_safetensors(at(kClip) / "model.safetensors", clip_);
  expect_same_embeddings();
}

TEST_F(TextFiles, PyTorchFiles) {
  test::save_pytorch(at(kT5) / "pytorch_model.bin", t5_);
  test::save_pytorch(at(kClip) / "pytorch_model.bin", clip_);
  expect_same_embeddings();
}

TEST_F(TextFiles, CommunityFilesInTheModelFolder) {
  io::save_safetensors(at("t5xxl_fp16.safetensors"), t5_);
  io::save_safetensors(at("clip_l.safetensors"), clip_);
  expect_same_embeddings();
  fs::remove(at(kT5) / "config.json");  // T5's sizes are all in the shapes
  expect_same_embeddings();
}

TEST_F(TextFiles, EightBitWeightsAreUpcastAsTheyAreUsed) {
  test::NamedTensors rounded;
  for (const auto& [name, tensor] : t5_) rounded.emplace_back(name, tensor.to(at::kFloat8_e4m3fn));
  io::save_safetensors(at("clip_l.safetensors"), clip_);
  io::save_safetensors(at("t5xxl_fp8_e4m3fn.safetensors"), rounded);
  const at::Tensor eight_bit = encode(folder_.path()).txt;
  fs::remove(at("t5xxl_fp8_e4m3fn.safetensors"));
  for (auto& [name, tensor] : rounded) tensor = tensor.to(at::kFloat);
  io::save_safetensors(at("t5xxl_fp16.safetensors"), rounded);
  EXPECT_TRUE(test::close(eight_bit, encode(folder_.path()).txt, 1e-6, 0));
}

TEST_F(TextFiles, FluxFolder) {
  fs::remove_all(at("google"));
  fs::remove_all(at("openai"));
  copy_without_weights(kT5, at("text_encoder_2"));
  copy_without_weights(kClip, at("text_encoder"));
  fs::create_directories(at("tokenizer"));
  fs::create_directories(at("tokenizer_2"));
  fs::rename(at("text_encoder_2/spiece.model"), at("tokenizer_2/spiece.model"));
  for (const char* file : {"vocab.json", "merges.txt"}) {
    fs::rename(at("text_encoder") / file, at("tokenizer") / file);
  }
  io::save_safetensors(at("text_encoder_2/model.safetensors"), t5_);
  io::save_safetensors(at("text_encoder/model.safetensors"), clip_);
  expect_same_embeddings();
}

TEST_F(TextFiles, SayWhatIsMissingAndWhereItBelongs) {
  const auto error = [&] {
    try {
      encode(folder_.path());
    } catch (const CheckpointError& problem) {
      return std::string(problem.what());
    }
    return std::string("no error");
  };
  const std::string none = error();
  for (const char* name : {"for \"clip\"", kClip, "clip_l.safetensors", "text_encoder", "`model_dir`"}) {
    EXPECT_TRUE(contains(none, name));
  }
  io::save_safetensors(at("clip_l.safetensors"), clip_);
  io::save_safetensors(at("t5xxl_fp16.safetensors"), t5_);
  fs::remove(at(kClip) / "config.json");
  EXPECT_TRUE(contains(error(), "number of heads cannot be told; put the model's config.json"));
  copy_without_weights(kClip, at("elsewhere"));
  fs::copy_file(at("elsewhere/config.json"), at(kClip) / "config.json");
  fs::remove(at(kT5) / "spiece.model");
  EXPECT_TRUE(contains(error(), (at(kT5) / "spiece.model").string() + ": no such file; copy the tokenizer files of"));
}

class FindComponent : public testing::Test {
 protected:
  // The component's name in the folder, or the error.
  std::string find(Component component, const char* configured, const fs::path& chosen = {}) const {
    try {
      return models::find_component(folder_.path(), component, configured, chosen).lexically_relative(folder_.path());
    } catch (const CheckpointError& error) {
      return error.what();
    }
  }
  const test::TemporaryFolder folder_;
};

TEST_F(FindComponent, ConfiguredThenCommunityThenError) {
  EXPECT_TRUE(contains(find(Component::kImgFluxAe, "x.safetensors"),
                       "(looked for x.safetensors, x.safetensors.index.json, flux1-dev-ae.safetensors, "
                       "ae.safetensors)"));
  folder_.write("ae.safetensors", "x");
  folder_.write("flux1-dev.safetensors", "x");
  EXPECT_EQ(find(Component::kImgFluxAe, "x.safetensors"), "ae.safetensors");
  EXPECT_EQ(find(Component::kImgFlux, "x.safetensors"), "flux1-dev.safetensors");
  folder_.write("x.safetensors.index.json", "x");
  EXPECT_EQ(find(Component::kModel, "x.safetensors"), "x.safetensors.index.json");
  folder_.write("x.safetensors", "x");
  EXPECT_EQ(find(Component::kImgFluxAe, "x.safetensors"), "x.safetensors");
  EXPECT_EQ(find(Component::kAe, "x.safetensors", folder_.path() / "ae.safetensors"), "ae.safetensors");
  EXPECT_TRUE(contains(find(Component::kAe, "x.safetensors", folder_.path() / "none"), "no such file or folder"));
  EXPECT_TRUE(contains(find(Component::kAe, "x.safetensors", folder_.path()), "the folder holds no weights"));
}

TEST_F(FindComponent, AGgufFileIsCalledAfterWhatItHolds) {
  folder_.write("Open_Sora_v2-Q8_0.gguf", "x");
  folder_.write("Open_Sora_v20.gguf", "x");
  folder_.write("flux1-dev.gguf", "x");
  folder_.write("google/t5-v1_1-xxl/t5-v1_1-xxl-encoder-Q5_K_M.gguf", "x");
  EXPECT_EQ(find(Component::kModel, "Open_Sora_v2.safetensors"), "Open_Sora_v2-Q8_0.gguf");
  EXPECT_EQ(find(Component::kImgFlux, "x.safetensors"), "flux1-dev.gguf");
  EXPECT_EQ(find(Component::kT5, kT5), std::string(kT5) + "/t5-v1_1-xxl-encoder-Q5_K_M.gguf");
  folder_.write("Open_Sora_v2-Q4_K_S.gguf", "x");
  EXPECT_TRUE(contains(find(Component::kModel, "Open_Sora_v2.safetensors"),
                       "holds several files for \"model\" (Open_Sora_v2-Q4_K_S.gguf, Open_Sora_v2-Q8_0.gguf); name the "
                       "one to use with `diffusion_model`"));
  folder_.write("Open_Sora_v2.safetensors", "x");
  EXPECT_EQ(find(Component::kModel, "Open_Sora_v2.safetensors"), "Open_Sora_v2.safetensors");
}

TEST(DeducedConfig, PublishedShapesGivePublishedSizes) {
  class Manifest final : public WeightSource {
   public:
    explicit Manifest(const char* name)
        : tensors_(test::read_json(test::reference_dir() / "manifest" / name)["tensors"]) {}
    std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef) const override {
      return at::empty(tensors_.at(name).get<std::vector<int64_t>>(), at::kMeta);
    }
    bool contains(const std::string& name) const override { return tensors_.contains(name); }
    std::vector<std::string> names() const override { return {}; }
    std::string description() const override { return "manifest"; }

   private:
    nlohmann::json tensors_;
  };
  const text::ClipConfig clip = text::deduce_clip_config(Manifest("clip-vit-large-patch14-text.json")), clip_l;
  EXPECT_EQ(clip.vocab_size, clip_l.vocab_size);
  EXPECT_EQ(clip.hidden_size, clip_l.hidden_size);
  EXPECT_EQ(clip.intermediate_size, clip_l.intermediate_size);
  EXPECT_EQ(clip.num_hidden_layers, clip_l.num_hidden_layers);
  EXPECT_EQ(clip.num_attention_heads, clip_l.num_attention_heads);
  EXPECT_EQ(clip.max_position_embeddings, clip_l.max_position_embeddings);
  const text::T5Config t5 = text::deduce_t5_config(Manifest("t5-v1_1-xxl-encoder.json")), xxl;
  EXPECT_EQ(t5.vocab_size, xxl.vocab_size);
  EXPECT_EQ(t5.d_model, xxl.d_model);
  EXPECT_EQ(t5.d_kv, xxl.d_kv);
  EXPECT_EQ(t5.d_ff, xxl.d_ff);
  EXPECT_EQ(t5.num_layers, xxl.num_layers);
  EXPECT_EQ(t5.num_heads, xxl.num_heads);
  EXPECT_EQ(t5.relative_attention_num_buckets, xxl.relative_attention_num_buckets);
}

}  // namespace
}  // namespace opensora
