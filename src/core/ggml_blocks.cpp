#include "core/ggml_blocks.h"

#include <c10/util/Half.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <string>
#include <tuple>

#include "core/multiversion.h"

namespace opensora {
namespace {

// Of scales and least values in a block of 256, which are themselves products of two numbers: neither these products
// nor those with the 4 to 6 bits of an element round in float32, so that any order of operations gives the same bits.
constexpr int kSubBlocks = 8;

// Where the parts of a block begin, in bytes.
namespace q8_0 {
constexpr int kScale = 0, kElements = 2;
}
namespace q4_0 {
constexpr int kScale = 0, kElements = 2;
}
namespace q4_k {
constexpr int kScale = 0, kLeast = 2, kScales = 4, kElements = 16;
}
namespace q5_k {
constexpr int kScale = 0, kLeast = 2, kScales = 4, kHighBits = 16, kElements = 48;
}
namespace q6_k {
constexpr int kElements = 0, kHighBits = 128, kScales = 192, kScale = 208;
}

[[gnu::always_inline]] inline float half_at(const uint8_t* bytes) {
  uint16_t bits = 0;
  std::memcpy(&bits, bytes, sizeof(bits));
  return static_cast<float>(c10::Half(bits, c10::Half::from_bits()));
}

[[gnu::always_inline]] inline void decode_q8_0(const uint8_t* block, float* out) {
  const float scale = half_at(block + q8_0::kScale);
  const auto* elements = reinterpret_cast<const int8_t*>(block + q8_0::kElements);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(elements[i]);
}

// The low halves of 16 bytes are the first 16 elements, the high halves the others.
[[gnu::always_inline]] inline void decode_q4_0(const uint8_t* block, float* out) {
  const float scale = half_at(block + q4_0::kScale);
  const uint8_t* elements = block + q4_0::kElements;
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>((elements[i] & 15) - 8);
    out[i + 16] = scale * static_cast<float>((elements[i] >> 4) - 8);
  }
}

// Eight scales and eight least values of 6 bits each in 12 bytes: the first four of both lie in the low bits of eight
// bytes, whose two highest bits are the highest of the last four.
struct SubBlocks {
  std::array<float, kSubBlocks> scales, least;

