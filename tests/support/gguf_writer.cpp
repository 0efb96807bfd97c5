#include "support/gguf_writer.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace opensora::test {
namespace {

float half(float value) { return static_cast<float>(c10::Half(value)); }

// A block as bytes, in which numbers of a few bits are put where the element is to lie.
struct Block {
  std::vector<uint8_t> bytes;
  std::vector<float> numbers;

  explicit Block(QuantizedFormat format)
      : bytes(static_cast<size_t>(block_size(format).bytes)),
        numbers(static_cast<size_t>(block_size(format).elements)) {}
  void put_half(int at, float value) {
    const uint16_t bits = c10::Half(value).x;
    bytes[at] = static_cast<uint8_t>(bits);
    bytes[at + 1] = static_cast<uint8_t>(bits >> 8);
  }
  void put_bits(int at, int shift, int bits) { bytes[at] |= static_cast<uint8_t>(bits << shift); }
};

int rounded(float value, int least, int most) {
  if (!std::isfinite(value)) return 0;
  return std::clamp(static_cast<int>(std::lround(value)), least, most);
}

Block q8_0(const float* x) {
  Block block(QuantizedFormat::kQ8_0);
  float largest = 0;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::abs(x[i]));
  const float scale = half(largest / 127);
  block.put_half(0, scale);
  for (int i = 0; i < 32; ++i) {
    const int q = rounded(x[i] / scale, -128, 127);
    block.bytes[2 + i] = static_cast<uint8_t>(q);
    block.numbers[i] = scale * static_cast<float>(q);
  }
  return block;
}

Block q4_0(const float* x) {
  Block block(QuantizedFormat::kQ4_0);
  float largest = 0;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::abs(x[i]));
  const float scale = half(largest / -8);  // llama.cpp's is negative, too, where the largest is positive
  block.put_half(0, scale);
  for (int i = 0; i < 32; ++i) {
    const int q = rounded(x[i] / scale, -8, 7);
    block.put_bits(2 + i % 16, i / 16 * 4, q + 8);
    block.numbers[i] = scale * static_cast<float>(q);
  }
  return block;
}

// Scale and least value of sub-block j, 6 bits each, among 12 bytes.
void put_pair(Block& block, int at, int j, int scale, int least) {
  if (j < 4) {
    block.put_bits(at + j, 0, scale);
    block.put_bits(at + j + 4, 0, least);
    return;
  }
  block.put_bits(at + j + 4, 0, scale & 15);
  block.put_bits(at + j + 4, 4, least & 15);
  block.put_bits(at + j - 4, 6, scale >> 4);
  block.put_bits(at + j, 6, least >> 4);
}

Block q4_k_or_q5_k(const float* x, bool has_fifth_bit) {
  Block block(has_fifth_bit ? QuantizedFormat::kQ5_K : QuantizedFormat::kQ4_K);
  const int most = has_fifth_bit ? 31 : 15, elements_at = has_fifth_bit ? 48 : 16;
  float spans[8], depths[8], widest = 0, deepest = 0;
  for (int j = 0; j < 8; ++j) {
    const auto [low, high] = std::minmax_element(x + 32 * j, x + 32 * (j + 1));
    depths[j] = std::max(0.0F, -*low);
    spans[j] = (*high + depths[j]) / static_cast<float>(most);
    widest = std::max(widest, spans[j]);
    deepest = std::max(deepest, depths[j]);
  }
  const float d = half(widest / 63), d_least = half(deepest / 63);
  block.put_half(0, d);
  block.put_half(2, d_least);
  for (int j = 0; j < 8; ++j) {
    const int scale = rounded(spans[j] / d, 0, 63), least = rounded(depths[j] / d_least, 0, 63);
    put_pair(block, 4, j, scale, least);
    const float step = d * static_cast<float>(scale), depth = d_least * static_cast<float>(least);
    for (int i = 32 * j; i < 32 * (j + 1); ++i) {
      const int q = rounded((x[i] + depth) / step, 0, most);
      block.put_bits(elements_at + i / 64 * 32 + i % 32, i / 32 % 2 * 4, q & 15);
      if (has_fifth_bit) block.put_bits(16 + i % 32, j, q >> 4);
      block.numbers[i] = step * static_cast<float>(q) - depth;
    }
  }
  return block;
}

