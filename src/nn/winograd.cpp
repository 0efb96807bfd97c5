#include "nn/winograd.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>

#include "core/meta_device.h"
#include "nn/vectors.h"

namespace opensora::nn {
namespace {

constexpr int64_t kTile = 4, kStep = 2;         // a tile of 4x4 inputs every 2 pixels makes 2x2 results
constexpr int64_t kPoints = kTile * kTile;      // of the space in which products are made
constexpr int64_t kWorthChannels = 16;          // with fewer, the matrix products are too thin
constexpr int64_t kScratchFloats = 512 * 1024;  // for a thread's transformed inputs: about its share of the caches
constexpr int64_t kPlaneGap = 48;               // floats; points a power of 2 apart would share a cache set

using Pixels = std::array<const float*, kPoints>;

// B^T d B for each of `channels`, d the 4x4 inputs; the 16 results lie `plane` floats apart.
OPENSORA_MULTIVERSION void transform_input(const Pixels& d, int64_t channels, float* out, int64_t plane) {
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    float rows[kPoints];
    for (int j = 0; j < 4; ++j) {
      const float d0 = d[j][c], d1 = d[4 + j][c], d2 = d[8 + j][c], d3 = d[12 + j][c];
      rows[j] = d0 - d2;
      rows[4 + j] = d1 + d2;
      rows[8 + j] = d2 - d1;
      rows[12 + j] = d1 - d3;
    }
    for (int i = 0; i < 4; ++i) {
      const float* r = rows + 4 * i;
      float* o = out + 4 * i * plane + c;
      o[0] = r[0] - r[2];
      o[plane] = r[1] + r[2];
      o[2 * plane] = r[2] - r[1];
      o[3 * plane] = r[1] - r[3];
    }
  }
}

// A^T m A + bias for each of `channels`; m's 16 points lie `plane` floats apart.
OPENSORA_MULTIVERSION void transform_output(const float* m, int64_t plane, int64_t channels, const float* bias,
                                            float* out) {
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    float top[4], bottom[4];
    for (int j = 0; j < 4; ++j) {
      const float m0 = m[j * plane + c], m1 = m[(4 + j) * plane + c], m2 = m[(8 + j) * plane + c],
                  m3 = m[(12 + j) * plane + c];
      top[j] = m0 + m1 + m2;
      bottom[j] = m1 - m2 - m3;
    }
    out[c] = top[0] + top[1] + top[2] + bias[c];
    out[channels + c] = top[1] - top[2] - top[3] + bias[c];
    out[2 * channels + c] = bottom[0] + bottom[1] + bottom[2] + bias[c];
    out[3 * channels + c] = bottom[1] - bottom[2] - bottom[3] + bias[c];
  }
}

OPENSORA_MULTIVERSION void add_to(float* out, const float* x, int64_t count) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) out[c] += x[c];
}

// G g G^T of each kernel: [out, in, k, 3, 3] -> [16, k * in, out].
at::Tensor transform_kernel(const at::Tensor& weight) {
  const at::Tensor g =
      at::tensor({1.0F, 0.0F, 0.0F, 0.5F, 0.5F, 0.5F, 0.5F, -0.5F, 0.5F, 0.0F, 0.0F, 1.0F}, weight.options())
          .reshape({kTile, 3})
          .t();
  at::Tensor u = at::matmul(weight.permute({2, 1, 0, 3, 4}), g);  // [k, in, out, 3, 4]
  u = at::matmul(u.transpose(3, 4), g);                           // [k, in, out, 4 (x), 4 (y)]
  return u.permute({4, 3, 0, 1, 2}).reshape({kPoints, weight.size(2) * weight.size(1), weight.size(0)});
}

int64_t tiles_along(int64_t length) { return (length + kStep - 1) / kStep; }

}  // namespace

// The convolution of one element of the batch.
struct WinogradConv::Job {
  const float* padded;
  float* out;
  int64_t padded_frame, padded_row, padded_pixel;  // strides, floats
  int64_t out_frame, out_row, out_pixel;
  int64_t frames, height, width;  // of the result
  int64_t in, out_channels, taps;
  bool add;

  int64_t padded_frames() const { return frames + taps - 1; }
  int64_t tiles() const { return tiles_along(height) * tiles_along(width); }
  // How many tiles are transformed and multiplied at a time.
  int64_t block() const {
    const int64_t fitting = kScratchFloats / (kPoints * padded_frames() * in);
    return std::min(tiles(), std::clamp<int64_t>(fitting, 128, 256));
  }
  int64_t input_plane(int64_t tiles) const { return tiles * padded_frames() * in + kPlaneGap; }
  int64_t output_plane(int64_t tiles) const { return tiles * out_channels + kPlaneGap; }
  int64_t blocks() const { return (tiles() + block() - 1) / block(); }
  int64_t scratch_floats() const { return kPoints * (input_plane(block()) + output_plane(block())); }

  Pixels inputs(int64_t tile, int64_t frame) const;
  void store(int64_t tile, int64_t frame, const float* results) const;
};

