// The program on files in 8 bits and fewer: runs, inspect, verify, and the exit code of what is damaged.
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/quantized_files.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::all_weights;
using test::contains;
using test::NamedTensors;
using test::ProgramResult;
using test::run_program;

const fs::path kDemoFolder = fs::path(OPENSORA_CONFIGS) / "demo";
constexpr const char* kT5Folder = "google/t5-v1_1-xxl";

class QuantizedFilesOfTheDemo : public testing::Test {
 protected:
  // The demo model's folder without the weights of the transformer and of T5.
  fs::path folder_without_weights(const std::string& name) const {
    const fs::path model = folder_.path() / name;
    fs::create_directories(model / kT5Folder);
    for (const fs::directory_entry& entry : fs::directory_iterator(kDemoFolder)) {
      const std::string file = entry.path().filename();
      if (file != "google" && file != "Open_Sora_v2.safetensors") fs::create_symlink(fs::absolute(entry), model / file);
    }
    for (const fs::directory_entry& entry : fs::directory_iterator(kDemoFolder / kT5Folder)) {
      if (entry.path().extension() == ".safetensors") continue;
      fs::create_symlink(fs::absolute(entry), model / kT5Folder / entry.path().filename());
    }
    return model;
  }
  // Five frames in two steps; the tensors' bytes.
  std::string generate(const fs::path& model) const {
    const fs::path output = folder_.path() / "out", tensors = folder_.path() / "out.safetensors";
    const ProgramResult result =
        run_program({"generate", "--model-dir", model, "-p", "a red circle moves right", "--num-frames", "5", "--steps",
                     "2", "-s", "7", "--device", "cpu", "--no-metadata", "--overwrite", "-o", output.string() + ".mp4",
                     "--save-tensors", tensors});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return test::read_file(tensors);
  }
  // What a run makes of `model`, which holds files that stand for these weights, it makes of the weights themselves.
  void expect_same_run(const fs::path& model, const NamedTensors& transformer, const NamedTensors& t5) const {
    const fs::path plain = folder_without_weights("plain");
    io::save_safetensors(plain / "Open_Sora_v2.safetensors", transformer);
    io::save_safetensors(plain / kT5Folder / "model.safetensors", t5);
    const std::string bytes = generate(model);
    EXPECT_FALSE(bytes.empty());
    EXPECT_TRUE(bytes == generate(plain));
  }

  const NamedTensors transformer_ = all_weights(kDemoFolder / "Open_Sora_v2.safetensors"),
                     t5_ = all_weights(kDemoFolder / kT5Folder);
  test::TemporaryFolder folder_;
};

TEST_F(QuantizedFilesOfTheDemo, GgufIsFoundByItsNameAndGivesTheLatentOfItsNumbers) {
  const fs::path model = folder_without_weights("gguf");
  const NamedTensors transformer =
      test::write_gguf(model / "Open_Sora_v2-Q4_K_S.gguf", transformer_, QuantizedFormat::kQ4_K, "flux");
  const NamedTensors t5 =
      test::write_gguf(model / kT5Folder / "t5-v1_1-xxl-encoder-Q8_0.gguf", t5_, QuantizedFormat::kQ8_0, "t5encoder");
  expect_same_run(model, transformer, t5);
}

TEST_F(QuantizedFilesOfTheDemo, ComfyUisScaledFp8GivesTheLatentOfItsNumbers) {
  const fs::path model = folder_without_weights("comfy");
  const test::FileLayout layout = test::file_layouts()[2];
  ASSERT_EQ(layout.name, "ComfyUI, scaled fp8 of old");
  const NamedTensors transformer =
      test::write_quantized(model / "Open_Sora_v2.safetensors", transformer_, layout, "model.diffusion_model.");
  const NamedTensors t5 = test::write_quantized(model / "t5xxl_fp8_e4m3fn_scaled.safetensors", t5_, layout);
  expect_same_run(model, transformer, t5);
}

