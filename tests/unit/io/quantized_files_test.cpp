// The files in 8 bits that people have: each against what it stands for, and damaged ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "opensora/checkpoint.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/file_error.h"
#include "support/quantized_files.h"
#include "support/temporary_folder.h"

namespace opensora::io {
namespace {

namespace fs = std::filesystem;
using test::bytes_of_text;
using test::contains;
using test::FileLayout;
using test::NamedTensors;

const std::string kLayer = "double_blocks.0.img_attn.proj", kWeight = kLayer + ".weight";

// The names by which a transformer is known, so that a prefix is found.
NamedTensors small_model() {
  at::manual_seed(1);
  return {{"img_in.weight", at::randn({4, 8})},
          {kWeight, at::randn({6, 128})},
          {kLayer + ".bias", at::randn({6})},
          {"single_blocks.0.linear2.weight", at::randn({128, 64})}};
}

TEST(QuantizedFiles, EveryLayoutIsTheNumbersThatItStandsForBitForBit) {
  const test::TemporaryFolder folder;
  const fs::path file = folder.path() / "case.safetensors";
  for (const std::string& prefix : {std::string(), std::string("model.diffusion_model.")}) {
    for (const FileLayout& layout : test::file_layouts()) {
      const NamedTensors numbers = test::write_quantized(file, small_model(), layout, prefix);
      const auto checkpoint = Checkpoint::open(file);
      std::vector<std::string> names;
      for (const auto& [name, expected] : numbers) {
        names.push_back(name);
        const at::Tensor found = *checkpoint->find(name, {});
        EXPECT_TRUE(found.equal(expected.to(found.scalar_type()))) << layout.name << ": " << prefix << name;
        EXPECT_EQ(checkpoint->quantized(name, {}).has_value(), name.find("_blocks.") + 1 && name.ends_with("weight"))
            << layout.name << ": " << name;
      }
      std::sort(names.begin(), names.end());
      EXPECT_EQ(checkpoint->names(), names) << layout.name;
      const auto matrix = checkpoint->quantized(kWeight, {});
      ASSERT_TRUE(matrix) << layout.name;
      EXPECT_EQ(matrix->shape(), (std::vector<int64_t>{6, 128}));
      const bool is_exact = layout.name == "ComfyUI, scaled fp8 of old" || layout.name.starts_with("plain");
      EXPECT_EQ(matrix->exact_products, is_exact) << layout.name;
      const CheckpointInfo info = inspect(file);
      EXPECT_EQ(info.parameters, 4 * 8 + 6 * 128 + 6 + 128 * 64) << layout.name;
      const std::pair<std::string, std::string> weights = {"weights", layout.description};
      EXPECT_EQ(std::count(info.variant.begin(), info.variant.end(), weights), 1) << layout.name;
    }
  }
}

TEST(QuantizedFiles, MatricesAreViewsOfTheFile) {
  const test::TemporaryFolder folder;
  const fs::path file = folder.path() / "case.safetensors";
  test::write_quantized(file, small_model(), test::file_layouts().back());
  const auto checkpoint = Checkpoint::open(file);
  const auto first = checkpoint->quantized(kWeight, {}), second = checkpoint->quantized(kWeight, {});
  EXPECT_EQ(first->data.const_data_ptr(), second->data.const_data_ptr());
  EXPECT_EQ(first->scale.const_data_ptr(), second->scale.const_data_ptr());
}

TEST(QuantizedFiles, WhatIsWrittenIsRead) {
  const test::TemporaryFolder folder;
  const fs::path file = folder.path() / "case.safetensors";
  at::manual_seed(1);
  for (const QuantizedFormat format : {QuantizedFormat::kInt8, QuantizedFormat::kFp8E4M3}) {
    for (const int64_t rotation : {0, 64}) {
      const QuantizedTensor matrix = quantized_by_row(at::randn({6, 128}), format, rotation);
      save_safetensors(file,
                       {{"a.b.weight", matrix.data},
                        {"a.b.weight_scale", matrix.scale},
                        {"a.b.comfy_quant", bytes_of_text(comfy_note(format, rotation))},
                        {"a.b.bias", at::ones({6})}},
                       {}, /*overwrite=*/true);
      const auto checkpoint = Checkpoint::open(file);
      const auto read = checkpoint->quantized("a.b.weight", {});
      ASSERT_TRUE(read);
      EXPECT_EQ(read->format, format);
      EXPECT_EQ(read->rotation, rotation);
      EXPECT_TRUE(read->data.equal(matrix.data));
      EXPECT_TRUE(read->scale.equal(matrix.scale));
      EXPECT_TRUE(checkpoint->find("a.b.weight", {})->equal(dequantized(matrix, at::kFloat)));
      EXPECT_FALSE(checkpoint->quantized("a.b.bias", {}));
      EXPECT_EQ(checkpoint->names(), (std::vector<std::string>{"a.b.bias", "a.b.weight"}));
      EXPECT_EQ(checkpoint->elements(), 6 * 128 + 6);
    }
  }
}

TEST(QuantizedFiles, ScalesOfOtherShapesAndDtypes) {
  const test::TemporaryFolder folder;
  const fs::path file = folder.path() / "case.safetensors";
  const at::Tensor data = at::ones({4, 8}, at::kChar);
  for (const at::Tensor& scale : {at::full({}, 0.5), at::full({1}, 0.5), at::full({4}, 0.5), at::full({4, 1}, 0.5)}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      save_safetensors(file, {{"x.weight", data}, {"x.weight_scale", scale.to(dtype)}}, {}, /*overwrite=*/true);
      EXPECT_TRUE(Checkpoint::open(file)->find("x.weight", {})->equal(at::full({4, 8}, 0.5)));
    }
  }
}

// Tables that are looked rows up in may be in plain fp8 where layers have scales.
TEST(QuantizedFiles, ATableOfWordsNeedsNoScale) {
  const test::TemporaryFolder folder;
  const fs::path file = folder.path() / "case.safetensors";
  const at::Tensor table = at::randn({5, 8}).to(at::kFloat8_e4m3fn);
  save_safetensors(file, {{"shared.weight", table},
                          {"scaled_fp8", at::zeros({0}, at::kFloat8_e4m3fn)},
                          {"x.weight", table},
                          {"x.scale_weight", at::full({1}, 0.5)}});
  const auto checkpoint = Checkpoint::open(file);
  EXPECT_TRUE(checkpoint->find("shared.weight", {})->equal(table.to(at::kFloat)));
  EXPECT_TRUE(checkpoint->find("x.weight", {})->equal(table.to(at::kFloat) / 2));
  EXPECT_FALSE(checkpoint->quantized("x.weight", {})->exact_products);
}

class DamagedFiles : public testing::Test {
 protected:
  // What opening the file and reading all of its matrices says, which names the file and is one line.
  std::string error_of(const NamedTensors& tensors, const std::map<std::string, std::string>& metadata = {}) const {
    const fs::path file = folder_.path() / "case.safetensors";
    save_safetensors(file, tensors, metadata, /*overwrite=*/true);
    return test::checkpoint_error(file, [&] {
      const auto checkpoint = Checkpoint::open(file);
      for (const std::string& name : checkpoint->names()) checkpoint->quantized(name, {});
    });
  }
  void expect_error(const NamedTensors& tensors, const std::string& expected) const {
    EXPECT_TRUE(contains(error_of(tensors), expected));
  }
  std::string note_error(const at::Tensor& weight, const std::string& note) const {
    return error_of(
        {{"x.weight", weight}, {"x.weight_scale", at::ones({4, 1})}, {"x.comfy_quant", bytes_of_text(note)}});
  }

