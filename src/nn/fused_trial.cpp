// Kernels against the plain path, before they are used.
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/text.h"
#include "nn/conv.h"
#include "nn/fused.h"
#include "nn/norm.h"
#include "nn/quantized_product.h"

namespace opensora::nn {
namespace {

constexpr double kEps = 1e-6;
constexpr int64_t kItems = 2, kTokens = 5;  // B, L
// Of a head: no multiple of a vector's, and as models have it.
constexpr std::array<int64_t, 2> kHeadWidths = {38, 128};

// Draws inputs and runs one kernel and the plain path on them.
class Trial {
 public:
  Trial(at::Device device, at::ScalarType dtype) : device_(device), dtype_(dtype) {}

  at::Tensor random(at::IntArrayRef shape) {
    return (at::randn(shape, generator_, at::TensorOptions()) * 2 + 0.5).to(device_, dtype_);
  }
  RotaryEmbedding rope(int64_t width, bool rotate_half) {
    const at::Tensor angles = at::randn({kTokens, width / 2}, generator_, at::TensorOptions());
    return {angles.cos().to(device_), angles.sin().to(device_), rotate_half};
  }

  // Each of the two functions gets a copy of `x`, in which it leaves its result.
  void compare(const at::Tensor& x, const std::function<bool(const at::Tensor&)>& kernel,
               const std::function<void(const at::Tensor&)>& plain) {
    const at::Tensor actual = x.clone(), expected = x.clone();
    has_one = has_one && kernel(actual);
    if (!has_one) return;
    plain(expected);
    const at::Tensor a = actual.to(at::kCPU).to(at::kDouble), b = expected.to(at::kCPU).to(at::kDouble);
    const double largest = ((a - b).abs() / (1 + b.abs())).max().item<double>();
    error = std::max(error, std::isnan(largest) ? std::numeric_limits<double>::infinity() : largest);
  }

  bool has_one = true;
  double error = 0;

