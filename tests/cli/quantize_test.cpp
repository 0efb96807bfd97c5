// opensora quantize, and its files with every other command.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/batch_fixture.h"
#include "support/contains.h"
#include "support/generate_fixture.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Arguments;
using test::contains;
using test::operator+;
using test::run_program;

class QuantizeCommand : public test::GenerateCommand {
 protected:
  static std::string transformer() { return test::checkpoint_dir() / "Open_Sora_v2.safetensors"; }
  // The reference checkpoint with its transformer and T5 in 8 bits.
  fs::path folder_in(const std::string& to) const {
    const fs::path models = copy_of_checkpoint();
    const fs::path t5 = models / "google/t5-v1_1-xxl";
    quantize(transformer(), models / "Open_Sora_v2.safetensors", to);
    quantize(test::checkpoint_dir() / "google/t5-v1_1-xxl", t5 / "model.safetensors", to);
    fs::remove(t5 / "model.safetensors.index.json");
    for (const char* shard : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
      fs::remove(t5 / shard);
    }
    return models;
  }
  static void quantize(const fs::path& from, const fs::path& file, const std::string& to) {
    const test::ProgramResult result = run_program({"quantize", from, file, "--to", to, "--overwrite"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
};

TEST_F(QuantizeCommand, PrintsEachLayerAndTheSum) {
  const test::ProgramResult result = run_program({"quantize", transformer(), folder_.path() / "q.safetensors"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "double_blocks.0.img_attn.proj.weight"));
  EXPECT_TRUE(contains(result.out, "q.safetensors: Open-Sora transformer, "));
  EXPECT_TRUE(contains(result.out, "matrices quantised, "));
  const test::ProgramResult quiet =
      run_program({"quantize", transformer(), folder_.path() / "q.safetensors", "--overwrite", "-q"});
  EXPECT_EQ(std::count(quiet.out.begin(), quiet.out.end(), '\n'), 1) << quiet.out;
}

TEST_F(QuantizeCommand, PrintsJson) {
  const fs::path file = folder_.path() / "q.safetensors";
  const test::ProgramResult result = run_program({"quantize", transformer(), file, "--to", "fp8", "--json"});
  const json report = json::parse(result.out);
  EXPECT_EQ(report["path"], file.string());
  EXPECT_EQ(report["bytes"], fs::file_size(file));
  EXPECT_EQ(report["input_bytes"], fs::file_size(transformer()));
  ASSERT_FALSE(report["layers"].empty());
  for (const json& layer : report["layers"]) {
    EXPECT_GT(layer["error"], 0);
    EXPECT_LE(layer["error"], report["largest_error"]);
  }
}

TEST_F(QuantizeCommand, RefusesBeforeItWrites) {
  const std::string out = folder_.path() / "q.safetensors";
  expect_error({"quantize", transformer(), out, "--to", "int3"}, 2, {"int3"});
  expect_error({"quantize", transformer(), out, "--to", "fp8", "--rotate"}, 2, {"--rotate", "--to"});
  expect_error({"quantize", folder_.path() / "none.safetensors", out}, 4, {"no checkpoint \"none.safetensors\""});
  expect_error({"quantize", test::checkpoint_dir() / "hunyuan_vae.safetensors", out}, 4, {"HunyuanVAE"});
  folder_.write("q.safetensors", "mine");
  expect_error({"quantize", transformer(), out}, 7, {"q.safetensors exists; give --overwrite or another OUT"});
  EXPECT_EQ(test::read_file(out), "mine");
}

TEST_F(QuantizeCommand, NeverReplacesTheOriginal) {
  const fs::path original = folder_.path() / "model.safetensors", link = folder_.path() / "link.safetensors";
  fs::copy_file(transformer(), original);
  fs::create_symlink(original, link);
  for (const fs::path& out : {original, link}) {
    expect_error({"quantize", original, out, "--overwrite"}, 7, {out.filename(), "expected another file"});
  }
  EXPECT_EQ(test::read_file(original), test::read_file(transformer()));
}

TEST_F(QuantizeCommand, ItsFilesAreKnownToAllCommands) {
  const std::string config = test::checkpoint_dir() / "tiny.json";
  const auto planned = [&](const fs::path& models) {
    return json::parse(run_program({"plan", "-p", "x", "--model-dir", models, "--config", config, "--json", "-q"}).out);
  };
  const json whole = planned(test::checkpoint_dir());
  for (const char* to : {"int8", "fp8"}) {
    const fs::path models = folder_in(to);
    const test::ProgramResult inspected = run_program({"inspect", models / "Open_Sora_v2.safetensors"});
    EXPECT_TRUE(contains(inspected.out, to == std::string("int8") ? "int8 by row" : "fp8 (e4m3) by row"));
    const test::ProgramResult verified = run_program({"verify", models, "--config", config, "--full"});
    EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.err;
    EXPECT_FALSE(contains(verified.err, "unused"));
    const json plan = planned(models);
    ASSERT_EQ(plan["stages"].size(), whole["stages"].size());
    for (size_t i = 0; i < plan["stages"].size(); ++i) {
      const json &here = plan["stages"][i], &there = whole["stages"][i];
      const bool is_quantized = here["model"] == "model" || here["model"] == "t5";
      EXPECT_EQ(here["stored_bytes"] < there["stored_bytes"], is_quantized) << here["model"];
    }
    fs::remove_all(models);
  }
}

// The video is the same wherever the weights are, and --from makes it again.
TEST_F(QuantizeCommand, RunsOfAllKindsAgree) {
  Arguments quick = quick_with(folder_in("int8"));
  quick.back() = folder_.path() / "out.mkv";
  quick = quick + Arguments{"--codec", "ffv1", "--overwrite", "-q"};
  const auto make = [&](const Arguments& arguments) {
    const test::ProgramResult result = run_program(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return test::read_file(folder_.path() / "out.mkv");
  };
  const Arguments bare = quick + Arguments{"--no-metadata"};
  const std::string expected = make(bare);
  for (const Arguments& more :
       std::vector<Arguments>{{"--offload", "none"}, {"--offload", "block"}, {"--max-memory", "1GiB"}}) {
    EXPECT_TRUE(make(bare + more) == expected) << more.front() << " " << more.back();
  }
  make(quick);
  fs::copy_file(folder_.path() / "out.mkv", folder_.path() / "first.mkv");
  EXPECT_TRUE(make({"generate", "--from", folder_.path() / "first.mkv", "--model-dir", quick[2], "--device", "cpu",
                    "-o", folder_.path() / "out.mkv", "--overwrite", "-q", "--no-metadata"}) == expected);
}

class QuantizedBatch : public test::BatchFixture {};

TEST_F(QuantizedBatch, IsResumedOnlyWithTheWeightsThatItWasMadeWith) {
  const std::string weights = folder_.path() / "int8.safetensors";
  const std::string demo = std::string(OPENSORA_CONFIGS) + "/demo/Open_Sora_v2.safetensors";
  ASSERT_EQ(run_program({"quantize", demo, weights}).exit_code, 0);
  const fs::path prompts = folder_.write("p.txt", "a red circle\na blue square\n");
  const Arguments exact = {"--num-frames", "1", "--steps", "2", "-s", "1"};
  const Arguments quantized = exact + Arguments{"--diffusion-model", weights};
  ASSERT_EQ(run(prompts, "out", quantized).exit_code, 0);
  const auto made = files("out");
  EXPECT_EQ(run(prompts, "out", quantized + Arguments{"--resume"}).exit_code, 0);
  EXPECT_EQ(files("out"), made);
  for (const auto& [key, count] : how_often("out", "video_done")) EXPECT_EQ(count, 1) << key;
  ASSERT_EQ(run(prompts, "exact", exact).exit_code, 0);
  EXPECT_NE(files("exact"), made);
}

// With all that makes a run smaller or faster: what a shard does not make is made by another, and what one shard has
// begun is not made twice.
TEST_F(QuantizedBatch, CutIntoShardsMakesTheSameFiles) {
  const std::string weights = folder_.path() / "int8.safetensors";
  const std::string demo = std::string(OPENSORA_CONFIGS) + "/demo/Open_Sora_v2.safetensors";
  ASSERT_EQ(run_program({"quantize", demo, weights}).exit_code, 0);
  const fs::path prompts = folder_.write(
      "p.csv", "prompt,name,cache,speed\na,exact,,\nb,pairs,pairs:0.1,\nc,fast,,1.5\nd,listed,\"steps:1-6,9,12\",\n");
  const Arguments flags = {"--num-frames", "1", "--steps", "12", "-s", "1", "--diffusion-model", weights};
  ASSERT_EQ(run(prompts, "whole", flags).exit_code, 0);
  const auto expected = files("whole");
  ASSERT_EQ(expected.size(), 4U);
  for (const char* resume : {"--keep-going", "--resume"}) {
    for (const char* shard : {"1/3", "2/3", "3/3"}) {
      EXPECT_EQ(run(prompts, "cut", flags + Arguments{"--shard", shard, resume}).exit_code, 0) << shard;
    }
    EXPECT_EQ(files("cut"), expected);
  }
  const auto sampled_by = [&](const std::string& shard) {
    std::vector<std::string> names;
    for (const json& line : journal("cut", "run-" + shard + "-of-3.jsonl")) {
      if (line["event"] == "video_sampled") names.push_back(fs::path(line["output"].get<std::string>()).stem());
    }
    return names;
  };
  EXPECT_EQ(sampled_by("1"), (std::vector<std::string>{"exact", "listed"}));
  EXPECT_EQ(sampled_by("2"), std::vector<std::string>{"pairs"});
  EXPECT_EQ(sampled_by("3"), std::vector<std::string>{"fast"});
}

}  // namespace
}  // namespace opensora
