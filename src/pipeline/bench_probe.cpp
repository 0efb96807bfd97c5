#include "pipeline/bench_probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "core/cpu_features.h"
#include "core/device.h"
#include "nn/attention.h"

namespace opensora::pipeline {
namespace {

using Clock = std::chrono::steady_clock;

double median_seconds(at::Device device, const std::function<void()>& work) {
  constexpr double kEnough = 1;
  constexpr size_t kFewest = 3, kMost = 1000;
  work();  // warm-up
  synchronize(device);
  std::vector<double> seconds;
  double sum = 0;
  while (seconds.size() < kFewest || (sum < kEnough && seconds.size() < kMost)) {
    const auto start = Clock::now();
    work();
    synchronize(device);
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    sum += seconds.back();
  }
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  return seconds[seconds.size() / 2];
}

// What such work of a run is done in.
at::TensorOptions options_of(const BenchSetup& setup, Work work) {
  const at::Device device = setup.plan.device;
  return at::TensorOptions().device(device).dtype(computing_dtype(setup.plan.dtype, work, device));
}

int64_t all_tokens(const BenchSetup& setup) { return setup.plan.image_tokens() + setup.request.config.t5.max_length; }

// The first layer of the transformer's MLP, into memory that is there.
BenchProbe probe_matmul(const BenchSetup& setup) {
  const MMDiTConfig& model = setup.request.config.model;
  const int64_t m = all_tokens(setup), k = model.hidden_size, n = model.mlp_hidden();
  const at::TensorOptions options = options_of(setup, Work::kProduct);
  const at::Tensor x = at::ones({m, k}, options), w = at::ones({n, k}, options).t();
  at::Tensor out = at::empty({m, n}, options);
  const double seconds = median_seconds(setup.plan.device, [&] { at::mm_out(out, x, w); });
  return {.name = "matmul",
          .shape = fmt::format("[{}, {}] x [{}, {}]", m, k, k, n),
          .flops_per_second = 2.0 * static_cast<double>(m) * static_cast<double>(k) * static_cast<double>(n) / seconds};
}

BenchProbe probe_attention(const BenchSetup& setup) {
  const MMDiTConfig& model = setup.request.config.model;
  const int64_t tokens = all_tokens(setup);
  const at::Tensor q = at::ones({1, model.num_heads, tokens, model.head_dim()}, options_of(setup, Work::kProduct));
  const at::Tensor k = q.clone(), v = q.clone();
  const double seconds = median_seconds(setup.plan.device, [&] { nn::attention(q, k, v); });
  const double length = static_cast<double>(tokens);
  return {.name = "attention",
          .shape = fmt::format("{} heads of {}, {} tokens", model.num_heads, model.head_dim(), tokens),
          .flops_per_second = 4 * length * length * static_cast<double>(model.hidden_size) / seconds};
}

}  // namespace

std::vector<BenchProbe> run_probes(const BenchSetup& setup, const ProgressCallback& progress) {
  constexpr int64_t kProbes = 2;
  std::vector<BenchProbe> probes;
  if (progress) progress({"probe", 0, 0});
  for (const auto probe : {probe_matmul, probe_attention}) {
    probes.push_back(probe(setup));
    if (progress) progress({"probe", static_cast<int64_t>(probes.size()), kProbes});
  }
  return probes;
}

}  // namespace opensora::pipeline
