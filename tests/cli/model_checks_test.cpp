// What is wrong with a run's models is told before anything runs: exit code 4, one error.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "support/contains.h"
#include "support/program.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::contains;
using test::ProgramResult;
using test::run_program;
using test::operator+;
using test::Arguments;

constexpr const char* kT5 = "google/t5-v1_1-xxl";
constexpr const char* kClip = "openai/clip-vit-large-patch14";

class ModelChecks : public testing::Test {
 protected:
  ModelChecks() { fs::copy(test::checkpoint_dir(), models_, fs::copy_options::recursive); }

  // Writes a safetensors file anew with what `change` makes of its header; the data stays.
  static void change_header(const fs::path& file, const std::function<void(json&)>& change) {
    const std::string whole = test::read_file(file);
    uint64_t length = 0;
    std::memcpy(&length, whole.data(), sizeof length);
    json header = json::parse(whole.substr(sizeof length, length));
    change(header);
    const std::string text = header.dump();
    const uint64_t size = text.size();
    std::ofstream(file, std::ios::binary) << std::string(reinterpret_cast<const char*>(&size), sizeof size) << text
                                          << whole.substr(sizeof length + length);
  }
  static void rename_tensor(const fs::path& file, const std::string& name) {
    change_header(file, [&](json& header) {
      ASSERT_TRUE(header.contains(name)) << name;
      header["renamed." + name] = header[name];
      header.erase(name);
    });
  }
  static void add_prefix(const fs::path& file, const std::string& prefix) {
    change_header(file, [&](json& header) {
      json changed = json::object();
      for (const auto& [name, entry] : header.items()) changed[name == "__metadata__" ? name : prefix + name] = entry;
      header = changed;
    });
  }
  void set_number(const char* encoder, const char* key, const json& value) const {
    const fs::path file = models_ / encoder / "config.json";
    json config = test::read_json(file);
    config[key] = value;
    std::ofstream(file) << config;
  }

  Arguments model(const std::string& config = "tiny.json") const {
    return {"--model-dir", models_, "--config", models_ / config, "--device", "cpu"};
  }
  ProgramResult generate(const Arguments& more = {}, const std::string& config = "tiny.json") const {
    return run_program(Arguments{"generate", "-p", "rain", "-W", "32", "-H", "32", "--num-frames", "5", "--steps", "1",
                                 "-s", "1", "-o", folder_.path() / "out.mp4"} +
                       model(config) + more);
  }
  // Exit code 4, one error that holds all of `parts`, no stage begun and nothing written.
  void expect_refused(const ProgramResult& result, const std::vector<std::string>& parts) const {
    EXPECT_EQ(result.exit_code, 4) << result.err;
    EXPECT_EQ(result.out, "");
    for (const std::string& part : parts) EXPECT_TRUE(contains(result.err, part));
    for (const char* stage : {"text", "denoise", "encode", "decode"}) {
      EXPECT_EQ(result.err.find(std::string(stage) + ": "), std::string::npos) << result.err;
    }
    EXPECT_FALSE(fs::exists(folder_.path() / "out.mp4"));
    EXPECT_FALSE(fs::exists(folder_.path() / "out.latent.safetensors"));
  }

  test::TemporaryFolder folder_;
  const fs::path models_ = folder_.path() / "models";
};

TEST_F(ModelChecks, AMissingTensorOfAnyModelIsToldBeforeTheRun) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"Open_Sora_v2.safetensors", "final_layer.linear.weight"},
      {"hunyuan_vae.safetensors", "decoder.conv_out.conv.weight"},
      {std::string(kT5) + "/model-00002-of-00002.safetensors", "encoder.final_layer_norm.weight"},
      {std::string(kClip) + "/model.safetensors", "text_model.final_layer_norm.bias"},
  };
  for (const auto& [file, name] : cases) {
    const std::string whole = test::read_file(models_ / file);
    rename_tensor(models_ / file, name);
    if (file.starts_with(kT5)) {  // the index would notice by itself
      json index = test::read_json(models_ / kT5 / "model.safetensors.index.json");
      index["weight_map"].erase(name);
      std::ofstream(models_ / kT5 / "model.safetensors.index.json") << index;
    }
    expect_refused(generate(), {name + ": missing, expected shape ["});
    std::ofstream(models_ / file, std::ios::binary) << whole;
    if (file.starts_with(kT5)) {
      fs::copy_file(test::checkpoint_dir() / kT5 / "model.safetensors.index.json",
                    models_ / kT5 / "model.safetensors.index.json", fs::copy_options::overwrite_existing);
    }
  }
  EXPECT_EQ(generate().exit_code, 0);
}

TEST_F(ModelChecks, FluxAndItsAutoencoderToo) {
  const Arguments flux = {"--cond-type", "t2v"};
  rename_tensor(models_ / "flux1-dev.safetensors", "img_in.bias");
  rename_tensor(models_ / "flux1-dev-ae.safetensors", "decoder.norm_out.bias");
  rename_tensor(models_ / "hunyuan_vae.safetensors", "encoder.conv_out.conv.bias");
  expect_refused(generate(flux, "tiny_t2i2v.json"),
                 {"3 of the 6 models", "img_flux: ", "img_in.bias: missing",
                  "img_flux_ae: ", "decoder.norm_out.bias: missing", "ae: ", "encoder.conv_out.conv.bias: missing"});
}

