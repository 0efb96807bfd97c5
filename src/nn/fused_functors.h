// The fused element-wise kernels, written once for the CPU and for GPUs: functors that make one row.
//
// A row's elements are shared out over lanes. On the CPU there is one lane, and the compiler makes vectors of its
// loops; on a GPU threads are the lanes, and their sum() adds up over them. Lanes have
//
//   int first() const, step() const;  // this lane's elements are first(), first() + step(), …
//   float sum(float) const;           // over all lanes; none goes on before all have come
//   uint32_t max(uint32_t) const;     // likewise the largest
//
// Each functor makes a row in two ways. at() takes any width, and reads the row again where it needs it again.
// in_registers() is for GPUs: it reads eight elements at once (128 bits of a half type), and keeps them, so that the
// row is read once; fits_registers() says whether width and alignment allow it. Neither divides: rows are told by item,
// token and head. operator() takes the number of a row, for the CPU.
//
// out may be x: each lane writes only elements that no other reads, or all have read a row before any writes.
//
// This file includes neither ATen nor CUDA. T is what tensors hold: float, or a half type that converts to and from it
// (or has a store() of its own).
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>

#if defined(__CUDACC__)
#define OPENSORA_KERNEL __host__ __device__
#else
#define OPENSORA_KERNEL [[gnu::always_inline]]  // into the function that is compiled for the machine's vectors
#endif

#if defined(__CUDA_ARCH__)
#define OPENSORA_VECTORIZED
#define OPENSORA_VECTORIZED_SUM(variable)
#define OPENSORA_VECTORIZED_MAX(variable)
#define OPENSORA_UNROLLED _Pragma("unroll")
#else
#define OPENSORA_UNROLLED
#define OPENSORA_PRAGMA(text) _Pragma(#text)
#define OPENSORA_VECTORIZED OPENSORA_PRAGMA(omp simd)
// NOLINTNEXTLINE(bugprone-macro-parentheses): a name is wanted
#define OPENSORA_VECTORIZED_SUM(variable) OPENSORA_PRAGMA(omp simd reduction(+ : variable))
// NOLINTNEXTLINE(bugprone-macro-parentheses): likewise
#define OPENSORA_VECTORIZED_MAX(variable) OPENSORA_PRAGMA(omp simd reduction(max : variable))
#endif

namespace opensora::nn {

// The CPU's: all of a row.
struct OneLane {
  OPENSORA_KERNEL static constexpr int first() { return 0; }
  OPENSORA_KERNEL static constexpr int step() { return 1; }
  OPENSORA_KERNEL static constexpr float sum(float value) { return value; }
  OPENSORA_KERNEL static constexpr uint32_t max(uint32_t value) { return value; }
};

// Elements from one item, token or head to the next; the elements of a row follow each other.
struct RowStrides {
  int64_t batch, token, head;
};

template <typename T>
OPENSORA_KERNEL inline void store(T& place, float value) {
  place = static_cast<T>(value);
}

// Exact on the CPU; on a GPU within 2 units in the last place, by the instructions that it has for them.
OPENSORA_KERNEL inline float quotient(float x, float y) {
#if defined(__CUDA_ARCH__)
  return __fdividef(x, y);
#else
  return x / y;
#endif
}
OPENSORA_KERNEL inline float inverse_root(float x) {
#if defined(__CUDA_ARCH__)
  return rsqrtf(x);
#else
  return 1.0F / std::sqrt(x);
#endif
}

// Elements that a GPU's thread reads and writes at once.
template <typename T>
struct alignas(16) Eight {
  static constexpr int kCount = 8;

