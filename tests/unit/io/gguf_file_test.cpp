// GGUF files: what is read, and what is refused by name.
#include "io/gguf_file.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint.h"
#include "opensora/checkpoint.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/file_error.h"
#include "support/gguf_writer.h"
#include "support/temporary_folder.h"

namespace opensora::io {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::gguf_tensor;
using test::gguf_value;
using test::GgufContent;

class GgufFiles : public testing::Test {
 protected:
  fs::path write(const GgufContent& content) { return folder_.write("case.gguf", content.bytes()); }
  // What opening it says, which names the file and is one line.
  std::string error_of(const GgufContent& content) { return content_error(content.bytes()); }
  std::string content_error(const std::string& bytes) {
    const fs::path file = folder_.write("case.gguf", bytes);
    return test::checkpoint_error(file, [&] { Checkpoint::open(file); });
  }
  test::TemporaryFolder folder_;
};

// Two tensors and some metadata: what the damaged ones are made of.
GgufContent good() {
  at::manual_seed(1);
  return {.values = {{"general.architecture", gguf_value("flux")}, {"general.quantization_version", gguf_value(2U)}},
          .tensors = {gguf_tensor("a.weight", at::randn({3, 5})),
                      gguf_tensor("b.weight", test::to_blocks(at::randn({4, 256}), QuantizedFormat::kQ4_K))}};
}

TEST_F(GgufFiles, EveryTypeIsReadInVersions2And3) {
  at::manual_seed(2);
  const at::Tensor matrix = at::randn({6, 512});
  for (const uint32_t version : {2U, 3U}) {
    GgufContent content{.version = version};
    std::vector<std::pair<std::string, at::Tensor>> expected;
    for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
      content.tensors.push_back(gguf_tensor(c10::toString(dtype), matrix.to(dtype)));
      expected.emplace_back(c10::toString(dtype), matrix.to(dtype));
    }
    for (const QuantizedFormat format : test::kBlockFormats) {
      const test::Blocks blocks = test::to_blocks(matrix, format);
      content.tensors.push_back(gguf_tensor(format_name(format), blocks));
      expected.emplace_back(format_name(format), blocks.numbers);
    }
    const auto checkpoint = Checkpoint::open(write(content));
    for (const auto& [name, numbers] : expected) {
      EXPECT_EQ(at::IntArrayRef(checkpoint->info(name).shape), numbers.sizes());
      EXPECT_TRUE(checkpoint->find(name, {})->equal(numbers)) << name;
      const auto quantized = checkpoint->quantized(name, {});
      ASSERT_EQ(quantized.has_value(), name.starts_with("Q")) << name;
      if (!quantized) continue;
      EXPECT_EQ(format_name(quantized->format), name);
      EXPECT_EQ(at::IntArrayRef(quantized->shape()), numbers.sizes());
    }
  }
}

TEST_F(GgufFiles, MetadataAndAlignment) {
  GgufContent content = good();
  content.alignment = 128;
  content.values.emplace_back("general.alignment", gguf_value(128U));
  content.values.emplace_back("a.list", gguf_value(std::vector<int32_t>(100, 7)));
  content.values.emplace_back("a.number", gguf_value(0.5F));
  const GgufFile file(write(content));
  EXPECT_EQ(file.metadata().at("general.architecture"), "flux");
  EXPECT_EQ(file.metadata().at("general.quantization_version"), "2");
  EXPECT_EQ(file.metadata().at("a.list"), "100 values");
  EXPECT_EQ(file.metadata().at("a.number"), "0.5");
  EXPECT_EQ(file.tensors().at("a.weight").begin % 128, 0U);
  EXPECT_EQ(file.tensor("a.weight").sizes(), (at::IntArrayRef{3, 5}));
}

