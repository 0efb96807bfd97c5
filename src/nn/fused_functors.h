// The fused element-wise kernels, written once for the CPU and for GPUs: functors that make one row.
//
// A row's elements are shared out over lanes. On the CPU there is one lane, and the compiler makes vectors of its
// loops; on a GPU the threads of a warp are the lanes, and their sum() adds up over the warp. Lanes have
//
//   int64_t first() const, step() const;  // this lane's elements are first(), first() + step(), …
//   float sum(float) const;               // over all lanes
//
// This file includes neither ATen nor CUDA. T is what tensors hold: float, or a half type that converts to and from it
// (or has a store() of its own).
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define OPENSORA_KERNEL __host__ __device__
#else
#define OPENSORA_KERNEL [[gnu::always_inline]]  // into the function that is compiled for the machine's vectors
#endif

#if defined(__CUDA_ARCH__)
#define OPENSORA_VECTORIZED
#define OPENSORA_VECTORIZED_SUM(variable)
#else
#define OPENSORA_PRAGMA(text) _Pragma(#text)
#define OPENSORA_VECTORIZED OPENSORA_PRAGMA(omp simd)
// NOLINTNEXTLINE(bugprone-macro-parentheses): a name is wanted
#define OPENSORA_VECTORIZED_SUM(variable) OPENSORA_PRAGMA(omp simd reduction(+ : variable))
#endif

namespace opensora::nn {

// The CPU's: all of a row.
struct OneLane {
  OPENSORA_KERNEL static constexpr int64_t first() { return 0; }
  OPENSORA_KERNEL static constexpr int64_t step() { return 1; }
  OPENSORA_KERNEL static constexpr float sum(float value) { return value; }
};

// Elements from one item, token or head to the next; the elements of a row follow each other.
struct RowStrides {
  int64_t batch, token, head;
};

template <typename T>
OPENSORA_KERNEL inline void store(T& place, float value) {
  place = static_cast<T>(value);
}

// e^x within 2 units in the last place, of what the compiler can make vectors of (it cannot of the library's).
OPENSORA_KERNEL inline float exponential(float x) {
#if defined(__CUDA_ARCH__)
  return expf(x);
#else
  constexpr float kLargest = 87;            // 2^n is a normal number
  constexpr float kRounding = 12582912.0F;  // 1.5 * 2^23: added and subtracted, it rounds to a whole number
  constexpr float kLog2E = 1.44269504F, kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
  // Cut to the largest magnitude by its bits: a comparison of floats may trap, which keeps compilers from vectors.
  const auto bits = std::bit_cast<int32_t>(x);
  const int32_t magnitude = std::min(bits & 0x7FFFFFFF, std::bit_cast<int32_t>(kLargest));
  x = std::bit_cast<float>(magnitude | (bits & ~0x7FFFFFFF));
  const float n = (x * kLog2E + kRounding) - kRounding;
  const float r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= ln(2) / 2
  float p = 1.0F / 5040;                             // Taylor's series: the rest is below 1e-8
  p = p * r + 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = p * r + 1;
  p = p * r + 1;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);  // times 2^n
#endif
}

// out = (1 + scale) * (x - mean) / sqrt(variance + eps) + shift. A row is a token; rows: B * L.
template <typename T>
struct ModulatedLayerNorm {
  T* out;
  const T *x, *shift, *scale;  // shift and scale: [B, C]
  RowStrides out_strides, x_strides;
  int64_t shift_stride, scale_stride;  // from one item's to the next's
  int64_t length, width;               // L, C
  float eps;