// An odd last tile reaches past the end. The last row or column stands in for what is missing, as no result that is
// kept depends on it.
Pixels WinogradConv::Job::inputs(int64_t tile, int64_t frame) const {
  const int64_t y = tile / tiles_along(width) * kStep, x = tile % tiles_along(width) * kStep;
  Pixels pixels;
  for (int64_t i = 0; i < kTile; ++i) {
    const float* row = padded + frame * padded_frame + std::min(y + i, height + 1) * padded_row;
    for (int64_t j = 0; j < kTile; ++j) pixels[i * kTile + j] = row + std::min(x + j, width + 1) * padded_pixel;
  }
  return pixels;
}

void WinogradConv::Job::store(int64_t tile, int64_t frame, const float* results) const {
  const int64_t y = tile / tiles_along(width) * kStep, x = tile % tiles_along(width) * kStep;
  for (int64_t i = 0; i < kStep && y + i < height; ++i) {
    for (int64_t j = 0; j < kStep && x + j < width; ++j) {
      float* pixel = out + frame * out_frame + (y + i) * out_row + (x + j) * out_pixel;
      const float* result = results + (i * kStep + j) * out_channels;
      if (add) {
        add_to(pixel, result, out_channels);
      } else {
        std::copy_n(result, out_channels, pixel);
      }
    }
  }
}

bool WinogradConv::is_for(const at::Tensor& x, const at::Tensor& weight) {
  return kernel_device(x) == at::kCPU && x.scalar_type() == at::kFloat && weight.size(3) == 3 && weight.size(4) == 3 &&
         weight.size(0) >= kWorthChannels && weight.size(1) >= kWorthChannels;
}

WinogradConv::WinogradConv(const at::Tensor& weight, const at::Tensor& bias)
    : taps_(weight.size(2)),
      kernel_(transform_kernel(weight.to(at::kFloat))),
      bias_(bias.defined() ? bias.to(at::kFloat).contiguous() : at::zeros({weight.size(0)}, kernel_.options())) {}

void WinogradConv::operator()(const at::Tensor& padded, const at::Tensor& out, bool add) const {
  TORCH_CHECK(padded.stride(1) == 1 && out.stride(1) == 1, "channels must lie together");
  Job job{.padded = nullptr,
          .out = nullptr,
          .padded_frame = padded.stride(2),
          .padded_row = padded.stride(3),
          .padded_pixel = padded.stride(4),
          .out_frame = out.stride(2),
          .out_row = out.stride(3),
          .out_pixel = out.stride(4),
          .frames = out.size(2),
          .height = out.size(3),
          .width = out.size(4),
          .in = padded.size(1),
          .out_channels = out.size(1),
          .taps = taps_,
          .add = add};
  if (padded.is_meta()) {
    at::empty({job.scratch_floats() * std::min<int64_t>(at::get_num_threads(), job.blocks())}, padded.options());
    const auto rows = static_cast<double>(padded.size(0) * job.tiles() * job.frames * kernel_.size(1));
    count_convolution(out, padded, 2.0 * kPoints * rows * static_cast<double>(job.out_channels));
    return;
  }
  for (int64_t b = 0; b < padded.size(0); ++b) {
    job.padded = padded.const_data_ptr<float>() + b * padded.stride(0);
    job.out = out.mutable_data_ptr<float>() + b * out.stride(0);
    run(job);
  }
}

void WinogradConv::run(const Job& job) const {
  const int64_t block = job.block(), blocks = job.blocks();
  const int64_t depth = job.padded_frames() * job.in;  // floats of a tile at one of the points
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;  // threads of the pool do not inherit the caller's
    const at::Tensor inputs = at::empty({kPoints * job.input_plane(block)}, kernel_.options());
    const at::Tensor products = at::empty({kPoints * job.output_plane(block)}, kernel_.options());
    std::vector<float> results(kStep * kStep * job.out_channels);
    for (int64_t first = begin * block; first < std::min(end * block, job.tiles()); first += block) {
      const int64_t count = std::min(block, job.tiles() - first);
      float* transformed = inputs.mutable_data_ptr<float>();
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t t = 0; t < job.padded_frames(); ++t) {
          transform_input(job.inputs(first + i, t), job.in, transformed + i * depth + t * job.in,
                          job.input_plane(count));
        }
      }
      at::Tensor product =
          products.as_strided({kPoints, count, job.out_channels}, {job.output_plane(count), job.out_channels, 1});
      for (int64_t t = 0; t < job.frames; ++t) {
        // The frames that frame t of the result depends on lie side by side, so one product sums over channels and
        // taps.
        const at::Tensor window =
            inputs.as_strided({kPoints, count, job.taps * job.in}, {job.input_plane(count), depth, 1}, t * job.in);
        at::bmm_out(product, window, kernel_);
        const float* m = product.const_data_ptr<float>();
        for (int64_t i = 0; i < count; ++i) {
          transform_output(m + i * job.out_channels, job.output_plane(count), job.out_channels,
                           bias_.const_data_ptr<float>(), results.data());
          job.store(first + i, t, results.data());
        }
      }
    }
  });
}

}  // namespace opensora::nn