TEST_F(QuantizedFilesOfTheDemo, InspectAndVerifyKnowThem) {
  const fs::path model = folder_without_weights("gguf");
  const fs::path file = model / "Open_Sora_v2-Q6_K.gguf";
  test::write_gguf(file, transformer_, QuantizedFormat::kQ6_K, "flux");
  test::write_gguf(model / kT5Folder / "t5xxl-Q4_0.gguf", t5_, QuantizedFormat::kQ4_0, "t5encoder");
  const nlohmann::json info = nlohmann::json::parse(run_program({"inspect", file, "--json"}).out);
  EXPECT_EQ(info["kind"], "Open-Sora transformer");
  EXPECT_EQ(info["variant"]["weights"], "Q8_0; Q6_K");
  EXPECT_EQ(info["metadata"]["general.architecture"], "flux");
  EXPECT_TRUE(info["dtypes"].contains("Q6_K"));
  EXPECT_TRUE(contains(run_program({"inspect", model / kT5Folder / "t5xxl-Q4_0.gguf"}).out, "T5 encoder"));
  const ProgramResult verified = run_program({"verify", model, "--full"});
  EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.err;
}

TEST_F(QuantizedFilesOfTheDemo, VerifyFindsScalesAndNumbersThatAreNotFinite) {
  const fs::path model = folder_without_weights("broken");
  test::write_quantized(model / kT5Folder / "model.safetensors", t5_, test::file_layouts().back());
  NamedTensors damaged;
  for (const auto& [name, tensor] : transformer_) {
    const bool is_layer = tensor.dim() == 2 && name.find("_blocks.1.img_mlp") != std::string::npos;
    damaged.emplace_back(name, is_layer ? tensor.to(at::kFloat8_e4m3fn).clone() : tensor);
    if (name == "double_blocks.1.img_mlp.2.weight") damaged.back().second.view(at::kByte)[3][4] = 0x7f;  // NaN
  }
  io::save_safetensors(model / "Open_Sora_v2.safetensors", damaged);
  const std::string full = run_program({"verify", model, "--full"}).out;
  EXPECT_TRUE(contains(full, "double_blocks.1.img_mlp.2.weight: 1 of 65536 values are NaN or infinite"));
  for (auto& [name, tensor] : damaged) {
    if (name == "double_blocks.1.img_mlp.2.weight") tensor = tensor.view(at::kChar);
  }
  damaged.emplace_back("double_blocks.1.img_mlp.2.weight_scale",
                       at::full({128, 1}, std::numeric_limits<float>::infinity()));
  damaged.emplace_back("double_blocks.1.img_mlp.0.weight_scale", at::ones({1}));
  io::save_safetensors(model / "Open_Sora_v2.safetensors", damaged, {}, /*overwrite=*/true);
  const std::string problem =
      "tensor \"double_blocks.1.img_mlp.2.weight_scale\": 128 of 128 scales are NaN or infinite";
  EXPECT_TRUE(contains(run_program({"verify", model}).out, problem));
  const ProgramResult run = run_program({"generate", "--model-dir", model, "-p", "a red circle", "--num-frames", "5",
                                         "--steps", "2", "--device", "cpu", "-o", folder_.path() / "x.mp4"});
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_TRUE(contains(run.err, problem));
  EXPECT_FALSE(fs::exists(folder_.path() / "x.mp4"));
}

TEST_F(QuantizedFilesOfTheDemo, WhatCannotBeReadIsRefusedByName) {
  const fs::path model = folder_without_weights("nvfp4");
  test::FileLayout layout = test::file_layouts()[3];
  layout.store = [store = layout.store](const at::Tensor& weight) {
    test::StoredLayer layer = store(weight);
    layer.tensors[2].second = test::bytes_of_text(R"({"format": "nvfp4"})");
    return layer;
  };
  test::write_quantized(model / "Open_Sora_v2.safetensors", transformer_, layout);
  const ProgramResult run = run_program({"inspect", model / "Open_Sora_v2.safetensors"});
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_TRUE(contains(run.err, "is stored as \"nvfp4\", which cannot be read"));
}

}  // namespace
}  // namespace opensora
