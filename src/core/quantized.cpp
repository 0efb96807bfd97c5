#include "core/quantized.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>

#include "core/ggml_blocks.h"
#include "core/meta_device.h"
#include "core/multiversion.h"

namespace opensora {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 15;  // of a matrix in work at once on the CPU: they stay in its cache

// Of int8.
OPENSORA_MULTIVERSION void scale_integers(float* out, const int8_t* codes, int64_t count, float scale) {
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(codes[i]) * scale;
}

// Of formats of one byte: `values` are the 256 numbers that there are.
OPENSORA_MULTIVERSION void scale_codes(float* out, const uint8_t* codes, int64_t count, float scale,
                                       const float* values) {
  for (int64_t i = 0; i < count; ++i) out[i] = values[codes[i]] * scale;
}

// Four numbers times the smallest regular Hadamard matrix, of which all others are Kronecker powers.
inline void rotate_four(float& a, float& b, float& c, float& d) {
  const float half = 0.5F * ((a + b) + (c + d));
  const float rotated[] = {half - d, half - c, half - b, half - a};
  a = rotated[0];
  b = rotated[1];
  c = rotated[2];
  d = rotated[3];
}

// One factor of the power after the other, on numbers that lie 1, 4, 16, … apart; the first two in sixteen numbers at a
// time, which stay in registers: three times as fast.
OPENSORA_MULTIVERSION void rotate_groups(float* x, int64_t count, int64_t size) {
  for (int64_t begin = 0; size >= 16 && begin < count; begin += 16) {
    float t[16];
    std::copy_n(x + begin, 16, t);
    for (int i = 0; i < 4; ++i) rotate_four(t[i], t[i + 4], t[i + 8], t[i + 12]);
    for (int i = 0; i < 16; i += 4) rotate_four(t[i], t[i + 1], t[i + 2], t[i + 3]);
    std::copy_n(t, 16, x + begin);
  }
  for (int64_t stride = size >= 16 ? 16 : 1; stride < size; stride *= 4) {
    for (int64_t begin = 0; begin < count; begin += 4 * stride) {
      float* const a = x + begin;
      for (int64_t i = 0; i < stride; ++i) rotate_four(a[i], a[i + stride], a[i + 2 * stride], a[i + 3 * stride]);
    }
  }
}

using CodeValues = std::array<float, 256>;

template <typename Fp8>
CodeValues values_of() {
  CodeValues values{};
  for (int code = 0; code < 256; ++code) {
    values[static_cast<size_t>(code)] = static_cast<float>(Fp8(static_cast<uint8_t>(code), Fp8::from_bits()));
  }
  return values;
}

const float* code_values(QuantizedFormat format) {
  static const CodeValues e4m3 = values_of<c10::Float8_e4m3fn>(), e5m2 = values_of<c10::Float8_e5m2>();
  return format == QuantizedFormat::kFp8E5M2 ? e5m2.data() : e4m3.data();
}

// Where the scale of (row, group) lies, whatever its shape.
struct Scales {
  at::Tensor held;
  const float* data = nullptr;
  int64_t groups = 1, row_stride = 0, group_stride = 0;

