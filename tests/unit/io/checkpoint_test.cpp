#include "io/checkpoint.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/safetensors.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/pytorch_writer.h"
#include "support/temporary_folder.h"

namespace opensora::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::contains;

class CheckpointTest : public testing::Test {
 protected:
  static std::string error_of(const fs::path& path) {
    try {
      Checkpoint::open(path);
    } catch (const CheckpointError& error) {
      return error.what();
    }
    return "no error";
  }
  // A folder with "a" in one shard and "b" in another.
  void write_shards() {
    save_safetensors(folder_.path() / "model-1.safetensors", {{"a", at::zeros({2, 3})}});
    save_safetensors(folder_.path() / "model-2.safetensors", {{"b", at::ones({4}).to(at::kBFloat16)}});
    write_index({{"a", "model-1.safetensors"}, {"b", "model-2.safetensors"}});
  }
  fs::path write_index(const json& weight_map) {
    return folder_.write("model.safetensors.index.json", json{{"weight_map", weight_map}}.dump());
  }
  test::TemporaryFolder folder_;
};

TEST_F(CheckpointTest, OpensOneFile) {
  const fs::path file = folder_.path() / "weights.safetensors";
  save_safetensors(file, {{"b", at::ones({4}).to(at::kBFloat16)}, {"a", at::zeros({2, 3})}});
  const auto checkpoint = Checkpoint::open(file);
  EXPECT_EQ(checkpoint->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(checkpoint->contains("a"));
  EXPECT_FALSE(checkpoint->contains("c"));
  EXPECT_EQ(checkpoint->bytes(), 24 + 8);
  EXPECT_EQ(checkpoint->description(), file.string());
  EXPECT_EQ(checkpoint->find("a", {999})->sizes(), (at::IntArrayRef{2, 3})) << "whatever shape is expected";
  EXPECT_EQ(checkpoint->find("c", {1}), std::nullopt);
}

TEST_F(CheckpointTest, OpensShardsByFolderAndByIndex) {
  write_shards();
  for (const fs::path& path : {folder_.path(), folder_.path() / "model.safetensors.index.json"}) {
    const auto checkpoint = Checkpoint::open(path);
    EXPECT_EQ(checkpoint->names(), (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(checkpoint->bytes(), 24 + 8);
    EXPECT_TRUE(at::equal(*checkpoint->find("b", {4}), at::ones({4}).to(at::kBFloat16)));
  }
}

TEST_F(CheckpointTest, OpensTheReferenceCheckpoints) {
  const fs::path models = OPENSORA_TEST_DATA "/reference/ckpts";
  EXPECT_EQ(Checkpoint::open(models / "google/t5-v1_1-xxl")->names().size(), 21U);
  EXPECT_TRUE(Checkpoint::open(models / "openai/clip-vit-large-patch14")
                  ->contains("text_model.embeddings.token_embedding.weight"));
  const auto transformer = Checkpoint::open(models / "Open_Sora_v2.safetensors");
  EXPECT_EQ(transformer->find("img_in.weight", {})->sizes(), (at::IntArrayRef{64, 64}));
  EXPECT_EQ(transformer->find("img_in.weight", {})->scalar_type(), at::kBFloat16);
}

TEST_F(CheckpointTest, BindsToAModel) {
  write_shards();
  const Weights weights(Checkpoint::open(folder_.path()), at::kCPU, at::kFloat);
  EXPECT_TRUE(weights.tensor("a", {2, 3}).defined());
  weights.tensor("b", {5});
  weights.tensor("c", {1});
  EXPECT_THROW(weights.finish(), CheckpointError);
}

TEST_F(CheckpointTest, AViewOutlivesTheCheckpoint) {
  write_shards();
  const at::Tensor view = *Checkpoint::open(folder_.path())->find("b", {4});
  EXPECT_EQ(view.sum().item<float>(), 4.0F);
}

TEST_F(CheckpointTest, SaysWhatWasLookedForAndWhere) {
  const std::string file = error_of(folder_.path() / "Open_Sora_v2.safetensors");
  EXPECT_TRUE(contains(file, "no checkpoint \"Open_Sora_v2.safetensors\" in folder " + folder_.path().string()));
  EXPECT_TRUE(contains(error_of(folder_.path() / "ckpts/x.safetensors"), "there is no such folder"));
  const std::string empty = error_of(folder_.path());
  EXPECT_TRUE(contains(empty, "no weights in folder " + folder_.path().string()));
  for (const char* name : {"model.safetensors,", "model.safetensors.index.json", "pytorch_model.bin.index.json"}) {
    EXPECT_TRUE(contains(empty, name));
  }
}

TEST_F(CheckpointTest, PrefersSafetensorsToPyTorchFiles) {
  test::save_pytorch(folder_.path() / "pytorch_model.bin", {{"b", at::zeros({1})}});
  EXPECT_TRUE(Checkpoint::open(folder_.path())->contains("b"));
  save_safetensors(folder_.path() / "model.safetensors", {{"a", at::zeros({1})}});
  EXPECT_TRUE(Checkpoint::open(folder_.path())->contains("a"));
}

TEST_F(CheckpointTest, OpensPyTorchShards) {
  test::save_pytorch(folder_.path() / "pytorch_model-00001-of-00002.bin", {{"a", at::zeros({2, 3})}});
  test::save_pytorch(folder_.path() / "pytorch_model-00002-of-00002.bin", {{"b", at::ones({4})}});
  const json weight_map = {{"a", "pytorch_model-00001-of-00002.bin"}, {"b", "pytorch_model-00002-of-00002.bin"}};
  folder_.write("pytorch_model.bin.index.json", json{{"weight_map", weight_map}}.dump());
  const auto checkpoint = Checkpoint::open(folder_.path());
  EXPECT_EQ(checkpoint->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(checkpoint->files().size(), 3U);
  EXPECT_TRUE(at::equal(*checkpoint->find("b", {4}), at::ones({4})));
}

TEST_F(CheckpointTest, StripsPrefixes) {
  const fs::path file = folder_.path() / "x.safetensors";
  const at::Tensor one = at::ones({1});
  for (const std::string prefix : {"model.diffusion_model.", "module.", "model.", "_orig_mod.", "diffusion_model.",
                                   "net.", "ema.", "transformer.", "a.b.c.", "whatever."}) {
    save_safetensors(file, {{prefix + "img_in.weight", one}, {prefix + "x", one}, {"vae.y", one}}, {}, true);
    const auto checkpoint = Checkpoint::open(file);
    EXPECT_EQ(checkpoint->names(), (std::vector<std::string>{"img_in.weight", "x"})) << "the rest is foreign";
    EXPECT_EQ(checkpoint->all_names(), (std::vector<std::string>{"img_in.weight", "vae.y", "x"}));
    EXPECT_EQ(checkpoint->stripped_prefix(), prefix);
    EXPECT_TRUE(at::equal(*checkpoint->find("x", {1}), one));
  }
  save_safetensors(file, {{"model.x", one}}, {}, true);
  EXPECT_TRUE(Checkpoint::open(file)->contains("model.x")) << "no model of ours is behind the prefix";
}

TEST_F(CheckpointTest, StripsThePrefixOfEveryKindOfModel) {
  const fs::path file = folder_.path() / "x.safetensors";
  const at::Tensor one = at::ones({1});
  for (const std::string name :
       {"img_in.weight", "final_layer.linear.weight", "decoder.conv_in.conv.weight", "encoder.conv_in.conv.weight",
        "decoder.project_in.main.conv.weight", "encoder.project_in.conv.weight", "decoder.conv_in.weight",
        "shared.weight", "encoder.final_layer_norm.weight", "text_model.embeddings.token_embedding.weight"}) {
    for (const std::string prefix : {"text_encoder.", "_orig_mod.module.", "x."}) {
      save_safetensors(file, {{prefix + name, one}}, {}, true);
      EXPECT_TRUE(Checkpoint::open(file)->contains(name)) << prefix << name;
      test::save_pytorch(folder_.path() / "x.bin", {{prefix + name, one}});
      EXPECT_TRUE(Checkpoint::open(folder_.path() / "x.bin")->contains(name)) << prefix << name;
    }
  }
}

TEST_F(CheckpointTest, StripsThePrefixOfShards) {
  save_safetensors(folder_.path() / "model-1.safetensors", {{"net.img_in.weight", at::zeros({2})}});
  save_safetensors(folder_.path() / "model-2.safetensors", {{"net.txt_in.weight", at::ones({3})}});
  write_index({{"net.img_in.weight", "model-1.safetensors"}, {"net.txt_in.weight", "model-2.safetensors"}});
  const auto checkpoint = Checkpoint::open(folder_.path());
  EXPECT_EQ(checkpoint->names(), (std::vector<std::string>{"img_in.weight", "txt_in.weight"}));
  EXPECT_TRUE(at::equal(*checkpoint->find("txt_in.weight", {}), at::ones({3})));
}

TEST_F(CheckpointTest, OfSeveralCopiesTheMostCompleteThenTheAverageIsTaken) {
  const fs::path file = folder_.path() / "x.safetensors";
  const at::Tensor zero = at::zeros({1}), one = at::ones({1});
  save_safetensors(file, {{"model.img_in.weight", zero}, {"ema.img_in.weight", one}, {"step", zero}});
  const auto equal = Checkpoint::open(file);
  EXPECT_EQ(equal->stripped_prefix(), "ema.");
  EXPECT_EQ(equal->other_prefixes(), (std::vector<std::string>{"model."}));
  EXPECT_TRUE(at::equal(*equal->find("img_in.weight", {}), one));
  EXPECT_EQ(equal->names(), (std::vector<std::string>{"img_in.weight"}));

  save_safetensors(file, {{"model.img_in.weight", zero}, {"model.txt_in.weight", zero}, {"ema.img_in.weight", one}}, {},
                   true);
  EXPECT_EQ(Checkpoint::open(file)->stripped_prefix(), "model.");
  save_safetensors(file, {{"img_in.weight", zero}, {"ema.img_in.weight", one}}, {}, true);
  EXPECT_EQ(Checkpoint::open(file)->stripped_prefix(), "") << "names as the model knows them";
  save_safetensors(file, {{"m.img_in.weight", zero}, {"m.txt_in.weight", zero}, {"m.ema.img_in.weight", one}}, {},
                   true);
  EXPECT_EQ(Checkpoint::open(file)->stripped_prefix(), "m.");
}

TEST_F(CheckpointTest, SeveralModelsInOneFile) {
  const fs::path file = folder_.path() / "x.safetensors";
  const at::Tensor one = at::ones({1});
  save_safetensors(file, {{"model.diffusion_model.img_in.weight", one},
                          {"vae.decoder.conv_in.conv.weight", one},
                          {"text_encoders.t5xxl.transformer.shared.weight", one},
                          {"text_encoders.clip_l.transformer.text_model.final_layer_norm.weight", one}});
  const auto checkpoint = Checkpoint::open(file);
  for (const char* name :
       {"img_in.weight", "decoder.conv_in.conv.weight", "shared.weight", "text_model.final_layer_norm.weight"}) {
    EXPECT_TRUE(checkpoint->contains(name)) << name;
  }
  EXPECT_TRUE(checkpoint->names().empty()) << "one model's are not another's unused ones";
}

TEST_F(CheckpointTest, ListsMissingShardsAndTensors) {
  write_shards();
  write_index({{"a", "model-1.safetensors"},
               {"b", "model-1.safetensors"},
               {"c", "model-3.safetensors"},
               {"d", "model-3.safetensors"},
               {"e", "model-2.safetensors"}});
  const std::string error = error_of(folder_.path());
  EXPECT_TRUE(contains(error, "model.safetensors.index.json: 3 shard(s) or tensor(s) missing"));
  EXPECT_TRUE(contains(error, "\n  model-3.safetensors: missing"));
  EXPECT_TRUE(contains(error, "\n  model-1.safetensors: holds no tensor \"b\""));
  EXPECT_TRUE(contains(error, "\n  model-2.safetensors: holds no tensor \"e\""));
}

TEST_F(CheckpointTest, RefusesBrokenIndices) {
  const std::string name = "model.safetensors.index.json";
  EXPECT_TRUE(contains(error_of(folder_.write(name, "{")), "not valid JSON: parse error at line 1"));
  EXPECT_TRUE(contains(error_of(folder_.write(name, "{}")), "has no \"weight_map\""));
  EXPECT_TRUE(contains(error_of(folder_.write(name, R"({"weight_map": {"a": 1}})")), "has no \"weight_map\""));
  EXPECT_TRUE(contains(error_of(folder_.write(name, "[]")), "has no \"weight_map\""));
  EXPECT_TRUE(contains(error_of(folder_.write(name, std::string(60000, '[') + std::string(60000, ']'))),
                       "nested more than 64 levels"));
  folder_.write("broken.safetensors", "1234");
  EXPECT_TRUE(contains(error_of(write_index({{"a", "broken.safetensors"}})), "broken.safetensors: is 4 bytes long"));
}

}  // namespace
}  // namespace opensora::io
