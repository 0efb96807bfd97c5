// The blocks of llama.cpp against the numbers that its own packages make of them.
#include "core/ggml_blocks.h"

#include <gtest/gtest.h>

#include <string>

#include "io/safetensors.h"
#include "support/gguf_writer.h"

namespace opensora {
namespace {

// Compares bits: 0 and -0 are not the same.
bool same_bits(const at::Tensor& a, const at::Tensor& b) { return a.view(at::kInt).equal(b.view(at::kInt)); }

// Random bytes with finite scales, and what the dequantize() of the Python package gguf 0.19 made of them.
class GgmlBlocks : public testing::TestWithParam<QuantizedFormat> {
 protected:
  const io::SafetensorsFile file_{OPENSORA_TEST_DATA "/cases/ggml_blocks.safetensors"};
  const std::string name_ = format_name(GetParam());
  const at::Tensor bytes_ = file_.tensor(name_ + ".bytes"), numbers_ = file_.tensor(name_ + ".numbers");
  const QuantizedTensor matrix_{.format = GetParam(), .data = bytes_, .scale = {}};
};

INSTANTIATE_TEST_SUITE_P(Formats, GgmlBlocks, testing::ValuesIn(test::kBlockFormats),
                         [](const auto& format) { return std::string(format_name(format.param)); });

TEST_P(GgmlBlocks, AreTheNumbersOfLlamaCpp) {
  EXPECT_EQ(at::IntArrayRef(matrix_.shape()), numbers_.sizes());
  EXPECT_TRUE(same_bits(dequantized(matrix_, at::kFloat), numbers_));
}

TEST_P(GgmlBlocks, OperatorsThatRunOnAnyDeviceAgree) {
  EXPECT_TRUE(same_bits(decode_blocks(bytes_, GetParam()), numbers_));
}

TEST_P(GgmlBlocks, AreRoundedOnceToOtherDtypes) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    EXPECT_TRUE(dequantized(matrix_, dtype).equal(numbers_.to(dtype))) << dtype;
  }
}

TEST_P(GgmlBlocks, ViewsOfRowsAndIntoPartsOfABuffer) {
  const BlockSize block = block_size(GetParam());
  const at::Tensor buffer = at::zeros({2, 1000});
  const at::Tensor part = buffer.narrow(1, 100, block.elements);
  dequantize_into(part, {.format = GetParam(), .data = bytes_.narrow(1, block.bytes, block.bytes), .scale = {}});
  EXPECT_TRUE(part.equal(numbers_.narrow(1, block.elements, block.elements)));
  EXPECT_EQ(buffer.narrow(1, 0, 100).count_nonzero().item<int64_t>(), 0);
  const QuantizedTensor row{.format = GetParam(), .data = bytes_.narrow(0, 1, 1), .scale = {}};
  EXPECT_TRUE(dequantized(row, at::kFloat).equal(numbers_.narrow(0, 1, 1)));
}

// What the other tests' files are made with.
TEST_P(GgmlBlocks, BlocksThatTestsMakeAreTheNumbersThatWerePacked) {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({70, 512});
  const test::Blocks blocks = test::to_blocks(weight, GetParam());
  EXPECT_TRUE(same_bits(dequantized(blocks.matrix, at::kFloat), blocks.numbers));
  EXPECT_LT((blocks.numbers - weight).norm().item<double>(), 0.12 * weight.norm().item<double>());
}

}  // namespace
}  // namespace opensora