  explicit Scales(const at::Tensor& scale) : held(scale) {
    if (!scale.defined()) return;
    data = scale.const_data_ptr<float>();
    if (scale.dim() < 2) return;
    groups = scale.size(1);
    row_stride = scale.stride(0);
    group_stride = scale.stride(1);
  }
  float of(int64_t row, int64_t group) const {
    return data == nullptr ? 1.0F : data[row * row_stride + group * group_stride];
  }
};

// Rows [begin, end) of a matrix on the CPU, into float32 that lies row behind row.
void dequantize_rows(float* out, const QuantizedTensor& from, const Scales& scales, int64_t begin, int64_t end) {
  if (has_blocks(from.format)) return decode_rows(out, from, begin, end);
  const int64_t width = from.data.size(1), group = width / scales.groups;
  const auto* const codes = static_cast<const uint8_t*>(from.data.const_data_ptr());
  const bool is_int8 = from.format == QuantizedFormat::kInt8;
  const float* const values = is_int8 ? nullptr : code_values(from.format);
  for (int64_t row = begin; row < end; ++row, out += width) {
    for (int64_t g = 0; g < scales.groups; ++g) {
      const uint8_t* const first = codes + row * from.data.stride(0) + g * group;
      float* const target = out + g * group;
      if (is_int8) {
        scale_integers(target, reinterpret_cast<const int8_t*>(first), group, scales.of(row, g));
      } else {
        scale_codes(target, first, group, scales.of(row, g), values);
      }
    }
    if (from.rotation > 0) rotate_groups(out, width, from.rotation);
  }
}

// Some rows at a time in float32 first where `out` is of another dtype or has gaps.
void dequantize_on_cpu(const at::Tensor& out, const QuantizedTensor& from) {
  const int64_t rows = out.size(0), width = std::max<int64_t>(1, out.size(1));
  const int64_t piece = std::max<int64_t>(1, kPieceElements / width);
  const bool in_place = out.scalar_type() == at::kFloat && out.is_contiguous();
  const Scales scales(from.scale);
  at::parallel_for(0, rows, piece, [&](int64_t begin, int64_t end) {
    const c10::InferenceMode inference;  // this thread's
    const at::Tensor scratch = in_place ? at::Tensor() : at::empty({piece, width}, at::kFloat);
    for (int64_t first = begin; first < end; first += piece) {
      const int64_t last = std::min(end, first + piece);
      float* const target =
          in_place ? out.mutable_data_ptr<float>() + first * width : scratch.mutable_data_ptr<float>();
      dequantize_rows(target, from, scales, first, last);
      if (!in_place) out.slice(0, first, last).copy_(scratch.slice(0, 0, last - first));
    }
  });
}

// Codes times scales. Codes are exact in every dtype that `out` may have, so that only the product is rounded: LibTorch
// computes that of a narrow and a float32 tensor in float32.
void scale_by_operators(const at::Tensor& out, const QuantizedTensor& from) {
  out.copy_(from.data);
  if (!from.scale.defined()) return;
  const bool has_groups = from.scale.dim() == 2 && from.scale.size(1) > 1;
  at::Tensor product = has_groups ? out.unflatten(1, {from.scale.size(1), -1}) : out;
  at::mul_out(product, product, has_groups ? from.scale.unsqueeze(-1) : from.scale);
}

// By LibTorch's operators, on any device. What is rotated is float32 in between: some rows at a time.
void dequantize_by_operators(const at::Tensor& out, const QuantizedTensor& from) {
  if (has_blocks(from.format)) return decode_by_operators(out, from);
  if (from.rotation == 0) return scale_by_operators(out, from);
  constexpr int64_t kElements = int64_t{1} << 23;
  const int64_t rows = from.data.size(0), width = std::max<int64_t>(1, from.data.size(1));
  const int64_t piece = std::min(rows, std::max<int64_t>(1, kElements / width));
  const at::Tensor scratch = at::empty({piece, width}, out.options().dtype(at::kFloat));
  for (int64_t first = 0; first < rows; first += piece) {
    const int64_t count = std::min(rows - first, piece);
    const at::Tensor values = scratch.narrow(0, 0, count);
    scale_by_operators(values, rows_of(from, first, count));
    rotate_(values, from.rotation);
    out.narrow(0, first, count).copy_(values);
  }
}

// Made on the device, so that nothing waits for a copy.
at::Tensor hadamard_matrix(int64_t size, const at::TensorOptions& options) {
  const at::Tensor four = at::full({4, 4}, 0.5, options);
  for (int64_t i = 0; i < 4; ++i) four.select(0, i).select(0, 3 - i).fill_(-0.5);
  at::Tensor matrix = at::ones({1, 1}, options);
  while (matrix.size(0) < size) matrix = at::kron(matrix, four);
  return matrix;
}

}  // namespace

const char* format_name(QuantizedFormat format) {
  switch (format) {
    case QuantizedFormat::kFp8E4M3:
      return "fp8 (e4m3)";
    case QuantizedFormat::kFp8E5M2:
      return "fp8 (e5m2)";
    case QuantizedFormat::kInt8:
      return "int8";
    case QuantizedFormat::kQ8_0:
      return "Q8_0";
    case QuantizedFormat::kQ4_0:
      return "Q4_0";
    case QuantizedFormat::kQ4_K:
      return "Q4_K";
    case QuantizedFormat::kQ5_K:
      return "Q5_K";
    case QuantizedFormat::kQ6_K:
      return "Q6_K";
  }
  return "";
}

BlockSize block_size(QuantizedFormat format) {
  switch (format) {
    case QuantizedFormat::kQ8_0:
      return {32, 34};
    case QuantizedFormat::kQ4_0:
      return {32, 18};
    case QuantizedFormat::kQ4_K:
      return {256, 144};
    case QuantizedFormat::kQ5_K:
      return {256, 176};
    case QuantizedFormat::kQ6_K:
      return {256, 210};
    default:
      return {1, 1};
  }
}

