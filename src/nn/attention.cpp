#include "nn/attention.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/SDPBackend.h>
#include <ATen/native/CPUBlas.h>
#include <c10/util/Exception.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "core/cpu_features.h"
#include "core/failure.h"
#include "core/meta_device.h"
#include "core/text.h"
#include "core/trace.h"
#include "nn/fused_functors.h"
#include "nn/linear.h"
#include "nn/vectors.h"

namespace opensora::nn {
namespace {

constexpr int64_t kQueries = 128, kKeys = 512;  // of a block; its scores take 256 KiB of the second-level cache
constexpr float kLowest = -std::numeric_limits<float>::infinity();

// The largest value. Compares integers of the same order: comparisons of floats may trap, so they are not vectorised.
[[gnu::always_inline]] inline float largest(const float* x, int64_t count) {
  const auto ordered = [](int32_t bits) { return bits ^ ((bits >> 31) & 0x7FFFFFFF); };  // its own inverse
  int32_t top = ordered(std::bit_cast<int32_t>(kLowest));
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < count; ++i) top = std::max(top, ordered(std::bit_cast<int32_t>(x[i])));
  return std::bit_cast<float>(ordered(top));
}

// A block of one head's queries, with the state of their softmax over the keys so far.
struct Queries {
  std::vector<float> top = std::vector<float>(kQueries);  // the largest score
  std::vector<float> sum = std::vector<float>(kQueries);  // of e^(score - top)
  std::vector<float> out;                                 // e^(score - top) v, rows of `width`
  int64_t width;

  explicit Queries(int64_t width) : out(kQueries * width), width(width) {}

  void reset() {
    std::fill(top.begin(), top.end(), kLowest);
    std::fill(sum.begin(), sum.end(), 0.0F);
    std::fill(out.begin(), out.end(), 0.0F);
  }
};

// Turns scores [rows, keys] into e^(score - top), and rescales the sums and results so far to the new top.
OPENSORA_MULTIVERSION void exponentiate(float* scores, int64_t rows, int64_t keys, Queries& queries) {
  for (int64_t row = 0; row < rows; ++row) {
    float* score = scores + row * keys;
    const float before = queries.top[row], top = std::max(before, largest(score, keys));
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < keys; ++i) {
      const float below = score[i] - top;
      score[i] = exponential(below) + (below - below);  // the difference brings in NaN, which exponential() never gives
      sum += score[i];
    }
    const float shrink = std::exp(before - top);
    queries.top[row] = top;
    queries.sum[row] = queries.sum[row] * shrink + sum;
    if (shrink == 1) continue;
    float* out = queries.out.data() + row * queries.width;
#pragma omp simd
    for (int64_t i = 0; i < queries.width; ++i) out[i] *= shrink;
  }
}

OPENSORA_MULTIVERSION void divide(const Queries& queries, int64_t rows, float* out, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row) {
    const float factor = 1 / queries.sum[row];
    const float* in = queries.out.data() + row * queries.width;
#pragma omp simd
    for (int64_t i = 0; i < queries.width; ++i) out[row * stride + i] = in[i] * factor;
  }
}

// One head of one item of the batch.
struct Head {
  const float *q, *k, *v;  // k: [D, Lk], scaled
  float* out;
  int64_t q_stride, v_stride, out_stride;  // from one token to the next
  int64_t keys, width;

  // Writes the results of `rows` queries from `first` on. `scores` has room for kQueries * kKeys floats.
  void attend(int64_t first, int64_t rows, Queries& queries, float* scores) const {
    using at::native::cpublas::brgemm;
    queries.reset();
    for (int64_t key = 0; key < keys; key += kKeys) {
      const int64_t count = std::min(kKeys, keys - key);
      brgemm(rows, count, width, q_stride, keys, count, /*add_C=*/false, q + first * q_stride, k + key, scores);
      exponentiate(scores, rows, count, queries);
      brgemm(rows, width, count, count, v_stride, width, /*add_C=*/true, scores, v + key * v_stride,
             queries.out.data());
    }
    divide(queries, rows, out + first * out_stride, out_stride);
  }
};

}  // namespace

bool is_for_flash_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  constexpr int64_t kVector = 16;
  const auto is_fit = [](const at::Tensor& x) {
    return kernel_device(x) == at::kCPU && x.scalar_type() == at::kFloat && x.dim() == 4 && x.numel() > 0 &&
           x.stride(3) == 1 && x.stride(2) >= x.size(3);
  };
  const auto goes_with_q = [&](const at::Tensor& x) {
    return x.size(0) == q.size(0) && x.size(1) == q.size(1) && x.size(3) == q.size(3);
  };
  return is_fit(q) && is_fit(k) && is_fit(v) && goes_with_q(k) && goes_with_q(v) && k.size(2) == v.size(2) &&
         q.size(3) >= kVector && prefers_onednn() && at::globalContext().userEnabledFlashSDP();
}