  template <typename Lanes>
  OPENSORA_KERNEL void operator()(int64_t row, const Lanes& lanes) const {
    const int64_t b = row / length, l = row % length;
    const T* in = x + b * x_strides.batch + l * x_strides.token;
    T* result = out + b * out_strides.batch + l * out_strides.token;
    const T* shift_of = shift + b * shift_stride;
    const T* scale_of = scale + b * scale_stride;
    const int64_t first = lanes.first(), step = lanes.step();
    float sum = 0;
    OPENSORA_VECTORIZED_SUM(sum)
    for (int64_t i = first; i < width; i += step) sum += static_cast<float>(in[i]);
    const float mean = lanes.sum(sum) / static_cast<float>(width);
    float squares = 0;
    OPENSORA_VECTORIZED_SUM(squares)
    for (int64_t i = first; i < width; i += step) {
      const float centred = static_cast<float>(in[i]) - mean;
      squares += centred * centred;
    }
    const float inverse = 1.0F / std::sqrt(lanes.sum(squares) / static_cast<float>(width) + eps);
    OPENSORA_VECTORIZED
    for (int64_t i = first; i < width; i += step) {
      const float normed = (static_cast<float>(in[i]) - mean) * inverse;
      store(result[i], (1.0F + static_cast<float>(scale_of[i])) * normed + static_cast<float>(shift_of[i]));
    }
  }
};

// out = rope(x / sqrt(mean(x^2) + eps) * scale). A row is a head of a token; rows: B * L * H. out may be x.
template <typename T>
struct RMSNormRope {
  T* out;
  const T *x, *scale;      // scale: [D]
  const float *cos, *sin;  // [L, D/2]
  RowStrides out_strides, x_strides;
  int64_t length, heads, width;  // L, H, D
  bool rotate_half;              // pairs are (i, i + D/2); otherwise (2i, 2i + 1)
  float eps;

  template <typename Lanes>
  OPENSORA_KERNEL void operator()(int64_t row, const Lanes& lanes) const {
    const int64_t h = row % heads, l = row / heads % length, b = row / heads / length;
    const T* in = x + b * x_strides.batch + l * x_strides.token + h * x_strides.head;
    T* result = out + b * out_strides.batch + l * out_strides.token + h * out_strides.head;
    float squares = 0;
    OPENSORA_VECTORIZED_SUM(squares)
    for (int64_t i = lanes.first(); i < width; i += lanes.step()) {
      squares += static_cast<float>(in[i]) * static_cast<float>(in[i]);
    }
    const float inverse = 1.0F / std::sqrt(lanes.sum(squares) / static_cast<float>(width) + eps);
    const int64_t half = width / 2;
    if (rotate_half) {
      rotate(in, result, l, inverse, lanes, half, 1);
    } else {
      rotate(in, result, l, inverse, lanes, 1, 2);
    }
  }

  // Turns the pairs (i * stride, i * stride + distance).
  template <typename Lanes>
  OPENSORA_KERNEL void rotate(const T* in, T* result, int64_t token, float inverse, const Lanes& lanes,
                              int64_t distance, int64_t stride) const {
    const int64_t half = width / 2;
    const float *cosines = cos + token * half, *sines = sin + token * half;
    OPENSORA_VECTORIZED
    for (int64_t i = lanes.first(); i < half; i += lanes.step()) {
      const int64_t j = i * stride, k = j + distance;
      const float a = static_cast<float>(in[j]) * inverse * static_cast<float>(scale[j]);
      const float b = static_cast<float>(in[k]) * inverse * static_cast<float>(scale[k]);
      store(result[j], a * cosines[i] - b * sines[i]);
      store(result[k], b * cosines[i] + a * sines[i]);
    }
  }
};

// x = x / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (x + 0.044715 x^3), which is x / (1 + e^(-2u)).
// A row is a token; rows: B * L.
template <typename T>
struct GeluTanh {
  T* x;
  RowStrides strides;
  int64_t length, width;  // L, C

  template <typename Lanes>
  OPENSORA_KERNEL void operator()(int64_t row, const Lanes& lanes) const {
    constexpr float kMinusTwoRoots = -1.5957691216F, kCubic = 0.044715F;
    T* values = x + row / length * strides.batch + row % length * strides.token;
    const int64_t first = lanes.first(), step = lanes.step();
    OPENSORA_VECTORIZED
    for (int64_t i = first; i < width; i += step) {
      const auto value = static_cast<float>(values[i]);
      const float minus_2u = kMinusTwoRoots * (value + kCubic * value * value * value);
      store(values[i], value / (1.0F + exponential(minus_2u)));
    }
  }
};

}  // namespace opensora::nn
