// What stands before and behind a product of 8-bit numbers, written once for the CPU and for GPUs: see
// nn/fused_functors.h for lanes, rows, and what a file like this may include.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "nn/fused_functors.h"

namespace opensora::nn {

// Of non-negative numbers and NaN, the greater has the greater bits: NaN is the largest of all, so that none is lost.
OPENSORA_KERNEL inline uint32_t magnitude_bits(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x) & 0x7FFFFFFFU;
#else
  return std::bit_cast<uint32_t>(x) & 0x7FFFFFFFU;
#endif
}
OPENSORA_KERNEL inline float float_of_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

// To nearest, ties to even.
OPENSORA_KERNEL inline void store(int8_t& place, float value) {
#if defined(__CUDA_ARCH__)
  place = static_cast<int8_t>(__float2int_rn(value));
#else
  place = static_cast<int8_t>(static_cast<int32_t>(std::rint(value)));
#endif
}

// What no row's largest magnitude is taken to be below, so that there is something to divide by.
constexpr float kLeastMagnitude = 1e-30F;

// scale = largest |x| / limit, and q = x / scale in 8 bits: so x is q * scale but for rounding. A row is a token.
template <typename T, typename Q>
struct QuantizeRows {
  Q* q;          // [rows, width], dense
  float* scale;  // [rows]
  const T* x;
  int64_t x_stride;  // from one row to the next
  int64_t rows, width;
  float limit;  // the largest of Q's numbers

  template <typename Lanes>
  OPENSORA_KERNEL void operator()(int64_t row, const Lanes& lanes) const {
    const T* in = x + row * x_stride;
    Q* result = q + row * width;
    const int64_t first = lanes.first(), step = lanes.step();
    uint32_t largest = magnitude_bits(kLeastMagnitude);
    OPENSORA_VECTORIZED_MAX(largest)
    for (int64_t i = first; i < width; i += step) {
      const uint32_t bits = magnitude_bits(static_cast<float>(in[i]));
      largest = bits > largest ? bits : largest;
    }
    const float inverse = inverse_scale(row, lanes.max(largest), first == 0);
    OPENSORA_VECTORIZED
    for (int64_t i = first; i < width; i += step) store(result[i], static_cast<float>(in[i]) * inverse);
  }

  static constexpr int kLanes = 128;  // of in_eights()

  bool fits_eights() const { return are_eights(x, {x_stride, width}) && are_eights(q); }

  // The same, by the reads and writes of a GPU: the second time, the row is in the nearest cache.
  template <typename Lanes>
  OPENSORA_KERNEL void in_eights(int64_t row, const Lanes& lanes) const {
    constexpr int kCount = Eight<T>::kCount;
    const T* in = x + row * x_stride;
    const int columns = static_cast<int>(width), first = lanes.first() * kCount, step = lanes.step() * kCount;
    uint32_t largest = magnitude_bits(kLeastMagnitude);
    for (int i = first; i < columns; i += step) {
      const Eight<T> values = load_eight(in + i);
      for (const T& value : values.values) {
        const uint32_t bits = magnitude_bits(static_cast<float>(value));
        largest = bits > largest ? bits : largest;
      }
    }
    const float inverse = inverse_scale(row, lanes.max(largest), first == 0);
    for (int i = first; i < columns; i += step) {
      const Eight<T> values = load_eight(in + i);
      EightBytes rounded;
      OPENSORA_UNROLLED
      for (int e = 0; e < kCount; ++e) store(rounded.values[e], static_cast<float>(values.values[e]) * inverse);
      *reinterpret_cast<EightBytes*>(q + row * width + i) = rounded;
    }
  }

  struct alignas(8) EightBytes {
    Q values[8];
  };

  // 1 / scale. Divisions are exact: one step more or less in it would be another rounding of x.
  OPENSORA_KERNEL float inverse_scale(int64_t row, uint32_t largest, bool writes_scale) const {
    const float magnitude = float_of_bits(largest);
    if (writes_scale) scale[row] = magnitude / limit;
    return limit / magnitude;
  }
};