at::Tensor flash_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  const int64_t heads = q.size(1), length = q.size(2), keys = k.size(2), width = q.size(3);
  at::Tensor k_rows = at::empty({k.size(0), heads, width, keys}, k.options());
  if (q.is_meta()) return at::scaled_dot_product_attention(q, k, v);  // counts all but the copy of the keys, made above
  const TraceSpan span("flash_attention");
  const at::Tensor out = at::empty({q.size(0), length, heads, width}, q.options());
  at::mul_out(k_rows, k.transpose(2, 3), at::scalar_tensor(scale));
  const auto head = [&](int64_t b, int64_t h) {
    return Head{.q = q.const_data_ptr<float>() + b * q.stride(0) + h * q.stride(1),
                .k = k_rows.const_data_ptr<float>() + b * k_rows.stride(0) + h * k_rows.stride(1),
                .v = v.const_data_ptr<float>() + b * v.stride(0) + h * v.stride(1),
                .out = out.mutable_data_ptr<float>() + b * out.stride(0) + h * out.stride(2),
                .q_stride = q.stride(2),
                .v_stride = v.stride(2),
                .out_stride = out.stride(1),
                .keys = keys,
                .width = width};
  };
  const int64_t blocks = (length + kQueries - 1) / kQueries;
  at::parallel_for(0, q.size(0) * heads * blocks, 1, [&](int64_t begin, int64_t end) {
    Queries queries(width);
    std::vector<float> scores(kQueries * kKeys);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % blocks * kQueries, item = i / blocks;
      head(item / heads, item % heads).attend(first, std::min(kQueries, length - first), queries, scores.data());
    }
  });
  return out.transpose(1, 2);
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options) {
  const at::ScalarType dtype = computing_dtype(q.scalar_type(), Work::kAttention, kernel_device(q));
  if (dtype != q.scalar_type()) {
    AttentionOptions converted = options;
    if (options.bias.defined()) converted.bias = options.bias.to(dtype);
    return attention(q.to(dtype), k.to(dtype), v.to(dtype), converted).to(q.scalar_type());
  }
  if (!options.bias.defined() && !options.causal && is_for_flash_attention(q, k, v)) {
    return flash_attention(q, k, v, options.scale.value_or(1 / std::sqrt(static_cast<double>(q.size(-1)))));
  }
  const std::optional<at::Tensor> bias = options.bias.defined() ? std::optional(options.bias) : std::nullopt;
  return without_failing_cudnn([&] {
    return at::scaled_dot_product_attention(q, k, v, bias, /*dropout_p=*/0.0, options.causal, options.scale);
  });
}

namespace {

using NamedBackend = std::pair<const char*, at::SDPBackend>;
constexpr std::array<NamedBackend, 4> kBackends = {{{"cudnn", at::SDPBackend::cudnn_attention},
                                                    {"flash", at::SDPBackend::flash_attention},
                                                    {"efficient", at::SDPBackend::efficient_attention},
                                                    {"math", at::SDPBackend::math}}};

bool is_cudnns(const std::string& error) {
  const auto has = [&](const char* words) { return error.find(words) != std::string::npos; };
  return (has("cuDNN") || has("CUDNN") || has("No execution plans")) && !says_out_of_memory(error);
}

bool has_other_kernels() {
  const at::Context& context = at::globalContext();
  return context.userEnabledFlashSDP() || context.userEnabledMemEfficientSDP() || context.userEnabledMathSDP();
}

}  // namespace

void prefer_fast_attention() { prefer_attention("cudnn"); }

void prefer_attention(const std::string& name) {
  std::array<NamedBackend, 4> order = kBackends;
  std::stable_partition(order.begin(), order.end(), [&](const NamedBackend& backend) { return backend.first == name; });
  std::vector<int64_t> numbers;
  numbers.reserve(order.size());
  for (const NamedBackend& backend : order) numbers.push_back(static_cast<int64_t>(backend.second));
  at::globalContext().setSDPPriorityOrder(numbers);
}

void switch_off_attention(const std::string& name) {
  at::Context& context = at::globalContext();
  if (name == "cudnn") context.setSDPUseCuDNN(false);
  if (name == "flash") context.setSDPUseFlash(false);
  if (name == "efficient") context.setSDPUseMemEfficient(false);
  if (name == "math") context.setSDPUseMath(false);
}

at::Tensor without_failing_cudnn(const std::function<at::Tensor()>& work) {
  try {
    return work();
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    const bool can_go_on = at::globalContext().userEnabledCuDNNSDP() && has_other_kernels();
    if (!can_go_on || !is_cudnns(what)) throw;
    spdlog::warn("attention goes on without cuDNN's kernel, which failed: {}", first_line(what));
  }
  switch_off_attention("cudnn");
  return work();
}

namespace {

// LibTorch throws if every kernel that could run is switched off.
at::SDPBackend choose(const at::Tensor& x) {
  try {
    return static_cast<at::SDPBackend>(at::_fused_sdp_choice(x, x, x));
  } catch (const c10::Error&) {
    return at::SDPBackend::error;
  }
}

void enable(bool cudnn, bool flash, bool efficient, bool math) {
  at::Context& context = at::globalContext();
  context.setSDPUseCuDNN(cudnn);
  context.setSDPUseFlash(flash);
  context.setSDPUseMemEfficient(efficient);
  context.setSDPUseMath(math);
}

}  // namespace

std::string attention_backend(at::Device device, at::ScalarType dtype, int64_t length, int64_t head_dim) {
  // The choice depends on the device, the dtype, the length and the width of a head, not on the number of heads.
  const at::ScalarType computing = computing_dtype(dtype, Work::kAttention, device);
  const at::Tensor x = at::empty({1, 1, length, head_dim}, at::TensorOptions().device(device).dtype(computing));
  const at::SDPBackend chosen = choose(x);
  for (const auto& [name, backend] : kBackends) {
    if (backend == chosen) return name;
  }
  return chosen == at::SDPBackend::error ? "none" : "other";
}

OnlyAttentionBackend::OnlyAttentionBackend(const std::string& name, bool or_plain)
    : cudnn_(at::globalContext().userEnabledCuDNNSDP()),
      flash_(at::globalContext().userEnabledFlashSDP()),
      efficient_(at::globalContext().userEnabledMemEfficientSDP()),
      math_(at::globalContext().userEnabledMathSDP()) {
  enable(name == "cudnn", name == "flash", name == "efficient", or_plain || name == "math");
}

OnlyAttentionBackend::~OnlyAttentionBackend() { enable(cudnn_, flash_, efficient_, math_); }

}  // namespace opensora::nn