 private:
  at::Device device_;
  at::ScalarType dtype_;
  at::Generator generator_ = at::make_generator<at::CPUGeneratorImpl>(1);
};

// The middle third of a buffer's columns, as models have them.
at::Tensor middle(const at::Tensor& buffer) {
  const int64_t width = buffer.size(2) / 3;
  return buffer.narrow(2, width, width);
}

constexpr int64_t kHeads = 3;

void try_modulated_layer_norm(const FusedKernels& kernels, Trial& trial) {
  for (const int64_t head_width : kHeadWidths) {
    const int64_t width = kHeads * head_width;
    const at::Tensor x = trial.random({kItems, kTokens, 3 * width}), modulation = trial.random({kItems, 2, width});
    const at::Tensor shift = modulation.narrow(1, 0, 1), scale = modulation.narrow(1, 1, 1);
    trial.compare(
        x, [&](const at::Tensor& y) { return kernels.modulated_layer_norm(middle(y), middle(x), shift, scale, kEps); },
        [&](const at::Tensor& y) { plain::modulated_layer_norm(middle(y), middle(x), shift, scale, kEps); });
  }
}

void try_rms_norm_rope(const FusedKernels& kernels, Trial& trial) {
  for (const int64_t width : kHeadWidths) {
    const auto heads = [&](const at::Tensor& buffer) { return middle(buffer).unflatten(2, {kHeads, width}); };
    const at::Tensor x = trial.random({kItems, kTokens, 3 * kHeads * width}), scale = trial.random({width});
    for (const bool rotate_half : {true, false}) {
      const RotaryEmbedding rope = trial.rope(width, rotate_half);
      trial.compare(
          x, [&](const at::Tensor& y) { return kernels.rms_norm_rope(heads(y), heads(y), scale, rope, kEps); },
          [&](const at::Tensor& y) { plain::rms_norm_rope(heads(y), heads(x), scale, rope, kEps); });
    }
  }
}

void try_gelu_tanh(const FusedKernels& kernels, Trial& trial) {
  for (const int64_t head_width : kHeadWidths) {
    const at::Tensor x = trial.random({kItems, kTokens, 3 * kHeads * head_width});
    trial.compare(
        x, [&](const at::Tensor& y) { return kernels.gelu_tanh(middle(y)); },
        [&](const at::Tensor& y) { plain::gelu_tanh(middle(y)); });
  }
}

// The inside of padded frames, as convolutions have them; G groups of four channels, and of sixteen.
constexpr int64_t kGroups = 4;
constexpr std::array<int64_t, 2> kGroupWidths = {4, 16};

at::Tensor padded_frames(Trial& trial, int64_t channels) {
  const at::Tensor x = trial.random({kItems, channels, 3, 7, 9});
  at::Tensor frames = empty_channels_last(x, x.sizes());
  return frames.copy_(x);
}

at::Tensor inside(const at::Tensor& frames) {
  return frames.narrow(3, 1, frames.size(3) - 2).narrow(4, 1, frames.size(4) - 2);
}

void try_group_moments(const FusedKernels& kernels, Trial& trial) {
  for (const int64_t width : kGroupWidths) {
    const at::Tensor x = inside(padded_frames(trial, kGroups * width));
    trial.compare(
        at::empty({2, kItems, kGroups}, x.options().dtype(at::kFloat)),
        [&](const at::Tensor& moments) { return kernels.group_moments(x, moments[0], moments[1]); },
        [&](const at::Tensor& moments) {
          const auto [mean, variance] = plain::group_moments(x, kGroups);
          moments[0].copy_(mean);
          moments[1].copy_(variance);
        });
  }
}

void try_channel_affine(const FusedKernels& kernels, Trial& trial) {
  const int64_t channels = kGroups * 4;
  const at::Tensor frames = padded_frames(trial, channels);
  const ChannelAffine affine{trial.random({kItems, channels}).to(at::kFloat),
                             trial.random({kItems, channels}).to(at::kFloat)};
  for (const bool with_silu : {false, true}) {
    trial.compare(
        frames,
        [&](const at::Tensor& y) {
          return kernels.channel_affine(inside(y), inside(frames), affine.scale, affine.shift, with_silu);
        },
        [&](const at::Tensor& y) { plain::apply_affine(inside(frames), affine, inside(y), with_silu); });
  }
}

// Of two kinds of 8-bit numbers, and of sums that are theirs. What is compared is q * scale, as floats.
void try_quantize_rows(const FusedKernels& kernels, Trial& trial) {
  for (const int64_t head_width : kHeadWidths) {
    const at::Tensor x = trial.random({kTokens, 3 * kHeads * head_width});
    x.select(0, 1).zero_();
    for (const at::ScalarType dtype : {at::kChar, at::kFloat8_e4m3fn}) {
      const at::Tensor q = at::empty(x.sizes(), x.options().dtype(dtype));
      const at::Tensor scale = at::empty({kTokens}, x.options().dtype(at::kFloat));
      if (dtype != at::kChar && !kernels.quantize_rows(q, scale, x)) continue;  // the CPU multiplies int8 only
      trial.compare(
          at::empty(x.sizes(), scale.options()),
          [&](const at::Tensor& y) {
            if (!kernels.quantize_rows(q, scale, x)) return false;
            y.copy_(q.to(at::kFloat) * scale.unsqueeze(1));
            return true;
          },
          [&](const at::Tensor& y) {
            plain::quantize_rows(q, scale, x);
            y.copy_(q.to(at::kFloat) * scale.unsqueeze(1));
          });
    }
  }
}

void try_rescale_sums(const FusedKernels& kernels, Trial& trial) {
  for (const int64_t head_width : kHeadWidths) {
    const int64_t width = kHeads * head_width;
    const at::Tensor out = trial.random({1, kTokens, 3 * width}), bias = trial.random({width});
    const at::Tensor wide = trial.random({kTokens, width}).to(at::kFloat);
    const at::Tensor row_scale = trial.random({kTokens}).to(at::kFloat);
    for (const at::ScalarType dtype : {at::kInt, at::kFloat}) {
      const at::Tensor sums = (wide * 10).to(dtype);
      for (const Ending ending : {Ending::kStore, Ending::kAdd, Ending::kGelu}) {
        const bool has_bias = ending != Ending::kAdd;
        const at::Tensor column_scale = (has_bias ? trial.random({width}) : trial.random({1})).to(at::kFloat) / 50;
        const auto run = [&](auto&& rescale, const at::Tensor& y) {
          return rescale(middle(y).select(0, 0), sums, row_scale, column_scale, has_bias ? bias : at::Tensor(), 0.5,
                         ending);
        };
        if (dtype != at::kInt && !run(kernels.rescale_sums, out.clone())) continue;  // likewise
        trial.compare(
            out, [&](const at::Tensor& y) { return run(kernels.rescale_sums, y); },
            [&](const at::Tensor& y) { run(plain::rescale_sums, y); });
      }
    }
  }
}

KernelTrial try_kernel(const char* name, void (*run)(const FusedKernels&, Trial&), const FusedKernels& kernels,
                       at::Device device, at::ScalarType dtype) {
  // The plain path rounds to the dtype several times, and values reach about 20.
  const double limit = dtype == at::kFloat ? 1e-5 : dtype == at::kHalf ? 1e-2 : 8e-2;
  KernelTrial result{.kernel = name, .dtype = dtype, .limit = limit, .problem = {}};
  try {
    Trial trial(device, dtype);
    run(kernels, trial);
    result.has_one = trial.has_one;
    result.error = trial.error;
  } catch (const std::exception& error) {
    result.problem = first_line(error.what());
  }
  return result;
}

}  // namespace

std::vector<KernelTrial> try_kernels(const FusedKernels& kernels, at::Device device) {
  std::vector<KernelTrial> trials;
  const auto add = [&](bool exists, const char* name, void (*run)(const FusedKernels&, Trial&)) {
    if (!exists) return;
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      trials.push_back(try_kernel(name, run, kernels, device, dtype));
    }
  };
  add(kernels.modulated_layer_norm != nullptr, "modulated_layer_norm", try_modulated_layer_norm);
  add(kernels.rms_norm_rope != nullptr, "rms_norm_rope", try_rms_norm_rope);
  add(kernels.gelu_tanh != nullptr, "gelu_tanh", try_gelu_tanh);
  add(kernels.quantize_rows != nullptr, "quantize_rows", try_quantize_rows);
  add(kernels.rescale_sums != nullptr, "rescale_sums", try_rescale_sums);
  add(kernels.group_moments != nullptr, "group_moments", try_group_moments);
  add(kernels.channel_affine != nullptr, "channel_affine", try_channel_affine);
  return trials;
}

FusedKernels agreeing_kernels(FusedKernels kernels, at::Device device) {
  for (const KernelTrial& trial : try_kernels(kernels, device)) {
    if (trial.agrees()) continue;
    const std::string what =
        trial.problem.empty() ? fmt::format("differs by {:.1e}, at most {:.1e} is rounding", trial.error, trial.limit)
                              : trial.problem;
    spdlog::warn("the fused kernel {} is switched off on {}: in {} it {}", trial.kernel, device.str(),
                 toString(trial.dtype), what);
    if (trial.kernel == "modulated_layer_norm") kernels.modulated_layer_norm = nullptr;
    if (trial.kernel == "rms_norm_rope") kernels.rms_norm_rope = nullptr;
    if (trial.kernel == "gelu_tanh") kernels.gelu_tanh = nullptr;
    if (trial.kernel == "quantize_rows") kernels.quantize_rows = nullptr;
    if (trial.kernel == "rescale_sums") kernels.rescale_sums = nullptr;
    if (trial.kernel == "group_moments") kernels.group_moments = nullptr;
    if (trial.kernel == "channel_affine") kernels.channel_affine = nullptr;
  }
  return kernels;
}

}  // namespace opensora::nn