TEST_F(ModelChecks, TheEncoderIsNeededWhereAPictureIsGivenOnly) {
  rename_tensor(models_ / "hunyuan_vae.safetensors", "encoder.conv_out.conv.bias");
  expect_refused(generate({"--image", test::reference_dir() / "cases/reference.png"}),
                 {"encoder.conv_out.conv.bias: missing"});
  EXPECT_EQ(generate().exit_code, 0);
}

TEST_F(ModelChecks, AllModelsAreToldAtOnceEachOnALine) {
  change_header(models_ / "Open_Sora_v2.safetensors", [](json& header) {
    header["img_in.bias"]["shape"] = {8, 8};
    header["x.txt_in.bias"] = header["txt_in.bias"];
    header.erase("txt_in.bias");
  });
  set_number(kT5, "num_layers", 3);
  set_number(kClip, "num_attention_heads", 0.5);
  fs::remove(models_ / "hunyuan_vae.safetensors");
  const ProgramResult result = generate();
  expect_refused(result, {"4 of the 4 models", "\n  model: ",
                          "img_in.bias: shape [8, 8], expected [64]; txt_in.bias: missing, expected shape [64]",
                          "\n  ae: hunyuan_vae.safetensors is missing (hpcai-tech/Open-Sora-v2, 1 GB)",
                          "\n  t5: ", "\"num_layers\" is 3, but the weights have 2 (no encoder.block.2)",
                          "\n  clip: ", "\"num_attention_heads\": expected a whole number from 1 to 4096, found 0.5"});
}

TEST_F(ModelChecks, PartsThatDoNotFit) {
  set_number(kT5, "d_model", 64);
  expect_refused(generate(), {"\"d_model\" is 64, but the transformer's \"context_in_dim\" is 32"});
  set_number(kT5, "d_model", 32);
  set_number(kClip, "num_hidden_layers", 1);
  expect_refused(generate(),
                 {"\"num_hidden_layers\" is 1, but the weights have 2 (there is text_model.encoder.layers.1)"});
  set_number(kClip, "num_hidden_layers", 2);
  set_number(kClip, "max_position_embeddings", 50);
  expect_refused(generate(), {"\"max_position_embeddings\" is 50, but the configuration reads 77 tokens"});
  expect_refused(generate({"--vae", models_ / kT5}),
                 {"holds another model (T5 encoder), expected \"ae\", a HunyuanVAE"});
}

TEST_F(ModelChecks, OtherCommandsToo) {
  ASSERT_EQ(generate({"--keep-latents"}).exit_code, 0);
  const fs::path latent = folder_.path() / "out.latent.safetensors", vae = models_ / "hunyuan_vae.safetensors";
  rename_tensor(models_ / "Open_Sora_v2.safetensors", "img_in.bias");
  rename_tensor(models_ / std::string(kClip) / "model.safetensors", "text_model.final_layer_norm.bias");
  const std::string whole = test::read_file(vae);
  rename_tensor(vae, "decoder.conv_out.conv.bias");
  const auto expect = [&](const Arguments& command, const char* name) {
    const ProgramResult result = run_program(command);
    EXPECT_EQ(result.exit_code, 4) << result.err;
    EXPECT_TRUE(contains(result.err, std::string(name) + ": missing, expected shape"));
  };
  expect(Arguments{"decode", latent, "-o", folder_.path() / "back.mp4"} + model(), "decoder.conv_out.conv.bias");
  expect(
      Arguments{"reconstruct", test::reference_dir() / "cases/reference.png", "-o", folder_.path() / "r.png"} + model(),
      "decoder.conv_out.conv.bias");
  expect(Arguments{"encode-text", "-p", "rain", "--output-dir", folder_.path() / "e"} + model(),
         "text_model.final_layer_norm.bias");
  EXPECT_FALSE(fs::exists(folder_.path() / "e"));
  expect(Arguments{"bench", "--stages", "step"} + model(), "img_in.bias");
  expect(Arguments{"bench", "--stages", "decode"} + model(), "decoder.conv_out.conv.bias");
}

