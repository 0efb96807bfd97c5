// opensora verify, as its users run it.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "io/safetensors.h"
#include "media/sha256.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::ProgramResult;
using test::run_program;

class VerifyCommand : public testing::Test {
 protected:
  VerifyCommand() { fs::copy(test::checkpoint_dir(), models_, fs::copy_options::recursive); }

  ProgramResult verify(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"verify", models_, "--config", test::checkpoint_dir() / "tiny.json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  }
  nlohmann::json component(const char* name, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const nlohmann::json root = nlohmann::json::parse(verify(arguments).out);
    for (const nlohmann::json& one : root["components"]) {
      if (one["name"] == name) return one;
    }
    return {};
  }
  // Writes the transformer anew with what `change` makes of each tensor; undefined: left out.
  template <typename Change>
  void rewrite_transformer(Change&& change) const {
    std::vector<std::pair<std::string, at::Tensor>> tensors;
    {
      const io::SafetensorsFile file(test::checkpoint_dir() / "Open_Sora_v2.safetensors");
      for (const auto& [name, info] : file.tensors()) {
        const at::Tensor tensor = change(name, file.tensor(name));
        if (tensor.defined()) tensors.emplace_back(name, tensor);
      }
    }
    io::save_safetensors(models_ / "Open_Sora_v2.safetensors", tensors, {}, true);
  }

  test::TemporaryFolder folder_;
  const fs::path models_ = folder_.path() / "models";
};

TEST_F(VerifyCommand, AGoodFolder) {
  const ProgramResult result = verify();
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  for (const char* name : {"model: ", "ae: ", "t5: ", "clip: "}) EXPECT_TRUE(contains(result.out, name));
  EXPECT_EQ(result.out.find("sha256"), std::string::npos);
  const nlohmann::json root = nlohmann::json::parse(verify({"--json"}).out);
  EXPECT_EQ(root["ok"], true);
  EXPECT_EQ(root["components"].size(), 4U);
  EXPECT_EQ(component("model")["tensors"], 118);
  EXPECT_EQ(component("t5")["files"].size(), 5U) << "index, two shards, config.json, spiece.model";
  EXPECT_TRUE(contains(run_program({"verify", "--help"}).out, "Examples:"));
}

TEST_F(VerifyCommand, ReportsAllProblemsOfAllComponents) {
  rewrite_transformer([](const std::string& name, const at::Tensor& tensor) {
    if (name == "img_in.bias") return at::Tensor();
    return name == "txt_in.bias" ? at::zeros({7}) : tensor;
  });
  fs::remove(models_ / "hunyuan_vae.safetensors");
  fs::remove(models_ / "google/t5-v1_1-xxl/model-00002-of-00002.safetensors");
  fs::remove(models_ / "google/t5-v1_1-xxl/spiece.model");
  fs::remove(models_ / "openai/clip-vit-large-patch14/merges.txt");
  folder_.write("models/openai/clip-vit-large-patch14/config.json", "{");
  const ProgramResult result = verify();
  EXPECT_EQ(result.exit_code, 4);
  for (const char* problem :
       {"problem: img_in.bias: missing, expected shape [64]", "problem: txt_in.bias: shape [7], expected [64]",
        "\"hunyuan_vae.safetensors\" for \"ae\"", "problem: model-00002-of-00002.safetensors: missing",
        "spiece.model: no such file", "merges.txt: no such file", "config.json: not valid JSON"}) {
    EXPECT_TRUE(contains(result.out, problem));
  }
  EXPECT_TRUE(contains(result.err, "7 problem(s)"));
  EXPECT_EQ(component("model")["problems"].size(), 2U);
}

TEST_F(VerifyCommand, PartsThatDoNotFit) {
  const fs::path config = models_ / "google/t5-v1_1-xxl/config.json";
  nlohmann::json sizes = test::read_json(config);
  sizes["num_layers"] = 3;
  std::ofstream(config) << sizes;
  EXPECT_TRUE(contains(component("t5")["problems"][0].get<std::string>(), "encoder.block.2"));
  const ProgramResult published = run_program({"verify", models_, "--config", "256px"});
  EXPECT_EQ(published.exit_code, 4);
  EXPECT_TRUE(contains(published.out, "img_in.weight: shape [64, 64], expected [3072, 64]"));
  EXPECT_TRUE(contains(published.out, "but the transformer's \"vec_in_dim\" is 768"));
}

TEST_F(VerifyCommand, FullFindsNaNAndPrintsChecksums) {
  rewrite_transformer([](const std::string& name, const at::Tensor& tensor) {
    return name == "img_in.bias" ? at::full_like(tensor, NAN) : tensor;
  });
  EXPECT_EQ(verify().exit_code, 0) << "only --full reads the data";
  const ProgramResult result = verify({"--full"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_TRUE(contains(result.out, "problem: img_in.bias: 64 of 64 values are NaN or infinite"));
  for (const nlohmann::json& file : component("clip", {"--full"})["files"]) {
    EXPECT_EQ(file["sha256"].get<std::string>().size(), 64U);
  }
}

TEST(Sha256, OfAKnownText) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(media::sha256_of_file(folder.write("abc", "abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_F(VerifyCommand, NoSuchFolder) {
  const ProgramResult result = run_program({"verify", folder_.path() / "none"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_TRUE(contains(result.err, "no such folder"));
}

}  // namespace
}  // namespace opensora