  const at::Tensor fp8_ = at::ones({4, 8}, at::kFloat8_e4m3fn), int8_ = at::ones({4, 8}, at::kChar);
  test::TemporaryFolder folder_;
};

TEST_F(DamagedFiles, ScalesThatDoNotFit) {
  const std::string expected = ", expected [1], [4, 1] or [4, n, 1] of n equal parts of a row, for weights of [4, 8]";
  expect_error({{"x.weight", fp8_}, {"x.weight_scale", at::ones({3, 1})}},
               "tensor \"x.weight_scale\": shape [3, 1]" + expected);
  expect_error({{"x.weight", fp8_}, {"x.scale_weight", at::ones({4, 3, 1})}},
               "tensor \"x.scale_weight\": shape [4, 3, 1]" + expected);
  expect_error({{"x.weight", fp8_}, {"x.scale_weight", at::ones({1, 8})}}, "shape [1, 8]" + expected);
  expect_error({{"x.weight", fp8_}, {"x.scale_weight", at::ones({4, 0})}}, "shape [4, 0]" + expected);
  expect_error({{"x.weight", fp8_}, {"x.weight_scale", fp8_.narrow(1, 0, 1)}},
               "tensor \"x.weight_scale\": dtype F8_E4M3, expected F32, F16 or BF16");
  expect_error({{"x.weight", int8_}, {"x.weight_scale", at::ones({4, 1}, at::kByte)}}, "dtype U8, expected F32");
  const at::Tensor bad = at::tensor({1.0F, std::numeric_limits<float>::quiet_NaN(), 2.0F,  //
                                     std::numeric_limits<float>::infinity()});
  expect_error({{"x.weight", fp8_}, {"x.weight_scale", bad}},
               "tensor \"x.weight_scale\": 2 of 4 scales are NaN or infinite");
}

TEST_F(DamagedFiles, ScalesThatAreMissingOrTooMany) {
  expect_error({{"x.weight", int8_}}, "tensor \"x.weight\": is int8 without a scale, expected \"x.weight_scale\"");
  expect_error({{"x.weight", fp8_}, {"y.weight", fp8_}, {"y.scale_weight", at::ones({1})}},
               "tensor \"x.weight\": is fp8 (e4m3) without a scale, expected \"x.weight_scale\"");
  expect_error({{"x.weight", fp8_}, {"scaled_fp8", at::zeros({2})}}, "is fp8 (e4m3) without a scale");
  expect_error({{"x.weight", fp8_}, {"x.weight_scale", at::ones({1})}, {"x.scale_weight", at::ones({1})}},
               "tensor \"x.weight\": has two scales, \"x.weight_scale\" and \"x.scale_weight\"");
  expect_error({{"x.weight_scale", at::ones({1})}, {"y.weight", at::ones({4, 8})}},
               "tensor \"x.weight_scale\": is to scale \"x.weight\", but there is no matrix in 8 bits of that name");
  expect_error({{"x.weight_scale", at::ones({1})}, {"x.weight", at::ones({4, 8})}}, "is to scale \"x.weight\", but");
  expect_error({{"x.scale_weight", at::ones({1})}, {"x.weight", at::ones({2, 2, 2}, at::kFloat8_e5m2)}},
               "is to scale \"x.weight\", but");
}

TEST_F(DamagedFiles, NotesThatCannotBeRead) {
  EXPECT_TRUE(contains(note_error(at::ones({4, 4}, at::kByte), R"({"format": "nvfp4"})"),
                       "tensor \"x.weight\": is stored as \"nvfp4\", which cannot be read"));
  EXPECT_TRUE(contains(note_error(fp8_, R"({"format": "mxfp8"})"), "is stored as \"mxfp8\", which cannot be read"));
  EXPECT_TRUE(contains(note_error(fp8_, R"([1])"), "is stored as null, which cannot be read"));
  EXPECT_TRUE(contains(note_error(fp8_, "{"), "tensor \"x.comfy_quant\": "));
  EXPECT_TRUE(contains(note_error(fp8_, R"({"format": "int8_tensorwise"})"),
                       "tensor \"x.weight\": is F8_E4M3 [4, 8], expected a matrix of I8, as \"int8_tensorwise\" is"));
  EXPECT_TRUE(contains(note_error(at::ones({4, 8}), R"({"format": "float8_e4m3fn"})"),
                       "is F32 [4, 8], expected a matrix of F8_E4M3"));
  EXPECT_TRUE(contains(note_error(int8_, R"({"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 16})"),
                       "\"convrot_groupsize\" is 16, expected a power of four that divides its 8 columns"));
  EXPECT_TRUE(contains(note_error(int8_, R"({"format": "int8_tensorwise", "params": {"convrot": true}})"),
                       "\"convrot_groupsize\" is 256, expected a power of four"));
  EXPECT_TRUE(contains(note_error(int8_, R"({"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 8})"),
                       "\"convrot_groupsize\" is 8, expected a power of four"));
  EXPECT_EQ(note_error(int8_, R"({"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 4})"), "no error");
  expect_error({{"x.weight", int8_}, {"x.weight_scale", at::ones({1})}, {"x.comfy_quant", at::ones({4})}},
               "tensor \"x.comfy_quant\": is F32 [4], expected a short text of U8");
}

TEST_F(DamagedFiles, MetadataThatCannotBeRead) {
  const auto metadata_error = [&](const std::string& text) {
    return error_of({{"x.weight", int8_}, {"x.weight_scale", at::ones({1})}}, {{"_quantization_metadata", text}});
  };
  EXPECT_TRUE(contains(metadata_error("{"), "metadata \"_quantization_metadata\": "));
  EXPECT_TRUE(contains(metadata_error("[]"), "metadata \"_quantization_metadata\": has no \"layers\""));
  EXPECT_TRUE(contains(metadata_error(R"({"layers": {"x": {"format": "nvfp4"}}})"), "is stored as \"nvfp4\""));
  EXPECT_EQ(metadata_error(R"({"layers": {"x": {"format": "int8_tensorwise"}}})"), "no error");
}

}  // namespace
}  // namespace opensora::io
