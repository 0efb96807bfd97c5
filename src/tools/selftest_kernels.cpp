// LibTorch's kernels of attention against its definition, our own ones against plain paths, and what the machine's
// matrix products and attention reach.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/cpu_features.h"
#include "core/cuda_plugin.h"
#include "core/device.h"
#include "core/graph.h"
#include "core/stopwatch.h"
#include "nn/attention.h"
#include "nn/attention_fp8.h"
#include "nn/fused.h"
#include "nn/quantized_product.h"
#include "run/frames.h"
#include "sampling/noise.h"
#include "tools/selftest_check.h"

namespace opensora::tools {
namespace {

constexpr int64_t kHeadDim = 128;  // the transformer's

// Normally distributed, and the same on every device.
at::Tensor random(at::IntArrayRef shape, uint64_t seed, at::Device device, at::ScalarType dtype) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::TensorOptions()).to(device, dtype);
}

// softmax(q k^T / sqrt(D)) v, in float64 on the CPU.
at::Tensor attention_by_definition(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const auto wide = [](const at::Tensor& x) { return x.to(at::kCPU).to(at::kDouble); };
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
  return wide(q).matmul(wide(k).transpose(-1, -2)).mul(scale).softmax(-1).matmul(wide(v));
}

Outcome check_attention(at::Device device, const std::string& backend, at::ScalarType dtype) {
  constexpr Limits kLimits{1e-5, 2e-3, 1e-2};
  constexpr int64_t kHeads = 3, kLength = 333;  // no multiple of a kernel's block
  const nn::OnlyAttentionBackend only(backend);
  const std::string chosen = nn::attention_backend(device, dtype, kLength, kHeadDim);
  if (chosen != backend) return skipped("LibTorch has none for this device and dtype");
  const auto make = [&](uint64_t seed) { return random({1, kHeads, kLength, kHeadDim}, seed, device, dtype); };
  const at::Tensor q = make(1), k = make(2), v = make(3);
  return compare(nn::attention(q, k, v), attention_by_definition(q, k, v), kLimits.of(dtype));
}

// The device's attention in 8 bits against the same in float32, rounded where the kernel rounds, and against
// attention's definition. Keys have much in common, as models' do, and queries find their own.
Outcome check_fp8_attention(at::Device device, at::ScalarType dtype) {
  constexpr int64_t kHeads = 3, kLength = 333;
  constexpr double kEmulation = 0.04;  // a kernel may round weights over the largest score so far, not that of all
  const nn::Fp8Choice choice = nn::fp8_kernel(device);
  if (!choice.kernel) return skipped(choice.why_not);
  const at::Tensor q = random({1, kHeads, kLength, kHeadDim}, 1, device, dtype), k = q.roll(1, 2) + 3,
                   v = random({1, kHeads, kLength, kHeadDim}, 2, device, dtype);
  const auto run = [&](const nn::Fp8Kernel& kernel) {
    return nn::fp8_attention(kernel, q.clone(), k.clone(), v.clone());
  };
  const at::Tensor actual = run(choice.kernel);
  const Outcome emulated = compare(actual, run(nn::emulated_fp8_attention), kEmulation);
  if (emulated.verdict != Verdict::kOk) return {emulated.verdict, "against the emulation: " + emulated.text};
  return compare(actual, attention_by_definition(q, k, v), nn::kFp8Error);
}

Outcome check_fused(const nn::KernelTrial& trial) {
  if (!trial.has_one) return skipped("there is none for this dtype");
  if (!trial.problem.empty()) return {Verdict::kFailed, trial.problem};
  return {trial.agrees() ? Verdict::kOk : Verdict::kFailed,
          fmt::format("differs by {:.1e} from the plain path, at most {:.1e}", trial.error, trial.limit)};
}

// Frames in all colours must be as the writer would make them on the CPU.
Outcome check_frames(at::Device device) {
  const at::Tensor rgb = random({65, 97, 3}, 4, device, at::kFloat).mul(60).add(128).clamp(0, 255).to(at::kByte);
  const at::Tensor here = run::to_yuv420p(rgb).to(at::kCPU, at::kInt), there = run::to_yuv420p(rgb.cpu()).to(at::kInt);
  const int64_t difference = (here - there).abs().max().item<int64_t>();
  return {difference <= 1 ? Verdict::kOk : Verdict::kFailed,
          fmt::format("yuv420p differs by {} levels from the CPU's, at most 1", difference)};
}

