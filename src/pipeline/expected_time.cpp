#include "pipeline/expected_time.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <variant>

#include "core/cpu_features.h"
#include "io/random_source.h"
#include "nn/attention.h"
#include "nn/conv.h"
#include "nn/linear.h"

namespace opensora::pipeline {
namespace {

using Clock = std::chrono::steady_clock;

// The better of two runs after one that warms up.
double best_seconds(const std::function<void()>& work) {
  double best = 0;
  for (int run = 0; run < 3; ++run) {
    const auto start = Clock::now();
    work();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (run > 0) best = run == 1 ? seconds : std::min(best, seconds);
  }
  return std::max(best, 1e-9);
}

double product_rate(const MMDiTConfig& model, int64_t tokens, at::ScalarType dtype) {
  const int64_t rows = std::min<int64_t>(tokens, 256), in = std::min<int64_t>(model.hidden_size, 1024),
                out = std::min<int64_t>(model.mlp_hidden(), 4096);
  const at::Tensor x = at::ones({rows, in}, dtype);
  const nn::Linear layer(at::ones({out, in}, dtype), at::ones({out}, dtype));
  return 2.0 * static_cast<double>(rows * in * out) / best_seconds([&] { layer(x); });
}

double attention_rate(const MMDiTConfig& model, int64_t tokens, at::ScalarType dtype) {
  const int64_t length = std::min<int64_t>(tokens, 512), heads = std::min<int64_t>(model.num_heads, 8);
  const at::Tensor q = at::ones({1, heads, length, model.head_dim()}, dtype), k = q.clone(), v = q.clone();
  const auto flops = 4.0 * static_cast<double>(length * length * heads * model.head_dim());
  return flops / best_seconds([&] { nn::attention(q, k, v); });
}

double convolution_rate(const Config& config, at::ScalarType dtype) {
  struct Width {
    int64_t operator()(const HunyuanVAEConfig& c) const { return c.block_out_channels.front(); }
    int64_t operator()(const DCAEConfig& c) const { return c.width_list.front(); }
  };
  constexpr int64_t kFrames = 4, kEdge = 32, kTaps = 27;
  const int64_t channels = std::min<int64_t>(std::visit(Width{}, config.ae), 128);
  const nn::Conv layer(Weights(std::make_shared<io::RandomSource>(), at::kCPU, dtype), 3,
                       {.in_channels = channels, .out_channels = channels});
  const at::Tensor x = at::ones({1, channels, kFrames, kEdge, kEdge}, dtype);
  const auto flops = 2.0 * static_cast<double>(kTaps * channels * channels * kFrames * kEdge * kEdge);
  return flops / best_seconds([&] { layer(x); });
}

}  // namespace

double Rates::seconds(const FlopCount& flops) const {
  return flops.linear / linear + flops.convolution / convolution + flops.attention / attention;
}

Rates measure_rates(const Config& config, int64_t tokens, at::ScalarType dtype, Trial trial) {
  Rates rates;
  const auto computing = [&](Work work) { return computing_dtype(dtype, work, at::kCPU); };
  rates.linear = product_rate(config.model, tokens, computing(Work::kProduct));
  rates.attention = attention_rate(config.model, tokens, computing(Work::kProduct));
  if (trial == Trial::kAll) rates.convolution = convolution_rate(config, computing(Work::kConvolution));
  return rates;
}

// What a block of either kind has of matrices: q, k, v and what follows attention, and the two of the MLP.
FlopCount sampling_flops(const Config& config, const Plan& plan, int64_t first) {
  const MMDiTConfig& model = config.model;
  const auto forwards = static_cast<double>(sampling_forwards(config, plan, first));
  const auto image = static_cast<double>(plan.image_tokens());
  const double tokens = image + static_cast<double>(config.t5.max_length);
  const auto blocks = static_cast<double>(model.depth + model.depth_single_blocks);
  const auto width = static_cast<double>(model.hidden_size), hidden = static_cast<double>(model.mlp_hidden());
  const double ends = 2 * image * width * 2 * static_cast<double>(model.in_channels);  // the first and the last layer
  return {.linear = forwards * (2 * tokens * (4 * width * width + 2 * width * hidden) * blocks + ends),
          .attention = forwards * 4 * tokens * tokens * width * blocks};
}

}  // namespace opensora::pipeline