  T values[kCount];
};

template <typename T>
OPENSORA_KERNEL inline Eight<T> load_eight(const T* from) {
  return *reinterpret_cast<const Eight<T>*>(from);
}
template <typename T>
OPENSORA_KERNEL inline void store_eight(T* to, const Eight<T>& values) {
  *reinterpret_cast<Eight<T>*>(to) = values;
}

// Whether eights begin at `data`, and where so many elements are left out behind it.
inline bool are_eights(const void* data, std::initializer_list<int64_t> strides = {}) {
  return reinterpret_cast<uintptr_t>(data) % alignof(Eight<float>) == 0 &&
         std::all_of(strides.begin(), strides.end(), [](int64_t stride) { return stride % Eight<float>::kCount == 0; });
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
  int64_t items, length, width;        // B, L, C
  float eps;

  template <typename Lanes>
  OPENSORA_KERNEL void operator()(int64_t row, const Lanes& lanes) const {
    at(row / length, row % length, lanes);
  }

  template <typename Lanes>
  OPENSORA_KERNEL void at(int64_t b, int64_t l, const Lanes& lanes) const {
    const T* in = x + b * x_strides.batch + l * x_strides.token;
    T* result = out + b * out_strides.batch + l * out_strides.token;
    const T* shift_of = shift + b * shift_stride;
    const T* scale_of = scale + b * scale_stride;
    const int64_t first = lanes.first(), step = lanes.step();
    float sum = 0;
    OPENSORA_VECTORIZED_SUM(sum)
    for (int64_t i = first; i < width; i += step) sum += static_cast<float>(in[i]);
    const float mean = quotient(lanes.sum(sum), static_cast<float>(width));
    float squares = 0;
    OPENSORA_VECTORIZED_SUM(squares)
    for (int64_t i = first; i < width; i += step) {
      const float centred = static_cast<float>(in[i]) - mean;
      squares += centred * centred;
    }
    const float inverse = inverse_root(quotient(lanes.sum(squares), static_cast<float>(width)) + eps);
    OPENSORA_VECTORIZED
    for (int64_t i = first; i < width; i += step) {
      const float normed = (static_cast<float>(in[i]) - mean) * inverse;
      store(result[i], (1.0F + static_cast<float>(scale_of[i])) * normed + static_cast<float>(shift_of[i]));
    }
  }

  static constexpr int kLanes = 128;  // of in_registers()
  static constexpr int kEights = 3;   // that a lane holds at most: 3,072 elements in all

  bool fits_registers() const {
    return width <= int64_t{kLanes} * kEights * Eight<T>::kCount &&
           are_eights(out, {width, out_strides.batch, out_strides.token}) &&
           are_eights(x, {x_strides.batch, x_strides.token}) && are_eights(shift, {shift_stride}) &&
           are_eights(scale, {scale_stride});
  }

  template <typename Lanes>
  OPENSORA_KERNEL void in_registers(int64_t b, int64_t l, const Lanes& lanes) const {
    const T* in = x + b * x_strides.batch + l * x_strides.token;
    Eight<T> row[kEights];
    float sum = 0;
    for_eights(lanes, [&](int n, int i) {
      row[n] = load_eight(in + i);
      for (const T& value : row[n].values) sum += static_cast<float>(value);
    });
    const float mean = quotient(lanes.sum(sum), static_cast<float>(width));
    float squares = 0;
    for_eights(lanes, [&](int n, int /*i*/) {
      for (const T& value : row[n].values) {
        const float centred = static_cast<float>(value) - mean;
        squares += centred * centred;
      }
    });
    const float inverse = inverse_root(quotient(lanes.sum(squares), static_cast<float>(width)) + eps);
    T* result = out + b * out_strides.batch + l * out_strides.token;
    for_eights(lanes, [&](int n, int i) {
      const Eight<T> shifts = load_eight(shift + b * shift_stride + i),
                     scales = load_eight(scale + b * scale_stride + i);
      OPENSORA_UNROLLED
      for (int e = 0; e < Eight<T>::kCount; ++e) {
        T& value = row[n].values[e];
        const float normed = (static_cast<float>(value) - mean) * inverse;
        store(value, (1.0F + static_cast<float>(scales.values[e])) * normed + static_cast<float>(shifts.values[e]));
      }
      store_eight(result + i, row[n]);
    });
  }

  // Calls work(n, i) for the n-th eight of a lane, which begins at the element i.
  template <typename Lanes, typename Work>
  OPENSORA_KERNEL void for_eights(const Lanes& lanes, const Work& work) const {
    const int columns = static_cast<int>(width);
    OPENSORA_UNROLLED
    for (int n = 0; n < kEights; ++n) {
      const int i = (n * lanes.step() + lanes.first()) * Eight<T>::kCount;
      if (i < columns) work(n, i);
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
  int64_t items, length, heads, width;  // B, L, H, D
  bool rotate_half;                     // pairs are (i, i + D/2); otherwise (2i, 2i + 1)
  float eps;

  template <typename Lanes>
  OPENSORA_KERNEL void operator()(int64_t row, const Lanes& lanes) const {
    at(row / heads / length, row / heads % length, row % heads, lanes);
  }

  template <typename Lanes>
  OPENSORA_KERNEL void at(int64_t b, int64_t l, int64_t h, const Lanes& lanes) const {
    const T* in = x + b * x_strides.batch + l * x_strides.token + h * x_strides.head;
    T* result = out + b * out_strides.batch + l * out_strides.token + h * out_strides.head;
    float squares = 0;
    OPENSORA_VECTORIZED_SUM(squares)
    for (int64_t i = lanes.first(); i < width; i += lanes.step()) {
      squares += static_cast<float>(in[i]) * static_cast<float>(in[i]);
    }
    const float inverse = inverse_root(quotient(lanes.sum(squares), static_cast<float>(width)) + eps);
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

  static constexpr int kLanes = 8;  // of in_registers(), each with eight pairs: heads of up to 128 elements

  bool fits_registers() const {
    return width <= int64_t{kLanes} * 2 * Eight<T>::kCount && are_eights(cos, {width / 2}) && are_eights(sin) &&
           width % 2 == 0 && are_eights(scale) &&
           are_eights(out, {out_strides.batch, out_strides.token, out_strides.head}) &&
           are_eights(x, {x_strides.batch, x_strides.token, x_strides.head});
  }

  // The heads first_head, first_head + head_step, … of a token, whose angles are read once.
  template <typename Lanes>
  OPENSORA_KERNEL void in_registers(int64_t b, int64_t l, int first_head, int head_step, const Lanes& lanes) const {
    const int half = static_cast<int>(width) / 2, i = lanes.first() * Eight<T>::kCount;
    const bool has_pairs = i < half;
    Pairs pairs{};  // of zeros in a lane that has none
    if (has_pairs) {
      pairs = {.cosines = load_eight(cos + l * half + i),
               .sines = load_eight(sin + l * half + i),
               .first = rotate_half ? i : 2 * i,
               .second = rotate_half ? i + half : 2 * i + Eight<T>::kCount};
    }
    const T* in = x + b * x_strides.batch + l * x_strides.token;
    T* result = out + b * out_strides.batch + l * out_strides.token;
    for (int h = first_head; h < heads; h += head_step) {
      Eight<T> one{}, other{};
      if (has_pairs) {
        one = load_eight(in + h * x_strides.head + pairs.first);
        other = load_eight(in + h * x_strides.head + pairs.second);
      }
      float squares = 0;
      for (const T& value : one.values) squares += static_cast<float>(value) * static_cast<float>(value);
      for (const T& value : other.values) squares += static_cast<float>(value) * static_cast<float>(value);
      const float inverse = inverse_root(quotient(lanes.sum(squares), static_cast<float>(width)) + eps);
      if (has_pairs) turn(one, other, inverse, pairs, result + h * out_strides.head);
    }
  }

  // A lane's: their angles, and where the two eights begin that hold them.
  struct Pairs {
    Eight<float> cosines, sines;
    int first, second;
  };

  OPENSORA_KERNEL void turn(const Eight<T>& one, const Eight<T>& other, float inverse, const Pairs& pairs,
                            T* result) const {
    constexpr int kCount = Eight<T>::kCount;
    const Eight<T> scales = load_eight(scale + pairs.first), other_scales = load_eight(scale + pairs.second);
    float values[2 * kCount];
    OPENSORA_UNROLLED
    for (int e = 0; e < kCount; ++e) {
      values[e] = static_cast<float>(one.values[e]) * inverse * static_cast<float>(scales.values[e]);
      values[e + kCount] = static_cast<float>(other.values[e]) * inverse * static_cast<float>(other_scales.values[e]);
    }
    if (rotate_half) {
      turn_pairs<kCount, 1>(values, pairs);
    } else {
      turn_pairs<1, 2>(values, pairs);
    }
    Eight<T> turned, other_turned;
    OPENSORA_UNROLLED
    for (int e = 0; e < kCount; ++e) {
      store(turned.values[e], values[e]);
      store(other_turned.values[e], values[e + kCount]);
    }
    store_eight(result + pairs.first, turned);
    store_eight(result + pairs.second, other_turned);
  }

  // The pairs (e * kStride, e * kStride + kDistance) of a lane's values. Places are known to the compiler: these are
  // registers.
  template <int kDistance, int kStride>
  OPENSORA_KERNEL void turn_pairs(float* values, const Pairs& pairs) const {
    OPENSORA_UNROLLED
    for (int e = 0; e < Eight<T>::kCount; ++e) {
      float &a = values[e * kStride], &b = values[e * kStride + kDistance];
      const float turned = a * pairs.cosines.values[e] - b * pairs.sines.values[e];
      b = b * pairs.cosines.values[e] + a * pairs.sines.values[e];
      a = turned;
    }
  }
};

// x / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (x + 0.044715 x^3), which is x / (1 + e^(-2u)).
OPENSORA_KERNEL inline float gelu_of(float x) {
  constexpr float kMinusTwoRoots = -1.5957691216F, kCubic = 0.044715F;
  const float minus_2u = kMinusTwoRoots * (x + kCubic * x * x * x);
  return x / (1.0F + exponential(minus_2u));
}

// x = gelu(x), with the tanh approximation. A row is a token; rows: B * L.
template <typename T>
struct GeluTanh {
  T* x;
  RowStrides strides;
  int64_t length, width;  // L, C

  template <typename Lanes>
  OPENSORA_KERNEL void operator()(int64_t row, const Lanes& lanes) const {
    T* values = x + row / length * strides.batch + row % length * strides.token;
    const int64_t first = lanes.first(), step = lanes.step();
    OPENSORA_VECTORIZED
    for (int64_t i = first; i < width; i += step) store(values[i], gelu_of(static_cast<float>(values[i])));
  }
};

}  // namespace opensora::nn
