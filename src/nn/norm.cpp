#include "nn/norm.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "core/meta_device.h"
#include "core/trace.h"
#include "nn/fused.h"
#include "nn/norm_kernels.h"
#include "nn/vectors.h"

namespace opensora::nn {

LayerNorm::LayerNorm(const Weights& weights, int64_t width, double eps)
    : weight(weights.tensor("weight", {width})), bias(weights.tensor("bias", {width})), eps(eps) {}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  const at::ScalarType dtype = x.scalar_type();
  return at::layer_norm(x, {x.size(-1)}, weight.to(dtype), bias.to(dtype), eps);
}

RMSNorm::RMSNorm(const Weights& weights, int64_t width, double eps, std::string_view name)
    : scale(weights.tensor(name, {width})), eps(eps) {}

at::Tensor RMSNorm::operator()(const at::Tensor& x) const {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor inverse_rms = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  return (wide * inverse_rms).to(x.scalar_type()) * scale.to(x.scalar_type());
}

namespace {

constexpr int64_t kPixels = 32;    // of a block, whose values stay in the first-level cache between two passes
constexpr int64_t kSlices = 64;    // of the rows; a fixed number, so that sums do not depend on that of threads
constexpr int64_t kRowGrain = 16;  // rows that a thread takes at least
constexpr int64_t kPartBytes = int64_t{64} << 20;

// Of each channel, over `count` values: their mean, and the sum of squared differences from it.
struct Moments {
  double count = 0;
  std::vector<double> mean, squares;

  explicit Moments(int64_t channels) : mean(channels), squares(channels) {}
};

// The same for a block of pixels. So few values are summed up that float32 will do.
template <typename T>
[[gnu::always_inline]] inline void moments_of_block(const T* x, int64_t pixels, int64_t channels, float* mean,
                                                    float* squares) {
  std::fill_n(mean, channels, 0.0F);
  std::fill_n(squares, channels, 0.0F);
  for (int64_t i = 0; i < pixels; ++i) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) mean[c] += static_cast<float>(x[i * channels + c]);
  }
  const float share = 1.0F / static_cast<float>(pixels);
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) mean[c] *= share;
  for (int64_t i = 0; i < pixels; ++i) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const float d = static_cast<float>(x[i * channels + c]) - mean[c];
      squares[c] += d * d;
    }
  }
}

// y / (1 + exp(-y)), with a polynomial that is exact to the last digits of float32. The loop around it must be
// vectorised, which calls of the library's functions would prevent.
[[gnu::always_inline]] inline float silu(float y) {
  const float z = std::min(std::max(-y, -87.0F), 88.0F);
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: a number added to it loses its fraction
  const float n = (z * 1.44269504F + kRound) - kRound;
  const float r = (z - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float fraction = p * r * r + r + 1.0F;
  const float power = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return y / (1.0F + fraction * power);
}

template <bool kWithSilu, typename T>
[[gnu::always_inline]] inline void affine_of_row(const T* x, const float* scale, const float* shift, int64_t pixels,
                                                 int64_t channels, T* out) {
  for (int64_t i = 0; i < pixels; ++i) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const float y = static_cast<float>(x[i * channels + c]) * scale[c] + shift[c];
      store(out[i * channels + c], kWithSilu ? silu(y) : y);
    }
  }
}

// OPENSORA_MULTIVERSION's clones cannot be templates.
// NOLINTBEGIN(bugprone-macro-parentheses): a type cannot stand in parentheses
#define OPENSORA_ROWS(T)                                                                                         \
  OPENSORA_MULTIVERSION void block_moments(const T* x, int64_t pixels, int64_t channels, float* mean,            \
                                           float* squares) {                                                     \
    moments_of_block(x, pixels, channels, mean, squares);                                                        \
  }                                                                                                              \
  OPENSORA_MULTIVERSION void affine_row(const T* x, const float* scale, const float* shift, int64_t pixels,      \
                                        int64_t channels, T* out) {                                              \
    affine_of_row<false>(x, scale, shift, pixels, channels, out);                                                \
  }                                                                                                              \
  OPENSORA_MULTIVERSION void affine_silu_row(const T* x, const float* scale, const float* shift, int64_t pixels, \
                                             int64_t channels, T* out) {                                         \
    affine_of_row<true>(x, scale, shift, pixels, channels, out);                                                 \
  }
// NOLINTEND(bugprone-macro-parentheses)
OPENSORA_ROWS(float)
OPENSORA_ROWS(BFloat16)