  SubBlocks(float scale, float lowest, const uint8_t* packed) {
    for (int i = 0; i < 4; ++i) {
      const uint8_t a = packed[i], b = packed[i + 4], c = packed[i + 8];
      scales[i] = scale * static_cast<float>(a & 63);
      least[i] = lowest * static_cast<float>(b & 63);
      scales[i + 4] = scale * static_cast<float>((c & 15) | ((a >> 6) << 4));
      least[i + 4] = lowest * static_cast<float>((c >> 4) | ((b >> 6) << 4));
    }
  }
};

// Each 32 bytes hold the elements of two sub-blocks, one in the low halves and one in the high ones.
[[gnu::always_inline]] inline void decode_q4_k(const uint8_t* block, float* out) {
  const SubBlocks of(half_at(block + q4_k::kScale), half_at(block + q4_k::kLeast), block + q4_k::kScales);
  for (int pair = 0; pair < kSubBlocks / 2; ++pair) {
    const uint8_t* elements = block + q4_k::kElements + 32 * pair;
    float* low = out + 64 * pair;
    const int a = 2 * pair, b = a + 1;
    for (int i = 0; i < 32; ++i) low[i] = of.scales[a] * static_cast<float>(elements[i] & 15) - of.least[a];
    for (int i = 0; i < 32; ++i) low[i + 32] = of.scales[b] * static_cast<float>(elements[i] >> 4) - of.least[b];
  }
}

// As Q4_K, and the fifth bits of sub-block j are the bits j of 32 bytes.
[[gnu::always_inline]] inline void decode_q5_k(const uint8_t* block, float* out) {
  const SubBlocks of(half_at(block + q5_k::kScale), half_at(block + q5_k::kLeast), block + q5_k::kScales);
  const uint8_t* high = block + q5_k::kHighBits;
  for (int pair = 0; pair < kSubBlocks / 2; ++pair) {
    const uint8_t* elements = block + q5_k::kElements + 32 * pair;
    float* low = out + 64 * pair;
    const int a = 2 * pair, b = a + 1;
    for (int i = 0; i < 32; ++i) {
      const int element = (elements[i] & 15) | ((high[i] >> a & 1) << 4);
      low[i] = of.scales[a] * static_cast<float>(element) - of.least[a];
    }
    for (int i = 0; i < 32; ++i) {
      const int element = (elements[i] >> 4) | ((high[i] >> b & 1) << 4);
      low[i + 32] = of.scales[b] * static_cast<float>(element) - of.least[b];
    }
  }
}

// Two halves of 128 elements in four quarters: their low bits are the low and then the high halves of 64 bytes, their
// fifth and sixth bits lie in 32 bytes; each 16 elements have a scale.
[[gnu::always_inline]] inline void decode_q6_k(const uint8_t* block, float* out) {
  const float scale = half_at(block + q6_k::kScale);
  const auto* scales = reinterpret_cast<const int8_t*>(block + q6_k::kScales);
  for (int part = 0; part < 8; ++part) {
    const int half = part / 4, quarter = part % 4;
    const uint8_t* low = block + q6_k::kElements + 64 * half + 32 * (quarter % 2);
    const uint8_t* high = block + q6_k::kHighBits + 32 * half;
    const int low_shift = 4 * (quarter / 2), high_shift = 2 * quarter;
    const float of_sixteen[] = {scale * static_cast<float>(scales[2 * part]),
                                scale * static_cast<float>(scales[2 * part + 1])};
    for (int i = 0; i < 32; ++i) {
      const int element = ((low[i] >> low_shift) & 15) | ((high[i] >> high_shift & 3) << 4);
      out[32 * part + i] = of_sixteen[i / 16] * static_cast<float>(element - 32);
    }
  }
}

// `count` blocks that lie one behind the other.
template <void (*decode)(const uint8_t* block, float* out)>
[[gnu::always_inline]] inline void decode_all(float* out, const uint8_t* block, int64_t count, BlockSize size) {
  for (int64_t i = 0; i < count; ++i) decode(block + i * size.bytes, out + i * size.elements);
}

OPENSORA_MULTIVERSION void decode_row(float* out, const uint8_t* block, int64_t count, QuantizedFormat format) {
  const BlockSize size = block_size(format);
  switch (format) {
    case QuantizedFormat::kQ8_0:
      return decode_all<decode_q8_0>(out, block, count, size);
    case QuantizedFormat::kQ4_0:
      return decode_all<decode_q4_0>(out, block, count, size);
    case QuantizedFormat::kQ4_K:
      return decode_all<decode_q4_k>(out, block, count, size);
    case QuantizedFormat::kQ5_K:
      return decode_all<decode_q5_k>(out, block, count, size);
    case QuantizedFormat::kQ6_K:
      return decode_all<decode_q6_k>(out, block, count, size);
    default:
      return;
  }
}

// Views of [..., bytes of a block] and what LibTorch's operators make of them.
at::Tensor part_of(const at::Tensor& blocks, int first, int count) { return blocks.narrow(-1, first, count); }

at::Tensor halves(const at::Tensor& blocks, int first) {
  return part_of(blocks, first, 2).contiguous().view(at::kHalf).to(at::kFloat);  // [..., 1]
}

// [..., n] -> [..., n / width, 2, width]: the low halves of each `width` bytes, then the high ones.
at::Tensor nibbles(const at::Tensor& bytes, int64_t width) {
  const at::Tensor rows = bytes.unflatten(-1, {-1, width});
  return at::stack({rows.bitwise_and(15), at::bitwise_right_shift(rows, 4)}, -2);
}

// As SubBlocks: [..., 8, 1] each.
std::tuple<at::Tensor, at::Tensor> sub_blocks(const at::Tensor& scale, const at::Tensor& lowest,
                                              const at::Tensor& packed) {
  const at::Tensor a = part_of(packed, 0, 4), b = part_of(packed, 4, 4), c = part_of(packed, 8, 4);
  const auto top = [](const at::Tensor& bytes) { return at::bitwise_right_shift(bytes, 6).mul(16); };
  const at::Tensor scales = at::cat({a.bitwise_and(63), c.bitwise_and(15).bitwise_or(top(a))}, -1);
  const at::Tensor least = at::cat({b.bitwise_and(63), at::bitwise_right_shift(c, 4).bitwise_or(top(b))}, -1);
  return {(scale * scales.to(at::kFloat)).unsqueeze(-1), (lowest * least.to(at::kFloat)).unsqueeze(-1)};
}

// [..., n] -> [..., per byte, n]: the groups of `bits` bits of each byte, from the lowest.
at::Tensor bit_groups(const at::Tensor& bytes, int bits) {
  std::vector<at::Tensor> groups;
  for (int shift = 0; shift < 8; shift += bits) {
    groups.push_back(at::bitwise_right_shift(bytes, shift).bitwise_and((1 << bits) - 1));
  }
  return at::stack(groups, -2);
}

at::Tensor decode_k(const at::Tensor& scale, const at::Tensor& lowest, const at::Tensor& packed,
                    const at::Tensor& elements) {
  const auto [scales, least] = sub_blocks(scale, lowest, packed);
  return (scales * elements.to(at::kFloat)).sub_(least).flatten(-2);
}

at::Tensor decode_q6_k(const at::Tensor& blocks) {
  const at::Tensor low = nibbles(part_of(blocks, q6_k::kElements, 128), 64).flatten(-3);  // [..., 256]
  const at::Tensor high = bit_groups(part_of(blocks, q6_k::kHighBits, 64).unflatten(-1, {2, 32}), 2).flatten(-3);
  const at::Tensor elements = low.bitwise_or(high.mul(16)).to(at::kFloat).sub_(32).unflatten(-1, {16, 16});
  const at::Tensor scales = part_of(blocks, q6_k::kScales, 16).view(at::kChar).to(at::kFloat);
  return ((halves(blocks, q6_k::kScale) * scales).unsqueeze(-1) * elements).flatten(-2);
}

}  // namespace

