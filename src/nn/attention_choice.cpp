#include "nn/attention_choice.h"

#include <ATen/CPUGeneratorImpl.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/cpu_features.h"
#include "core/device.h"
#include "core/stopwatch.h"
#include "core/text.h"
#include "nn/attention.h"

namespace opensora::nn {
namespace {

constexpr const char* kPlain = "math";
constexpr int64_t kSampledQueries = 8;

// What kernels are tried on, and what the definition makes of some of its queries.
struct Sample {
  at::Tensor q, k, v;   // [1, H, L, D], laid out as [1, L, H, D]: as models have them
  at::Tensor queries;   // [R], indices of tokens
  at::Tensor expected;  // [1, H, R, D], float32
};

// softmax(q k^T / sqrt(D)) v in float32, of the sampled queries, head by head.
at::Tensor by_definition(const Sample& sample) {
  std::vector<at::Tensor> heads;
  for (int64_t h = 0; h < sample.q.size(1); ++h) {
    const auto wide = [h](const at::Tensor& x) { return x.select(1, h).select(0, 0).to(at::kFloat); };
    const at::Tensor q = wide(sample.q.index_select(2, sample.queries));
    const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
    heads.push_back(q.matmul(wide(sample.k).t()).mul(scale).softmax(-1).matmul(wide(sample.v)));
  }
  return at::stack(heads).unsqueeze(0);
}

// Keys are the queries of the token before: so each query has a key of its own that outweighs the others, and one that
// a kernel leaves out shows. The last of the sampled queries is that of the last key.
Sample make_sample(const AttentionShape& shape) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(/*seed=*/1);
  const at::Tensor x = at::randn({1, shape.tokens, shape.heads, shape.head_dim}, generator, at::TensorOptions())
                           .to(shape.device, shape.dtype);
  Sample sample{.q = x.transpose(1, 2),
                .k = x.roll(1, 1).transpose(1, 2),
                .v = x.roll(2, 1).transpose(1, 2),
                .queries = at::linspace(0, std::max<int64_t>(0, shape.tokens - 2), kSampledQueries, at::kDouble)
                               .to(at::kLong)
                               .to(shape.device),
                .expected = {}};
  sample.expected = by_definition(sample);
  return sample;
}

double relative_error(const at::Tensor& result, const Sample& sample) {
  const at::Tensor actual = result.index_select(2, sample.queries).to(at::kFloat);
  const double error = ((actual - sample.expected).norm() / sample.expected.norm()).item<double>();
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

AttentionTrial run_trial(const AttentionKernel& kernel, const Sample& sample, const AttentionShape& shape) {
  const double limit = shape.dtype == at::kFloat ? 1e-4 : shape.dtype == at::kHalf ? 5e-3 : 3e-2;
  AttentionTrial trial{.kernel = kernel.name, .limit = limit, .problem = {}};
  const auto run = [&] { return kernel.run(sample.q, sample.k, sample.v); };
  try {
    trial.error = relative_error(run(), sample);
    trial.seconds = std::min(seconds_of(shape.device, run), seconds_of(shape.device, run));
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const std::exception& error) {
    trial.problem = first_line(error.what());
    if (trial.problem.empty()) trial.problem = "it failed";
  }
  return trial;
}

void switch_off_failing(const std::vector<AttentionTrial>& trials) {
  for (const AttentionTrial& trial : trials) {
    if (trial.agrees()) continue;
    if (trial.kernel != kPlain) switch_off_attention(trial.kernel);
    if (trial.problem.empty()) {
      spdlog::warn(
          "attention: {} is switched off: it differs by {:.1e} from the definition, at most {:.1e} is rounding",
          trial.kernel, trial.error, trial.limit);
    } else {
      spdlog::debug("attention: {} is switched off: {}", trial.kernel, trial.problem);
    }
  }
}

void log_choice(const std::string& chosen, const std::vector<AttentionTrial>& trials, int64_t tokens) {
  std::vector<std::string> figures;
  for (const AttentionTrial& trial : trials) {
    if (trial.agrees()) figures.push_back(fmt::format("{} {:.2f} ms", trial.kernel, 1000 * trial.seconds));
  }
  spdlog::info("attention: {} (of {} at {} tokens)", chosen, fmt::join(figures, ", "), tokens);
}

}  // namespace

std::vector<AttentionKernel> allowed_attention(const AttentionShape& shape) {
  std::vector<AttentionKernel> kernels;
  for (const std::string name : {"cudnn", "flash", "efficient", kPlain}) {
    // Where it cannot run, LibTorch falls back to plain attention, but warns if that is off.
    const OnlyAttentionBackend it_or_plain(name, /*or_plain=*/true);
    if (attention_backend(shape.device, shape.dtype, shape.tokens, shape.head_dim) != name) continue;
    kernels.push_back({name, [name](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
                         const OnlyAttentionBackend only(name);
                         return attention(q, k, v);
                       }});
  }
  return kernels;
}

std::vector<AttentionTrial> try_attention(const std::vector<AttentionKernel>& kernels, const AttentionShape& shape) {
  const Sample sample = make_sample(shape);
  std::vector<AttentionTrial> trials;
  for (const AttentionKernel& kernel : kernels) {
    if (kernel.name == kPlain && !fastest_attention(trials).empty()) continue;
    trials.push_back(run_trial(kernel, sample, shape));
  }
  return trials;
}

std::string fastest_attention(const std::vector<AttentionTrial>& trials) {
  const AttentionTrial* best = nullptr;
  for (const AttentionTrial& trial : trials) {
    if (!trial.agrees()) continue;
    const bool is_better =
        best == nullptr || best->kernel == kPlain || (trial.kernel != kPlain && trial.seconds < best->seconds);
    if (is_better) best = &trial;
  }
  return best == nullptr ? "" : best->kernel;
}

void choose_attention(AttentionShape shape) {
  shape.tokens = std::min(shape.tokens, kTrialTokens);
  shape.dtype = computing_dtype(shape.dtype, Work::kAttention, shape.device);
  try {
    const std::vector<AttentionTrial> trials = try_attention(allowed_attention(shape), shape);
    switch_off_failing(trials);
    const std::string chosen = fastest_attention(trials);
    if (!chosen.empty()) {
      prefer_attention(chosen);
      log_choice(chosen, trials, shape.tokens);
    }
  } catch (const c10::Error& error) {  // a stage that meets it too can tell where
    spdlog::warn("attention: the device's kernels cannot be tried: {}", first_line(error.what_without_backtrace()));
  }
  release_cached_memory(shape.device);
}

}  // namespace opensora::nn