// Chan's formula for the joint moments of two sets.
template <typename T>
void merge(Moments& into, double count, const T* mean, const T* squares) {
  const double total = into.count + count, share = count / total, weight = into.count * share;
  for (size_t c = 0; c < into.mean.size(); ++c) {
    const double delta = mean[c] - into.mean[c];
    into.mean[c] += delta * share;
    into.squares[c] += squares[c] + delta * delta * weight;
  }
  into.count = total;
}

// Where the i-th row of x [B, C, T, H, W] begins, in elements: rows may lie apart.
auto row_offsets(const at::Tensor& x) {
  return [height = x.size(3), frame_stride = x.stride(2), row_stride = x.stride(3)](int64_t i) {
    return i / height * frame_stride + i % height * row_stride;
  };
}

template <typename T>
const T* begin_of(const at::Tensor& x, int64_t b) {
  return static_cast<const T*>(x.const_data_ptr()) + b * x.stride(0);
}

template <typename T>
Moments moments(const at::Tensor& x, int64_t b) {
  const int64_t channels = x.size(1), count = x.size(2) * x.size(3), width = x.size(4);
  const auto offset = row_offsets(x);
  const T* base = begin_of<T>(x, b);
  std::vector<Moments> slices(kSlices, Moments(channels));
  at::parallel_for(0, kSlices, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> mean(channels), squares(channels);
    for (int64_t slice = begin; slice < end; ++slice) {
      for (int64_t i = slice * count / kSlices; i < (slice + 1) * count / kSlices; ++i) {
        for (int64_t first = 0; first < width; first += kPixels) {
          const int64_t pixels = std::min(kPixels, width - first);
          block_moments(base + offset(i) + first * channels, pixels, channels, mean.data(), squares.data());
          merge(slices[slice], static_cast<double>(pixels), mean.data(), squares.data());
        }
      }
    }
  });
  Moments all(channels);
  for (const Moments& slice : slices) {
    if (slice.count > 0) merge(all, slice.count, slice.mean.data(), slice.squares.data());
  }
  return all;
}

// The loops above are for rows of pixels whose channels lie together, on the CPU in float32 or bfloat16.
bool suits_loops(const at::Tensor& x) {
  const bool is_known = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return kernel_device(x) == at::kCPU && is_known && x.stride(1) == 1 && x.stride(4) == x.size(1);
}

template <bool kWithSilu, typename T>
void apply_affine_to_rows(const at::Tensor& x, const ChannelAffine& affine, const at::Tensor& out) {
  const int64_t channels = x.size(1), width = x.size(4), count = x.size(2) * x.size(3);
  const auto from = row_offsets(x), to = row_offsets(out);
  for (int64_t b = 0; b < x.size(0); ++b) {
    const T* base = begin_of<T>(x, b);
    T* result = static_cast<T*>(out.mutable_data_ptr()) + b * out.stride(0);
    const float* scale = affine.scale.const_data_ptr<float>() + b * channels;
    const float* shift = affine.shift.const_data_ptr<float>() + b * channels;
    at::parallel_for(0, count, kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = base + from(i);
        T* place = result + to(i);
        if constexpr (kWithSilu) {
          affine_silu_row(row, scale, shift, width, channels, place);
        } else {
          affine_row(row, scale, shift, width, channels, place);
        }
      }
    });
  }
}

// [B, C] -> [B, C, 1, 1, 1]
at::Tensor per_channel(const at::Tensor& x) { return x.unflatten(1, {-1, 1, 1, 1}); }

}  // namespace

std::pair<at::Tensor, at::Tensor> plain::group_moments(const at::Tensor& x, int64_t groups) {
  const auto grouped = [&](const at::Tensor& part) { return part.unflatten(1, {groups, -1}); };
  const std::vector<int64_t> dims = {2, 3, 4, 5};
  const int64_t frames = x.size(2), frame_bytes = static_cast<int64_t>(x.nbytes()) / frames;
  const int64_t step = std::clamp<int64_t>(kPartBytes / frame_bytes, 1, frames);
  at::Tensor mean = at::zeros({x.size(0), groups, 1, 1, 1, 1}, x.options().dtype(at::kFloat)), variance = mean.clone();
  const auto for_parts = [&](auto&& work) {
    for (int64_t t = 0; t < frames; t += step) {
      const int64_t length = std::min(step, frames - t);
      work(grouped(x.narrow(2, t, length)), static_cast<double>(length) / static_cast<double>(frames));
    }
  };
  for_parts(
      [&](const at::Tensor& part, double share) { mean.add_(part.mean(dims, /*keepdim=*/true, at::kFloat), share); });
  for_parts([&](const at::Tensor& part, double share) {
    variance.add_((part - mean).square_().mean(dims, /*keepdim=*/true), share);
  });
  return {mean.flatten(1), variance.flatten(1)};
}