TEST_F(ModelChecks, AnEmptyFolderListsAllWithSizesAndSources) {
  const fs::path empty = folder_.path() / "empty";
  fs::create_directory(empty);
  const ProgramResult generated = run_program({"generate", "--model-dir", empty, "-p", "sea", "-o",
                                               folder_.path() / "out.mp4", "--device", "cpu", "--num-frames", "5"});
  const std::vector<std::string> sources = {
      "Open_Sora_v2.safetensors is missing (hpcai-tech/Open-Sora-v2, 24 GB)",
      "hunyuan_vae.safetensors is missing (hpcai-tech/Open-Sora-v2, 1 GB)",
      "google/t5-v1_1-xxl is missing (google/t5-v1_1-xxl, 45 GB: config.json, spiece.model and the weights",
      "openai/clip-vit-large-patch14 is missing (openai/clip-vit-large-patch14, 1.7 GB"};
  expect_refused(generated, sources + Arguments{"4 of the 4 models of 256px", "repositories of the Hugging Face hub"});
  const ProgramResult verified = run_program({"verify", empty});
  EXPECT_EQ(verified.exit_code, 4);
  for (const char* source : {"hpcai-tech/Open-Sora-v2, 24 GB", "hpcai-tech/Open-Sora-v2, 1 GB",
                             "google/t5-v1_1-xxl, 45 GB", "openai/clip-vit-large-patch14, 1.7 GB"}) {
    EXPECT_TRUE(contains(verified.out, source));
  }
}

TEST_F(ModelChecks, TheDemoModelHasOneConfiguration) {
  const std::string demo = std::string(OPENSORA_CONFIGS) + "/demo";
  for (const char* config : {"256px", "768px"}) {
    const ProgramResult result = run_program({"generate", "--model-dir", demo, "--config", config, "-p", "sea", "-o",
                                              folder_.path() / "out.mp4", "--device", "cpu"});
    expect_refused(result, {"the demo model has one configuration, its own, and cannot be used with " +
                                std::string(config) + ": that needs the published weights",
                            "--model-dir"});
    EXPECT_TRUE(
        contains(run_program({"verify", demo, "--config", config}).err, "the demo model has one configuration"));
  }
}

TEST_F(ModelChecks, AnyPrefixOfNamesRuns) {
  const fs::path output = folder_.path() / "out.mp4";
  ASSERT_EQ(generate({"--no-metadata"}).exit_code, 0);
  const std::string plain = test::read_file(output);
  add_prefix(models_ / "Open_Sora_v2.safetensors", "_orig_mod.");
  add_prefix(models_ / "hunyuan_vae.safetensors", "first_stage_model.");
  add_prefix(models_ / kClip / "model.safetensors", "text_encoder.");
  const ProgramResult result = generate({"--overwrite", "--no-metadata"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(test::read_file(output), plain);
  EXPECT_TRUE(contains(result.err, "names are behind \"_orig_mod.\""));
  EXPECT_EQ(result.err.find("unused"), std::string::npos) << result.err;
  const ProgramResult inspected = run_program({"inspect", models_ / "Open_Sora_v2.safetensors"});
  EXPECT_TRUE(contains(inspected.out, "Open-Sora transformer"));
  EXPECT_TRUE(contains(inspected.out, "_orig_mod."));
}

// Files that fuzzing made, or that are like them: no crash, no gigabytes, and the file's name.
TEST_F(ModelChecks, HostileFilesAreOneLine) {
  const std::string deep = std::string(60000, '[') + std::string(60000, ']');
  const fs::path fuzz = fs::path(OPENSORA_TEST_DATA) / "cases/fuzz";
  const auto expect = [](const Arguments& command, int exit_code, const std::string& part) {
    const ProgramResult result = run_program(command);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_TRUE(contains(result.err, part));
  };
  const std::string limit = "nested more than 64 levels";
  const std::string header = R"({"a":{"dtype":"F32","shape":)" + deep + "}}";
  const uint64_t length = header.size();
  const fs::path tensors =
      folder_.write("deep.safetensors", std::string(reinterpret_cast<const char*>(&length), 8) + header);
  expect({"inspect", tensors}, 4, tensors.string() + ": header is not valid JSON: lists and objects are " + limit);
  const fs::path config = folder_.write("deep.json", "{\"fps_save\":" + deep + "}");
  expect({"plan", "--config", config, "-p", "a"}, 2,
         config.string() + ": not valid JSON: lists and objects are " + limit);
  const fs::path made =
      folder_.write("made.json", R"({"program":"opensora","schema_version":1,"request":{"prompt":)" + deep + "}}");
  expect({"plan", "--from", made}, 2, limit);
  expect({"inspect", fuzz / "expanded-2e62.pt"}, 4, "takes more bytes than the whole file has");

  fs::copy_file(fuzz / "vocab-1e999.json", models_ / kClip / "vocab.json", fs::copy_options::overwrite_existing);
  expect(Arguments{"tokenize", "a"} + Arguments{"--model-dir", models_, "--config", models_ / "tiny.json"}, 4,
         "vocab.json: not valid JSON: number overflow");
  fs::copy_file(fuzz / "clip-config-heads.json", models_ / kClip / "config.json", fs::copy_options::overwrite_existing);
  folder_.write("models/google/t5-v1_1-xxl/config.json", "{\"a\":" + deep + "}");
  const ProgramResult verified = run_program({"verify", models_, "--config", models_ / "tiny.json"});
  EXPECT_EQ(verified.exit_code, 4);
  EXPECT_TRUE(contains(verified.out, "\"num_attention_heads\": expected a whole number"));
  EXPECT_TRUE(contains(verified.out, limit));
}

}  // namespace
}  // namespace opensora