// city96's converter stores some tensors with rows of 256 and notes their shape.
TEST_F(GgufFiles, ShapesThatWereChangedForTheBlocksAreRestored) {
  at::manual_seed(3);
  const test::Blocks blocks = test::to_blocks(at::randn({3, 256}), QuantizedFormat::kQ4_K);
  GgufContent content;
  content.tensors = {gguf_tensor("conv.weight", blocks), gguf_tensor("odd.weight", blocks)};
  content.values = {{"comfy.gguf.orig_shape.conv.weight", gguf_value(std::vector<int32_t>{8, 12, 2, 4})},
                    {"comfy.gguf.orig_shape.odd.weight", gguf_value(std::vector<int32_t>{12, 64})}};
  const auto checkpoint = Checkpoint::open(write(content));
  EXPECT_TRUE(checkpoint->find("conv.weight", {})->equal(blocks.numbers.view({8, 12, 2, 4})));
  EXPECT_TRUE(checkpoint->find("odd.weight", {})->equal(blocks.numbers.view({12, 64})));
  EXPECT_FALSE(checkpoint->quantized("odd.weight", {})) << "its rows are not whole blocks";
  content.values[1].second = gguf_value(std::vector<int32_t>{12, 65});
  EXPECT_TRUE(contains(error_of(content),
                       "tensor \"odd.weight\": its \"comfy.gguf.orig_shape\" is [12, 65], but it is "
                       "stored as [3, 256]"));
}

