// Our own files of quantised matrices, and what is wrong with others.
#include "io/quantized_layout.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "opensora/checkpoint.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/temporary_folder.h"

namespace opensora::io {
namespace {

using test::contains;
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

at::Tensor bytes_of_text(const std::string& text) {
  return at::from_blob(const_cast<char*>(text.data()), {static_cast<int64_t>(text.size())}, at::kByte).clone();
}

NamedTensors stored(const QuantizedTensor& matrix, const std::string& layer) {
  return {{layer + ".weight", matrix.data},
          {layer + ".weight_scale", matrix.scale},
          {layer + ".comfy_quant", bytes_of_text(comfy_note(matrix.format, matrix.rotation))}};
}

class QuantizedLayoutTest : public testing::Test {
 protected:
  std::shared_ptr<const Checkpoint> open(const NamedTensors& tensors) {
    const auto file = folder_.path() / (std::to_string(files_++) + ".safetensors");
    save_safetensors(file, tensors);
    return Checkpoint::open(file);
  }
  std::string error_of(const NamedTensors& tensors) {
    try {
      open(tensors);
    } catch (const CheckpointError& error) {
      return error.what();
    }
    return "no error";
  }
  test::TemporaryFolder folder_;
  int files_ = 0;
};

TEST_F(QuantizedLayoutTest, WhatIsWrittenIsRead) {
  at::manual_seed(1);
  for (const QuantizedFormat format : {QuantizedFormat::kInt8, QuantizedFormat::kFp8E4M3}) {
    for (const int64_t rotation : {0, 64}) {
      const QuantizedTensor matrix = quantized_by_row(at::randn({6, 128}), format, rotation);
      NamedTensors tensors = stored(matrix, "a.b");
      tensors.emplace_back("a.b.bias", at::ones({6}));
      const auto checkpoint = open(tensors);
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

TEST_F(QuantizedLayoutTest, ScalesOfOtherShapesAndDtypes) {
  const at::Tensor data = at::ones({4, 8}, at::kChar);
  for (const at::Tensor& scale : {at::full({}, 0.5), at::full({1}, 0.5), at::full({4}, 0.5), at::full({4, 1}, 0.5)}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const auto checkpoint = open({{"x.weight", data}, {"x.weight_scale", scale.to(dtype)}});
      EXPECT_TRUE(checkpoint->find("x.weight", {})->equal(at::full({4, 8}, 0.5)));
    }
  }
}

TEST_F(QuantizedLayoutTest, InspectCountsWeightsAndNotTheirScales) {
  NamedTensors tensors = stored(quantized_by_row(at::randn({6, 64}), QuantizedFormat::kInt8, 64), "a");
  for (auto& tensor : stored(quantized_by_row(at::randn({6, 64}), QuantizedFormat::kFp8E4M3), "b")) {
    tensors.push_back(std::move(tensor));
  }
  const CheckpointInfo info = inspect(open(tensors)->files().front());
  EXPECT_EQ(info.parameters, 2 * 6 * 64);
  const std::pair<std::string, std::string> expected = {
      "quantised", "1 matrices of fp8 (e4m3); 1 matrices of int8, rotated in groups of 64"};
  EXPECT_EQ(info.variant.back(), expected);
}

TEST_F(QuantizedLayoutTest, RefusesWhatItCannotMean) {
  const at::Tensor data = at::ones({4, 8}, at::kChar), scale = at::ones({4, 1});
  EXPECT_TRUE(contains(error_of({{"x.weight", data}, {"x.weight_scale", at::ones({3})}}),
                       "tensor \"x.weight_scale\" is Float of shape [3], expected a number for each of the 4 rows"));
  EXPECT_TRUE(contains(error_of({{"x.weight", data}, {"x.weight_scale", at::ones({4}, at::kInt)}}), "is Int of shape"));
  const auto note_error = [&](const std::string& note) {
    return error_of({{"x.weight", data}, {"x.weight_scale", scale}, {"x.comfy_quant", bytes_of_text(note)}});
  };
  EXPECT_TRUE(contains(note_error("{"), "tensor \"x.comfy_quant\" is not valid JSON"));
  EXPECT_TRUE(contains(note_error("[]"), "is not a JSON object"));
  EXPECT_TRUE(contains(note_error(R"({"format": "nvfp4"})"), "expected \"format\": \"int8_tensorwise\""));
  EXPECT_TRUE(contains(note_error(R"({"format": "int8_tensorwise", "convrot": true})"),
                       "\"convrot_groupsize\" is 256, expected a power of four that divides 8"));
  EXPECT_TRUE(contains(error_of({{"x.weight_scale", scale}}), "holds scaled 8-bit weights"));
  EXPECT_TRUE(contains(error_of({{"x.weight", at::ones({4, 8})}, {"x.weight_scale", scale}}), "scaled 8-bit weights"));
}

}  // namespace
}  // namespace opensora::io