Block q6_k(const float* x) {
  Block block(QuantizedFormat::kQ6_K);
  float largest[16], most = 0;
  for (int j = 0; j < 16; ++j) {
    largest[j] = 0;
    for (int i = 16 * j; i < 16 * (j + 1); ++i) largest[j] = std::max(largest[j], std::abs(x[i]));
    most = std::max(most, largest[j]);
  }
  const float d = half(most / 31 / 127);
  block.put_half(208, d);
  for (int j = 0; j < 16; ++j) {
    const int scale = (j % 3 == 1 ? -1 : 1) * rounded(largest[j] / 31 / d, -128, 127);  // either sign is allowed
    block.bytes[192 + j] = static_cast<uint8_t>(scale);
    const float step = d * static_cast<float>(scale);
    for (int i = 16 * j; i < 16 * (j + 1); ++i) {
      const int q = rounded(x[i] / step, -32, 31), half_of = i / 128, quarter = i / 32 % 4;
      block.put_bits(64 * half_of + 32 * (quarter % 2) + i % 32, quarter / 2 * 4, (q + 32) & 15);
      block.put_bits(128 + 32 * half_of + i % 32, 2 * quarter, (q + 32) >> 4);
      block.numbers[i] = step * static_cast<float>(q);
    }
  }
  return block;
}

Block to_block(const float* x, QuantizedFormat format) {
  switch (format) {
    case QuantizedFormat::kQ8_0:
      return q8_0(x);
    case QuantizedFormat::kQ4_0:
      return q4_0(x);
    case QuantizedFormat::kQ4_K:
      return q4_k_or_q5_k(x, false);
    case QuantizedFormat::kQ5_K:
      return q4_k_or_q5_k(x, true);
    case QuantizedFormat::kQ6_K:
      return q6_k(x);
    default:
      throw std::invalid_argument("has no blocks");
  }
}

// ggml's number of the type.
uint32_t gguf_type(QuantizedFormat format) {
  switch (format) {
    case QuantizedFormat::kQ4_0:
      return 2;
    case QuantizedFormat::kQ8_0:
      return 8;
    case QuantizedFormat::kQ4_K:
      return 12;
    case QuantizedFormat::kQ5_K:
      return 13;
    case QuantizedFormat::kQ6_K:
      return 14;
    default:
      throw std::invalid_argument("has no blocks");
  }
}

}  // namespace

GgufTensor gguf_tensor(const std::string& name, const at::Tensor& tensor) {
  const at::Tensor data = tensor.contiguous();
  const uint32_t type = data.scalar_type() == at::kFloat ? 0 : data.scalar_type() == at::kHalf ? 1 : 30;
  return {name, data.sizes().vec(), type, std::string(static_cast<const char*>(data.const_data_ptr()), data.nbytes())};
}

GgufTensor gguf_tensor(const std::string& name, const Blocks& blocks) {
  const at::Tensor& data = blocks.matrix.data;
  return {name, blocks.matrix.shape(), gguf_type(blocks.matrix.format),
          std::string(static_cast<const char*>(data.const_data_ptr()), data.nbytes())};
}

Blocks to_blocks(const at::Tensor& weight, QuantizedFormat format) {
  const at::Tensor x = weight.to(at::kFloat).contiguous(), numbers = at::empty_like(x);
  const BlockSize size = block_size(format);
  const int64_t count = x.numel() / size.elements;
  const at::Tensor bytes = at::empty({x.size(0), x.size(1) / size.elements * size.bytes}, at::kByte);
  for (int64_t i = 0; i < count; ++i) {
    const Block block = to_block(x.const_data_ptr<float>() + i * size.elements, format);
    std::copy(block.bytes.begin(), block.bytes.end(), bytes.mutable_data_ptr<uint8_t>() + i * size.bytes);
    std::copy(block.numbers.begin(), block.numbers.end(), numbers.mutable_data_ptr<float>() + i * size.elements);
  }
  return {{.format = format, .data = bytes, .scale = {}}, numbers};
}

}  // namespace opensora::test