// The noise that `rng` cuda computes on the host must be what the device's generator draws, in float32 and rounded. How
// many blocks it runs is found out, and said: cuda:BLOCKS is this GPU's noise on any device.
Outcome check_cuda_noise(at::Device device) {
  if (!device.is_cuda()) return skipped("the device has no generator of CUDA's");
  constexpr uint64_t kSeed = 42;
  constexpr int64_t kCount = 1 << 21;  // of which every GPU's threads draw several times
  constexpr Limits kLimits{1e-5, 1e-3, 1e-3};
  const auto drawn = [&](at::ScalarType dtype) {
    at::Generator generator = at::globalContext().getAcceleratorHooksInterface(device.type()).getNewGenerator();
    generator.set_current_seed(kSeed);
    return at::randn({kCount}, generator, at::TensorOptions().device(device).dtype(dtype)).to(at::kCPU, at::kFloat);
  };
  const at::Tensor noise = drawn(at::kFloat);
  const int64_t blocks = sampling::find_cuda_blocks(noise, kSeed);
  if (blocks == 0) return {Verdict::kFailed, "LibTorch's generator draws in another order"};
  const at::Tensor ours = sampling::cuda_normal({kCount}, kSeed, blocks);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Outcome outcome = compare(ours.to(dtype), drawn(dtype), kLimits.of(dtype));
    if (outcome.verdict != Verdict::kOk) return outcome;
  }
  return {Verdict::kOk, fmt::format("`rng` cuda:{} is this GPU's noise", blocks)};
}

// A matrix product, attention and a norm must give the same in a graph, with static memory, as outside of it.
Outcome check_graph(at::Device device, at::ScalarType dtype) {
  const auto recorder = make_graph_recorder(device);
  if (!recorder) return skipped("no graphs: " + why_no_graphs(device));
  const at::Tensor weight = random({kHeadDim, kHeadDim}, 9, device, dtype);
  const auto work = [&](const std::vector<at::Tensor>& inputs) {
    const at::Tensor x = at::matmul(inputs[0], weight);
    return at::layer_norm(nn::attention(x, x, inputs[0]), {kHeadDim});
  };
  Replayed replayed(recorder.get(), "the selftest's graph", work);
  for (uint64_t seed = 0; seed < 4; ++seed) {
    const at::Tensor x = random({1, 2, 256, kHeadDim}, seed, device, dtype);
    const at::Tensor actual = replayed({x}), expected = work({x});
    if (!at::equal(actual, expected)) return {Verdict::kFailed, fmt::format("replay {} differs", seed)};
  }
  if (!replayed.is_replayed()) return {Verdict::kFailed, "dropped: the warning above says why"};
  return {Verdict::kOk, "replays equal the steps as they are"};
}

// A product of 8-bit numbers against that with the dequantised weight.
Outcome check_quantized_product(at::Device device, QuantizedFormat format, at::ScalarType dtype) {
  const std::string problem = nn::quantized_product_problem(format, device);
  if (!problem.empty()) return skipped("weights are dequantised: " + problem);
  const bool is_int8 = format == QuantizedFormat::kInt8;
  constexpr int64_t kTokens = 2048, kWidth = 768;
  const QuantizedTensor weight = quantized_by_row(random({kWidth, kWidth}, 1, device, at::kFloat), format);
  const at::Tensor x = random({kTokens, kWidth}, 2, device, dtype), out = at::empty_like(x);
  if (!nn::quantized_product(out, x, weight, {})) return {Verdict::kFailed, "it was not made"};
  return compare(out, at::linear(x.to(at::kFloat), dequantized(weight, at::kFloat)), is_int8 ? 0.02 : 0.06);
}

// The shortest of the runs within some 0.2 seconds, the first of which does not count.
double best_seconds(at::Device device, const std::function<void()>& work) {
  constexpr double kEnough = 0.2;
  work();
  double best = std::numeric_limits<double>::infinity();
  for (double total = 0; total < kEnough;) {
    const double seconds = seconds_of(device, work);
    total += seconds;
    best = std::min(best, seconds);
  }
  return best;
}

Outcome speed(const std::string& what, double flops, double seconds) {
  return {Verdict::kOk, fmt::format("{}: {:.3g} TFLOP/s", what, flops / seconds * 1e-12)};
}

Outcome measure_matmul(at::Device device, at::ScalarType dtype) {
  dtype = computing_dtype(dtype, Work::kProduct, device);
  const int64_t n = device.is_cpu() ? 768 : 8192;
  const auto size = static_cast<double>(n);
  const at::Tensor a = random({n, n}, 1, device, dtype), b = random({n, n}, 2, device, dtype);
  at::Tensor out = at::empty_like(a);
  return speed(fmt::format("{0} x {0} in {1}", n, dtype_name(dtype)), 2 * size * size * size,
               best_seconds(device, [&] { at::mm_out(out, a, b); }));
}