at::Tensor decode_blocks(const at::Tensor& bytes, QuantizedFormat format) {
  const at::Tensor blocks = bytes.unflatten(-1, {-1, block_size(format).bytes});  // [..., blocks, bytes of a block]
  const auto decoded = [&]() -> at::Tensor {
    switch (format) {
      case QuantizedFormat::kQ8_0:
        return halves(blocks, q8_0::kScale) * part_of(blocks, q8_0::kElements, 32).view(at::kChar).to(at::kFloat);
      case QuantizedFormat::kQ4_0:
        return halves(blocks, q4_0::kScale) *
               nibbles(part_of(blocks, q4_0::kElements, 16), 16).flatten(-3).to(at::kFloat).sub_(8);
      case QuantizedFormat::kQ4_K:
        return decode_k(halves(blocks, q4_k::kScale), halves(blocks, q4_k::kLeast), part_of(blocks, q4_k::kScales, 12),
                        nibbles(part_of(blocks, q4_k::kElements, 128), 32).flatten(-3, -2));
      case QuantizedFormat::kQ5_K: {
        const at::Tensor low = nibbles(part_of(blocks, q5_k::kElements, 128), 32).flatten(-3, -2);  // [..., 8, 32]
        const at::Tensor high = bit_groups(part_of(blocks, q5_k::kHighBits, 32), 1);                // [..., 8, 32]
        return decode_k(halves(blocks, q5_k::kScale), halves(blocks, q5_k::kLeast), part_of(blocks, q5_k::kScales, 12),
                        low.bitwise_or(high.mul(16)));
      }
      case QuantizedFormat::kQ6_K:
        return decode_q6_k(blocks);
      default:
        throw std::invalid_argument(std::string("has no blocks: ") + format_name(format));
    }
  }();
  return decoded.flatten(-2);  // [..., elements of a row]
}

void decode_rows(float* out, const QuantizedTensor& from, int64_t begin, int64_t end) {
  const BlockSize size = block_size(from.format);
  const int64_t blocks = from.data.size(1) / size.bytes;
  for (int64_t row = begin; row < end; ++row, out += blocks * size.elements) {
    const auto* const bytes = from.data.const_data_ptr<uint8_t>() + row * from.data.stride(0);
    decode_row(out, bytes, blocks, from.format);
  }
}

void decode_by_operators(const at::Tensor& out, const QuantizedTensor& from) {
  if (out.numel() == 0) return;
  constexpr int64_t kElementsAtOnce = int64_t{4} << 20;  // some 100 MB of what is computed on the way
  const int64_t rows = std::max<int64_t>(1, kElementsAtOnce / out.size(1));
  for (int64_t first = 0; first < out.size(0); first += rows) {
    const int64_t last = std::min(out.size(0), first + rows);
    out.slice(0, first, last).copy_(decode_blocks(from.data.slice(0, first, last), from.format));
  }
}

}  // namespace opensora