// What becomes of a product.
enum class Ending : int32_t {
  kStore,  // it is the output
  kAdd,    // it is added to that
  kGelu,   // the output is its GELU, with the tanh approximation
};

// y = scale * (sums * row_scale * column_scale + bias), and out is what `ending` says. A row is a token.
template <typename T, typename S>
struct RescaleSums {
  T* out;
  const S* sums;                          // [rows, width], dense
  const float *row_scale, *column_scale;  // [rows]; [width], or one number where the stride is 0
  const T* bias;                          // [width], or null
  int64_t out_stride, column_scale_stride;
  int64_t rows, width;
  float scale;
  Ending ending;

  template <typename Lanes>
  OPENSORA_KERNEL void operator()(int64_t row, const Lanes& lanes) const {
    T* result = out + row * out_stride;
    const S* of_row = sums + row * width;
    const float row_factor = row_scale[row] * scale;
    const auto y = [&](int64_t i) {
      const float sum = static_cast<float>(of_row[i]) * (row_factor * column_scale[i * column_scale_stride]);
      return bias == nullptr ? sum : sum + scale * static_cast<float>(bias[i]);
    };
    const int64_t first = lanes.first(), step = lanes.step();
    switch (ending) {
      // NOLINTNEXTLINE(bugprone-branch-clone): it does not look into loops behind a pragma
      case Ending::kStore:
        OPENSORA_VECTORIZED
        for (int64_t i = first; i < width; i += step) store(result[i], y(i));
        return;
      case Ending::kAdd:
        OPENSORA_VECTORIZED
        for (int64_t i = first; i < width; i += step) store(result[i], static_cast<float>(result[i]) + y(i));
        return;
      case Ending::kGelu:
        OPENSORA_VECTORIZED
        for (int64_t i = first; i < width; i += step) store(result[i], gelu_of(y(i)));
        return;
    }
  }

  static constexpr int kLanes = 128;  // of in_eights()

  bool fits_eights() const {
    return are_eights(out, {out_stride, width}) && are_eights(sums) && are_eights(bias) &&
           (column_scale_stride == 0 || are_eights(column_scale));
  }

  // The same, by the reads and writes of a GPU.
  template <typename Lanes>
  OPENSORA_KERNEL void in_eights(int64_t row, const Lanes& lanes) const {
    constexpr int kCount = Eight<T>::kCount;
    const int columns = static_cast<int>(width), step = lanes.step() * kCount;
    const float row_factor = row_scale[row] * scale;
    for (int i = lanes.first() * kCount; i < columns; i += step) {
      const Eight<S> of_row = load_eight(sums + row * width + i);
      Eight<float> y;
      if (column_scale_stride == 0) {
        for (float& value : y.values) value = column_scale[0];
      } else {
        y = load_eight(column_scale + i);
      }
      OPENSORA_UNROLLED
      for (int e = 0; e < kCount; ++e) y.values[e] = static_cast<float>(of_row.values[e]) * (row_factor * y.values[e]);
      if (bias != nullptr) {
        const Eight<T> biases = load_eight(bias + i);
        OPENSORA_UNROLLED
        for (int e = 0; e < kCount; ++e) y.values[e] += scale * static_cast<float>(biases.values[e]);
      }
      T* const place = out + row * out_stride + i;
      Eight<T> result{};
      if (ending == Ending::kAdd) result = load_eight(place);
      OPENSORA_UNROLLED
      for (int e = 0; e < kCount; ++e) {
        store(result.values[e], ended(y.values[e], static_cast<float>(result.values[e])));
      }
      store_eight(place, result);
    }
  }

  OPENSORA_KERNEL float ended(float y, float before) const {
    if (ending == Ending::kGelu) return gelu_of(y);
    return ending == Ending::kAdd ? before + y : y;
  }
};

}  // namespace opensora::nn