Outcome measure_attention(at::Device device, at::ScalarType dtype) {
  const int64_t length = device.is_cpu() ? 1024 : 16384, heads = device.is_cpu() ? 2 : 24;
  const at::Tensor q = random({1, heads, length, kHeadDim}, 1, device, dtype);
  const double flops = 4.0 * static_cast<double>(length * length * heads * kHeadDim);
  const std::string backend = nn::attention_backend(device, dtype, length, kHeadDim);
  const std::string computing = dtype_name(computing_dtype(dtype, Work::kAttention, device));
  return speed(fmt::format("{}, {} tokens in {}", backend, length, computing), flops,
               best_seconds(device, [&] { nn::attention(q, q, q); }));
}

// A convolution of the decoder's, with channels apart and together.
Outcome measure_convolution(at::Device device, at::ScalarType dtype) {
  dtype = computing_dtype(dtype, Work::kConvolution, device);
  constexpr int64_t kChannels = 128, kFrames = 8, kTaps = 27;
  const int64_t edge = device.is_cpu() ? 16 : 128;
  const at::Tensor x = random({1, kChannels, kFrames, edge, edge}, 1, device, dtype);
  const at::Tensor weight = random({kChannels, kChannels, 3, 3, 3}, 2, device, dtype);
  const auto teraflops = [&](at::MemoryFormat format) {
    const at::Tensor in = x.contiguous(format), kernel = weight.contiguous(format);
    const double seconds = best_seconds(device, [&] { at::conv3d(in, kernel, {}, 1, 1); });
    return 2e-12 * static_cast<double>(x.numel() * kChannels * kTaps) / seconds;
  };
  return {Verdict::kOk,
          fmt::format("{} channels in {}: {:.3g} TFLOP/s, with channels_last_3d {:.3g}", kChannels, dtype_name(dtype),
                      teraflops(at::MemoryFormat::Contiguous), teraflops(at::MemoryFormat::ChannelsLast3d))};
}

}  // namespace

std::vector<SelfCheck> attention_checks(at::Device device, const Dtypes& dtypes) {
  std::vector<SelfCheck> checks;
  for (const std::string backend : {"cudnn", "flash", "efficient", "math"}) {
    for (const at::ScalarType dtype : dtypes) {
      checks.push_back(
          {"attention", backend + " " + dtype_name(dtype), [=] { return check_attention(device, backend, dtype); }});
    }
  }
  for (const at::ScalarType dtype : dtypes) {
    checks.push_back({"attention", "fp8 " + dtype_name(dtype), [=] { return check_fp8_attention(device, dtype); }});
  }
  return checks;
}

std::vector<SelfCheck> kernel_checks(at::Device device, const Dtypes& dtypes) {
  std::vector<SelfCheck> checks;
  const auto wanted = [&](at::ScalarType dtype) {
    return std::find(dtypes.begin(), dtypes.end(), dtype) != dtypes.end();
  };
  const std::vector<nn::KernelTrial> trials = nn::try_kernels(nn::built_kernels(device.type()), device);
  for (const nn::KernelTrial& trial : trials) {
    if (!wanted(trial.dtype)) continue;
    checks.push_back({"fused", trial.kernel + " " + dtype_name(trial.dtype), [=] { return check_fused(trial); }});
  }
  if (trials.empty()) {
    checks.push_back({"fused", "kernels", [] { return skipped("none: the CUDA plug-in is " + cuda_plugin_state()); }});
  }
  for (const QuantizedFormat format : {QuantizedFormat::kInt8, QuantizedFormat::kFp8E4M3}) {
    for (const at::ScalarType dtype : dtypes) {
      checks.push_back({"8-bit", fmt::format("product {} {}", format_name(format), dtype_name(dtype)),
                        [=] { return check_quantized_product(device, format, dtype); }});
    }
  }
  checks.push_back({"frames", "yuv420p", [=] { return check_frames(device); }});
  checks.push_back({"noise", "CUDA's generator", [=] { return check_cuda_noise(device); }});
  for (const at::ScalarType dtype : dtypes) {
    checks.push_back({"graphs", "replay " + dtype_name(dtype), [=] { return check_graph(device, dtype); }});
  }
  return checks;
}

std::vector<SelfCheck> speed_checks(at::Device device, const Dtypes& dtypes) {
  std::vector<SelfCheck> checks;
  for (const at::ScalarType dtype : dtypes) {
    checks.push_back({"speed", "matmul " + dtype_name(dtype), [=] { return measure_matmul(device, dtype); }});
    checks.push_back({"speed", "attention " + dtype_name(dtype), [=] { return measure_attention(device, dtype); }});
    checks.push_back({"speed", "convolution " + dtype_name(dtype), [=] { return measure_convolution(device, dtype); }});
  }
  return checks;
}

}  // namespace opensora::tools