void plain::apply_affine(const at::Tensor& x, const ChannelAffine& affine, const at::Tensor& out, bool with_silu) {
  at::Tensor result = at::addcmul(per_channel(affine.shift), x, per_channel(affine.scale));
  out.copy_(with_silu ? at::silu_(result) : result);
}

namespace {

// Whether what plans stand for has kernels of its own; the CPU's are the loops above.
bool is_planned_with_lanes(const at::Tensor& x) {
  return kernel_device(x) != at::kCPU && is_planned_with_kernels(x) && has_pixel_lanes(x);
}

// Whether the device's own kernel has done it.
bool by_kernel(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& variance) {
  if (x.is_meta()) {
    if (!is_planned_with_lanes(x) || !has_part_moments(x, mean.size(1))) return false;
    count_pass(x);
    return true;
  }
  const auto kernel = fused_kernels(x.device()).group_moments;
  return kernel != nullptr && kernel(x, mean, variance);
}
bool by_kernel(const at::Tensor& x, const ChannelAffine& affine, const at::Tensor& out, bool with_silu) {
  if (x.is_meta()) {
    if (!is_planned_with_lanes(x) || !has_pixel_lanes(out)) return false;
    count_pass({x, out});
    return true;
  }
  const auto kernel = fused_kernels(x.device()).channel_affine;
  return kernel != nullptr && kernel(out, x, affine.scale, affine.shift, with_silu);
}

}  // namespace

GroupNorm::GroupNorm(const Weights& weights, int64_t channels, int64_t groups, double eps)
    : weight(weights.tensor("weight", {channels})),
      bias(weights.tensor("bias", {channels})),
      groups(groups),
      eps(eps) {}

at::Tensor GroupNorm::operator()(const at::Tensor& x) const {
  const at::ScalarType dtype = x.scalar_type();
  return at::group_norm(x, groups, weight.to(dtype), bias.to(dtype), eps);
}

ChannelAffine GroupNorm::affine(const at::Tensor& x) const {
  const TraceSpan span("GroupNorm statistics");
  const int64_t channels = x.size(1), width = channels / groups;
  at::Tensor mean = at::empty({x.size(0), groups}, x.options().dtype(at::kFloat)), variance = at::empty_like(mean);
  if (suits_loops(x)) {
    count_pass(x);
    for (int64_t b = 0; b < x.size(0) && !x.is_meta(); ++b) {
      const Moments m = x.scalar_type() == at::kFloat ? moments<float>(x, b) : moments<BFloat16>(x, b);
      for (int64_t g = 0; g < groups; ++g) {
        Moments group(1);
        for (int64_t c = g * width; c < (g + 1) * width; ++c) merge(group, m.count, &m.mean[c], &m.squares[c]);
        mean.mutable_data_ptr<float>()[b * groups + g] = static_cast<float>(group.mean[0]);
        variance.mutable_data_ptr<float>()[b * groups + g] = static_cast<float>(group.squares[0] / group.count);
      }
    }
  } else if (!by_kernel(x, mean, variance)) {
    std::tie(mean, variance) = plain::group_moments(x, groups);
  }
  const at::Tensor inverse = at::rsqrt(variance + eps).repeat_interleave(width, 1);  // [B, C]
  at::Tensor scale = inverse * weight.to(at::kFloat);
  at::Tensor shift = bias.to(at::kFloat) - mean.repeat_interleave(width, 1) * scale;
  return {std::move(scale), std::move(shift)};
}

namespace {

template <bool kWithSilu>
void apply(const at::Tensor& x, const ChannelAffine& affine, const at::Tensor& out) {
  if (!suits_loops(x) || !suits_loops(out) || x.scalar_type() != out.scalar_type()) {
    if (!by_kernel(x, affine, out, kWithSilu)) plain::apply_affine(x, affine, out, kWithSilu);
    return;
  }
  if (x.is_meta()) return count_pass({x, out});
  const TraceSpan span("apply_affine");
  if (x.scalar_type() == at::kFloat) return apply_affine_to_rows<kWithSilu, float>(x, affine, out);
  apply_affine_to_rows<kWithSilu, BFloat16>(x, affine, out);
}

}  // namespace

void apply_affine(const at::Tensor& x, const ChannelAffine& affine, const at::Tensor& out) {
  apply<false>(x, affine, out);
}

void apply_affine_silu(const at::Tensor& x, const ChannelAffine& affine, const at::Tensor& out) {
  apply<true>(x, affine, out);
}

}  // namespace opensora::nn