TEST_F(GgufFiles, AT5EncoderHasHuggingFacesNames) {
  const std::vector<std::pair<std::string, std::string>> names = {
      {"token_embd.weight", "shared.weight"},
      {"enc.output_norm.weight", "encoder.final_layer_norm.weight"},
      {"enc.blk.0.attn_rel_b.weight", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"},
      {"enc.blk.0.attn_norm.weight", "encoder.block.0.layer.0.layer_norm.weight"},
      {"enc.blk.11.attn_q.weight", "encoder.block.11.layer.0.SelfAttention.q.weight"},
      {"enc.blk.11.attn_k.weight", "encoder.block.11.layer.0.SelfAttention.k.weight"},
      {"enc.blk.11.attn_v.weight", "encoder.block.11.layer.0.SelfAttention.v.weight"},
      {"enc.blk.11.attn_o.weight", "encoder.block.11.layer.0.SelfAttention.o.weight"},
      {"enc.blk.2.ffn_norm.weight", "encoder.block.2.layer.1.layer_norm.weight"},
      {"enc.blk.2.ffn_gate.weight", "encoder.block.2.layer.1.DenseReluDense.wi_0.weight"},
      {"enc.blk.2.ffn_up.weight", "encoder.block.2.layer.1.DenseReluDense.wi_1.weight"},
      {"enc.blk.2.ffn_down.weight", "encoder.block.2.layer.1.DenseReluDense.wo.weight"},
      {"enc.blk.weight", "enc.blk.weight"},
      {"enc.blk.2.other.weight", "enc.blk.2.other.weight"}};
  for (const char* architecture : {"t5encoder", "t5", "flux"}) {
    GgufContent content{.values = {{"general.architecture", gguf_value(architecture)}}};
    for (const auto& [theirs, ours] : names) content.tensors.push_back(gguf_tensor(theirs, at::zeros({2})));
    const GgufFile file(write(content));
    const bool is_t5 = std::string(architecture) != "flux";
    for (const auto& [theirs, ours] : names) EXPECT_TRUE(file.tensors().contains(is_t5 ? ours : theirs)) << ours;
  }
}

TEST_F(GgufFiles, InspectTellsTheirFormats) {
  const CheckpointInfo info = inspect(write(good()));
  EXPECT_EQ(info.dtypes, (std::map<std::string, int64_t>{{"F32", 1}, {"Q4_K", 1}}));
  EXPECT_EQ(info.parameters, 3 * 5 + 4 * 256);
  EXPECT_EQ(info.bytes, 60 + 4 * 144);
  const std::pair<std::string, std::string> weights = {"weights", "Q4_K"};
  EXPECT_EQ(info.variant.back(), weights);
  EXPECT_EQ(find_checkpoints(folder_.path()), std::vector<fs::path>{info.path});
}

TEST_F(GgufFiles, DamagedOnesAreRefusedByName) {
  using Change = std::function<void(GgufContent & content)>;
  const std::vector<std::pair<Change, std::string>> cases = {
      {[](GgufContent& c) { c.version = 1; }, "is of GGUF version 1, expected 2 or 3"},
      {[](GgufContent& c) { c.version = 0x03000000; }, "is a big-endian GGUF file"},
      {[](GgufContent& c) { c.tensors[1].type = 10; }, "tensor \"b.weight\": is of type Q2_K, which cannot be read"},
      {[](GgufContent& c) { c.tensors[1].type = 39; }, "tensor \"b.weight\": is of type MXFP4, which cannot be read"},
      {[](GgufContent& c) { c.tensors[1].type = 99; }, "tensor \"b.weight\": is of type number 99"},
      {[](GgufContent& c) { c.tensors[0].type = 12; },
       "tensor \"a.weight\": its rows have 5 elements, which are not whole blocks of Q4_K (256 elements)"},
      {[](GgufContent& c) { c.tensors[1].name = "a.weight"; }, "tensor \"a.weight\": stands twice"},
      {[](GgufContent& c) { c.values[1].first = "general.architecture"; },
       "metadata \"general.architecture\": stands twice"},
      {[](GgufContent& c) { c.tensors[1].offset = 32; }, "tensor \"b.weight\" begins inside the tensor before it"},
      {[](GgufContent& c) { c.tensors[1].offset = 65; },
       "tensor \"b.weight\": begins at byte 65 of the data, expected a multiple of 32"},
      {[](GgufContent& c) { c.tensors[1].offset = uint64_t{1} << 63; },
       "tensor \"b.weight\": goes beyond the end of the file"},
      {[](GgufContent& c) {
         c.tensors[1].shape = {5, 256};
       },
       "tensor \"b.weight\": goes beyond the end of the file"},
      {[](GgufContent& c) {
         c.tensors[0].shape = {int64_t{1} << 32, int64_t{1} << 32};
       },
       "tensor \"a.weight\": shape [4294967296, 4294967296] is too large"},
      {[](GgufContent& c) {
         c.tensors[0].shape = {-1, 5};
       },
       "tensor \"a.weight\": a dimension of 18446744073709551615"},
      {[](GgufContent& c) {
         c.tensors[0].shape = {1, 1, 1, 3, 5};
       },
       "tensor \"a.weight\": has 5 dimensions, expected at most 4"},
      {[](GgufContent& c) { c.values.emplace_back("general.alignment", gguf_value(24U)); },
       "metadata \"general.alignment\": \"24\", expected a power of two"},
      {[](GgufContent& c) { c.values.emplace_back("general.alignment", gguf_value("many")); },
       "expected a power of two"},
      {[](GgufContent& c) { c.values.emplace_back("split.count", gguf_value(3U)); },
       "is one of 3 parts of a split file"},
      {[](GgufContent& c) { c.values.emplace_back("x", test::raw<uint32_t>(13)); },
       "metadata \"x\": a value of type 13, expected 0 to 12"},
      {[](GgufContent& c) { c.values.emplace_back("x", test::raw<uint32_t>(9) + test::raw<uint32_t>(9)); },
       "metadata \"x\": a list of lists"},
      {[](GgufContent& c) {
         c.values.emplace_back("x", test::raw<uint32_t>(9) + test::raw<uint32_t>(12) + test::raw(UINT64_MAX));
       },
       "metadata \"x\": ends within its list of tensors"},
      {[](GgufContent& c) { c.values.emplace_back("x", test::raw<uint32_t>(8) + test::raw(UINT64_MAX)); },
       "metadata \"x\": ends within its list of tensors"},
  };
  EXPECT_EQ(error_of(good()), "no error");
  for (const auto& [change, expected] : cases) {
    GgufContent content = good();
    change(content);
    EXPECT_TRUE(contains(error_of(content), expected));
  }
}

// Wherever a file is cut off: an error, and never a read beyond its end.
TEST_F(GgufFiles, CutOffAnywhere) {
  const std::string bytes = good().bytes();
  const size_t data = bytes.size() - 4 * 144 - 64;
  for (size_t length = 1; length < bytes.size(); length += length < data ? 1 : 37) {
    const std::string error = content_error(bytes.substr(0, length));
    EXPECT_NE(error, "no error") << length;
    if (length > 4) EXPECT_TRUE(contains(error, "is the download complete?")) << length;
  }
}

TEST_F(GgufFiles, CountsThatNoFileHasRoomForAreNotBelieved) {
  for (const size_t at : {8, 16}) {  // of tensors, of values
    std::string bytes = good().bytes();
    bytes.replace(at, 8, test::raw(UINT64_MAX / 2));
    EXPECT_TRUE(contains(content_error(bytes), "ends within its list of tensors"));
  }
}

TEST_F(GgufFiles, AreKnownByTheirFirstBytes) {
  const fs::path file = folder_.write("model.safetensors", good().bytes());
  EXPECT_TRUE(Checkpoint::open(file)->contains("b.weight"));
  EXPECT_TRUE(contains(content_error("<!DOCTYPE html>\n<html><body>Log in</body></html>"), "is a web page (HTML)"));
}

}  // namespace
}  // namespace opensora::io