bool has_blocks(QuantizedFormat format) { return block_size(format).elements > 1; }

std::vector<int64_t> QuantizedTensor::shape() const {
  const BlockSize block = block_size(format);
  return {data.size(0), data.size(1) / block.bytes * block.elements};
}

int64_t QuantizedTensor::nbytes() const {
  return static_cast<int64_t>(data.nbytes() + (scale.defined() ? scale.nbytes() : 0));
}

void dequantize_into(const at::Tensor& out, const QuantizedTensor& from) {
  if (kernel_device(out) != at::kCPU) return dequantize_by_operators(out, from);
  if (!out.is_meta()) return dequantize_on_cpu(out, from);
  from.scale.defined() ? count_pass({from.data, from.scale, out}) : count_pass({from.data, out});
}

at::Tensor dequantized(const QuantizedTensor& from, at::ScalarType dtype) {
  const at::Tensor out = at::empty(from.shape(), from.data.options().dtype(dtype));
  dequantize_into(out, from);
  return out;
}

QuantizedTensor rows_of(const QuantizedTensor& matrix, int64_t first, int64_t count) {
  QuantizedTensor rows = matrix;
  rows.data = matrix.data.narrow(0, first, count);
  const bool by_row = matrix.scale.defined() && matrix.scale.dim() == 2;
  if (by_row) rows.scale = matrix.scale.narrow(0, first, count);
  return rows;
}

QuantizedTensor rows_at(const QuantizedTensor& matrix, const at::Tensor& indices) {
  QuantizedTensor rows = matrix;
  // As bytes: not every kernel knows fp8.
  rows.data = matrix.data.view(at::kByte).index_select(0, indices).view(matrix.data.scalar_type());
  const bool by_row = matrix.scale.defined() && matrix.scale.dim() == 2;
  if (by_row) rows.scale = matrix.scale.index_select(0, indices);
  return rows;
}

std::optional<QuantizedTensor> columns_of(const QuantizedTensor& matrix, int64_t first, int64_t count) {
  const BlockSize block = block_size(matrix.format);
  const int64_t width = matrix.shape()[1];
  const bool has_groups = matrix.scale.defined() && matrix.scale.dim() == 2 && matrix.scale.size(1) > 1;
  const int64_t group = has_groups ? width / matrix.scale.size(1) : 1;
  for (const int64_t unit : {block.elements, group, std::max<int64_t>(1, matrix.rotation)}) {
    if (first % unit != 0 || count % unit != 0) return std::nullopt;
  }
  QuantizedTensor columns = matrix;
  columns.data = matrix.data.narrow(1, first / block.elements * block.bytes, count / block.elements * block.bytes);
  if (has_groups) columns.scale = matrix.scale.narrow(1, first / group, count / group);
  return columns;
}

QuantizedTensor quantized_by_row(const at::Tensor& weight, QuantizedFormat format, int64_t rotation) {
  const bool is_int8 = format == QuantizedFormat::kInt8;
  const double largest = is_int8 ? kLargestInt8 : kLargestE4M3;
  at::Tensor values = weight.to(at::kFloat, /*non_blocking=*/false, /*copy=*/rotation > 0).contiguous();
  if (rotation > 0) rotate_(values, rotation);
  at::Tensor scale = values.abs().amax(1, /*keepdim=*/true).div_(largest);
  scale.masked_fill_(scale == 0, 1);
  values = (values / scale).clamp_(-largest, largest);
  const at::Tensor codes = is_int8 ? values.round_().to(at::kChar) : values.to(at::kFloat8_e4m3fn);
  return {.format = format, .data = codes, .scale = scale, .rotation = rotation};
}

bool can_rotate(int64_t size) {
  while (size > 1 && size % 4 == 0) size /= 4;
  return size == 1;
}

void rotate_(const at::Tensor& x, int64_t size) {
  if (kernel_device(x) == at::kCPU) {
    if (x.is_meta()) return count_pass({x, x});
    const int64_t groups = x.numel() / size;
    auto* const data = x.mutable_data_ptr<float>();
    at::parallel_for(0, groups, std::max<int64_t>(1, kPieceElements / size), [&](int64_t begin, int64_t end) {
      rotate_groups(data + begin * size, (end - begin) * size, size);
    });
    return;
  }
  const at::Tensor groups = x.view({-1, size});
  groups.copy_(groups.matmul(hadamard_matrix(size, x.options())));
}

}  // namespace opensora
