// The transformer's blocks and a convolution of the decoder's at the sizes of real runs: some rows of the result
// against float32, the time against what plan would say, and so the memory.
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/cpu_features.h"
#include "core/device.h"
#include "core/machine.h"
#include "core/meta_device.h"
#include "core/stopwatch.h"
#include "core/units.h"
#include "core/weights.h"
#include "diffusion/blocks.h"
#include "io/random_checkpoint.h"
#include "nn/conv.h"
#include "nn/fused.h"
#include "run/forecast.h"
#include "tools/device_table.h"
#include "tools/roofline.h"
#include "tools/selftest_check.h"
#include "tools/simulation.h"

namespace opensora::tools {
namespace {

using diffusion::DoubleStreamBlock;
using diffusion::Modulation;
using diffusion::PerStream;
using diffusion::SelfAttention;
using diffusion::SingleStreamBlock;
using diffusion::Workspace;
using nn::RotaryEmbedding;

constexpr double kEps = 1e-6;
constexpr int64_t kRows = 32;  // that are compared
// As of the golden transformer: the rows are a few additions away from what they were.
constexpr Limits kBlockLimits{1e-4, 1e-2, 5e-2};

// What is the same for all checks of a size.
struct Setting {
  at::Device device;
  at::ScalarType dtype;
  MMDiTConfig config;
  int64_t text = 0, tokens = 0;  // the text's are among them

  at::Tensor random(at::IntArrayRef shape, uint64_t seed, double scale, double shift = 0) const {
    const at::Tensor x = at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::TensorOptions());
    return x.mul_(scale).add_(shift).to(device, computing_dtype(dtype, Work::kProduct, device));
  }
};

// What a plan would say of `run`, which is called while a MetaDevice stands in for the device.
struct Prediction {
  StagePlan stage;
  int64_t peak_bytes = 0;
};

template <typename Run>
Prediction predict(at::Device device, const Run& run) {
  MetaDevice meta(device);
  Prediction result;
  const auto work = run();
  meta.reset_counts();
  work();
  add_counts(result.stage, {meta.flops(), meta.bytes()}, 1);
  result.peak_bytes = meta.peak_bytes();
  return result;
}

std::optional<Roofline> roofline_here(const Setting& setting) {
  if (setting.device.is_cpu()) {
    Config config;
    config.model = setting.config;
    return measured_roofline(run::measure_rates(config, setting.tokens, setting.dtype, /*with_convolutions=*/true));
  }
  const GpuInfo* present = gpu_of(setting.device);
  const GpuFigures* gpu = present == nullptr ? nullptr : find_present_gpu(present->name, present->memory_bytes);
  return gpu != nullptr ? std::optional(roofline_of(*gpu, setting.dtype != at::kFloat)) : std::nullopt;
}

std::string figures(const Setting& setting, double seconds, int64_t peak_bytes, const Prediction& prediction) {
  std::string text = fmt::format("{:.3g} s", seconds);
  if (const std::optional<Roofline> roofline = roofline_here(setting)) {
    text += fmt::format(" ({:.3g} predicted)", compute_seconds(*roofline, prediction.stage));
  } else {
    text += " (no figures of this GPU are known)";
  }
  if (peak_bytes > 0) {
    text += fmt::format(", {} ({} predicted)", format_bytes(peak_bytes), format_bytes(prediction.peak_bytes));
  }
  return text;
}

// ---- By definition, in float32, for some rows ----

at::Tensor wide(const at::Tensor& x) { return x.to(at::kFloat); }

at::Tensor project(const at::Tensor& x, const nn::Linear& layer) {
  const at::Tensor y = x.matmul(wide(layer.weight).t());
  return layer.bias.defined() ? y + wide(layer.bias) : y;
}

at::Tensor normed(const at::Tensor& x, const Modulation& mod) {
  const at::Tensor norm = at::layer_norm(x, {x.size(-1)}, {}, {}, kEps);
  return (1 + wide(mod.scale)) * norm + wide(mod.shift);
}

// [1, L, C] -> [1, L, H, D]
at::Tensor rotated(const at::Tensor& x, int64_t heads, const nn::RMSNorm& norm, const RotaryEmbedding& pe) {
  const at::Tensor in = x.unflatten(2, {heads, -1});
  at::Tensor out = at::empty_like(in);
  nn::plain::rms_norm_rope(out, in, wide(norm.scale), pe, norm.eps);
  return out;
}

RotaryEmbedding rows_of(const RotaryEmbedding& pe, const at::Tensor& rows) {
  return {pe.cos.index_select(0, rows), pe.sin.index_select(0, rows), pe.rotate_half};
}

// q [1, R, H, D] of some rows, k and v [1, L, H, D] of all -> [1, R, C]
at::Tensor attended(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
  const at::Tensor scores = q.transpose(1, 2).matmul(k.permute({0, 2, 3, 1})).mul_(scale).softmax(-1);
  return scores.matmul(v.transpose(1, 2)).transpose(1, 2).flatten(2);
}

struct Layers {
  nn::Linear q, k, v;
};

Layers layers_of(const SelfAttention& attention, int64_t width) {
  if (!attention.qkv) return {*attention.q_proj, *attention.k_proj, *attention.v_proj};
  const nn::Linear& all = *attention.qkv;
  return {all.outputs(0, width), all.outputs(width, width), all.outputs(2 * width, width)};
}

at::Tensor single_block_rows(const SingleStreamBlock& block, const at::Tensor& x, const at::Tensor& mods,
                             const RotaryEmbedding& pe, const at::Tensor& rows) {
  const int64_t width = block.hidden_size, heads = block.num_heads;
  const Modulation mod = diffusion::split_modulations(mods, width)[0];
  const bool fused = block.linear1.has_value();
  const nn::Linear q = fused ? block.linear1->outputs(0, width) : *block.q_proj;
  const nn::Linear k = fused ? block.linear1->outputs(width, width) : *block.k_proj;
  const nn::Linear v = fused ? block.linear1->outputs(2 * width, width) : block.v_mlp->outputs(0, width);
  const nn::Linear in =
      fused ? block.linear1->outputs(3 * width, block.mlp_hidden) : block.v_mlp->outputs(width, block.mlp_hidden);
  const at::Tensor all = normed(wide(x), mod), some = all.index_select(1, rows);
  const at::Tensor attention =
      attended(rotated(project(some, q), heads, block.norm.query_norm, rows_of(pe, rows)),
               rotated(project(all, k), heads, block.norm.key_norm, pe), project(all, v).unflatten(2, {heads, -1}));
  const at::Tensor hidden = at::gelu(project(some, in), "tanh");
  return wide(x).index_select(1, rows) + wide(mod.gate) * project(at::cat({attention, hidden}, 2), block.linear2);
}

// The rows of one stream. `all`: the modulated input of both streams, [1, L, C].
at::Tensor double_block_rows(const DoubleStreamBlock& block, const Setting& setting, const at::Tensor& x,
                             const PerStream<at::Tensor>& mods, const RotaryEmbedding& pe, const at::Tensor& rows,
                             bool of_text) {
  const int64_t width = block.hidden_size, heads = block.num_heads, text = setting.text;
  std::vector<at::Tensor> keys, values, inputs;
  for (const bool is_text : {true, false}) {
    const DoubleStreamBlock::Stream& stream = is_text ? block.txt : block.img;
    const int64_t first = is_text ? 0 : text, length = is_text ? text : setting.tokens - text;
    const Modulation mod = diffusion::split_modulations(is_text ? mods.txt : mods.img, width)[0];
    inputs.push_back(normed(wide(x.narrow(1, first, length)), mod));
    const Layers layers = layers_of(stream.attn, width);
    keys.push_back(
        rotated(project(inputs.back(), layers.k), heads, stream.attn.norm.key_norm, pe.slice(first, length)));
    values.push_back(project(inputs.back(), layers.v).unflatten(2, {heads, -1}));
  }
  const DoubleStreamBlock::Stream& stream = of_text ? block.txt : block.img;
  const std::vector<Modulation> mod = diffusion::split_modulations(of_text ? mods.txt : mods.img, width);
  const at::Tensor some = at::cat(inputs, 1).index_select(1, rows);
  const at::Tensor q =
      rotated(project(some, layers_of(stream.attn, width).q), heads, stream.attn.norm.query_norm, rows_of(pe, rows));
  const at::Tensor attention = attended(q, at::cat(keys, 1), at::cat(values, 1));
  const at::Tensor middle = wide(x).index_select(1, rows) + wide(mod[0].gate) * project(attention, stream.attn.proj);
  const at::Tensor hidden = at::gelu(project(normed(middle, mod[1]), stream.mlp.in_layer), "tanh");
  return middle + wide(mod[1].gate) * project(hidden, stream.mlp.out_layer);
}

// ---- The checks ----

// [R], evenly over the tokens from `first` on.
at::Tensor some_rows(int64_t first, int64_t length, at::Device device) {
  return at::linspace(static_cast<double>(first), static_cast<double>(first + length - 1), kRows).to(device, at::kLong);
}

RotaryEmbedding random_rope(const Setting& setting) {
  const at::Tensor angles = at::randn({setting.tokens, setting.config.head_dim() / 2},
                                      at::make_generator<at::CPUGeneratorImpl>(7), at::TensorOptions());
  return {angles.cos().to(setting.device), angles.sin().to(setting.device), setting.config.use_liger_rope};
}

Weights random_weights(const Setting& setting) {
  return {std::make_shared<io::RandomSource>(), setting.device, setting.dtype};
}

// On the meta device, in place of the setting's.
Weights no_weights(const Setting& setting) {
  return {std::make_shared<MetaSource>(), at::kMeta, setting.dtype, {.stands_for = setting.device}};
}
at::TensorOptions activations(const Setting& setting, at::Device device) {
  return at::TensorOptions().device(device).dtype(computing_dtype(setting.dtype, Work::kProduct, setting.device));
}
RotaryEmbedding no_rope(const Setting& setting) {
  const at::Tensor table =
      at::empty({setting.tokens, setting.config.head_dim() / 2}, at::TensorOptions().device(at::kMeta));
  return {table, table, setting.config.use_liger_rope};
}

// Shifts, scales and gates.
at::Tensor random_mods(const Setting& setting, int64_t count, uint64_t seed) {
  return setting.random({1, count * setting.config.hidden_size}, seed, 0.3, 0.5);
}

// Runs a block twice on the same stream, and times the second run. Returns its text; `x` is what came out.
template <typename Run>
std::string time_block(const Setting& setting, const Workspace& work, const at::Tensor& x, const Prediction& prediction,
                       int64_t held_before, const Run& run) {
  double seconds = 0;
  for (int i = 0; i < 2; ++i) {
    work.x.copy_(x).mul_(work.scale());
    seconds = seconds_of(setting.device, run);
  }
  return figures(setting, seconds, peak_device_bytes(setting.device) - held_before, prediction);
}

Outcome with_figures(Outcome outcome, const std::string& text) {
  outcome.text = text + "; " + outcome.text;
  return outcome;
}

Outcome check_single_block(const Setting& setting) {
  const MMDiTConfig& config = setting.config;
  const Prediction prediction = predict(setting.device, [&] {
    auto block = std::make_shared<SingleStreamBlock>(no_weights(setting), config);
    auto work = std::make_shared<Workspace>(config, 1, setting.tokens, activations(setting, at::kMeta),
                                            diffusion::mlp_layout(setting.device));
    const at::Tensor mods = at::empty({1, 3 * config.hidden_size}, activations(setting, at::kMeta));
    return [=, pe = no_rope(setting)] { (*block)(*work, mods, pe); };
  });
  const at::Tensor x = setting.random({1, setting.tokens, config.hidden_size}, 1, 1);
  const at::Tensor rows = some_rows(0, setting.tokens, setting.device);
  reset_peak_bytes(setting.device);
  const int64_t before = peak_device_bytes(setting.device);
  const SingleStreamBlock block(random_weights(setting), config);
  const Workspace work(config, 1, setting.tokens, x.options(), diffusion::mlp_layout(setting.device));
  const at::Tensor mods = random_mods(setting, 3, 2);
  const RotaryEmbedding pe = random_rope(setting);
  const std::string text = time_block(setting, work, x, prediction, before, [&] { block(work, mods, pe); });
  const at::Tensor actual = wide(work.x.index_select(1, rows)) / work.scale();
  return with_figures(compare(actual, single_block_rows(block, x, mods, pe, rows), kBlockLimits.of(setting.dtype)),
                      text);
}

Outcome check_double_block(const Setting& setting) {
  const MMDiTConfig& config = setting.config;
  const Prediction prediction = predict(setting.device, [&] {
    auto block = std::make_shared<DoubleStreamBlock>(no_weights(setting), config);
    auto work = std::make_shared<Workspace>(config, 1, setting.tokens, activations(setting, at::kMeta),
                                            diffusion::mlp_layout(setting.device));
    const at::Tensor mods = at::empty({1, 6 * config.hidden_size}, activations(setting, at::kMeta));
    return [=, &setting, pe = no_rope(setting)] { (*block)(*work, setting.text, {mods, mods}, pe); };
  });
  const at::Tensor x = setting.random({1, setting.tokens, config.hidden_size}, 1, 1);
  reset_peak_bytes(setting.device);
  const int64_t before = peak_device_bytes(setting.device);
  const DoubleStreamBlock block(random_weights(setting), config);
  const Workspace work(config, 1, setting.tokens, x.options(), diffusion::mlp_layout(setting.device));
  const PerStream<at::Tensor> mods{random_mods(setting, 6, 2), random_mods(setting, 6, 3)};
  const RotaryEmbedding pe = random_rope(setting);
  const std::string text =
      time_block(setting, work, x, prediction, before, [&] { block(work, setting.text, mods, pe); });
  std::vector<at::Tensor> actual, expected;
  for (const bool of_text : {true, false}) {
    const int64_t first = of_text ? 0 : setting.text, length = of_text ? setting.text : setting.tokens - setting.text;
    const at::Tensor rows = some_rows(first, length, setting.device);
    actual.push_back(wide(work.x.index_select(1, rows)) / work.scale());
    expected.push_back(double_block_rows(block, setting, x, mods, pe, rows, of_text));
  }
  return with_figures(compare(at::cat(actual, 1), at::cat(expected, 1), kBlockLimits.of(setting.dtype)), text);
}

// A layer of the decoder's middle, 3x3x3.
Outcome check_convolution(const Setting& setting, int64_t channels, int64_t frames, int64_t edge) {
  const nn::ConvOptions options{.in_channels = channels, .out_channels = channels};
  const auto dtype = computing_dtype(setting.dtype, Work::kConvolution, setting.device);
  const std::vector<int64_t> shape = {1, channels, frames, edge, edge};
  const Prediction prediction = predict(setting.device, [&] {
    const at::Tensor x =
        at::empty(shape, at::TensorOptions().device(at::kMeta).dtype(dtype), at::MemoryFormat::ChannelsLast3d);
    return [x, layer = nn::Conv(no_weights(setting), 3, options)] { layer(x); };
  });
  reset_peak_bytes(setting.device);
  const int64_t before = peak_device_bytes(setting.device);
  const nn::Conv layer(random_weights(setting), 3, options);
  const at::Tensor x = setting.random(shape, 1, 1).to(dtype).contiguous(at::MemoryFormat::ChannelsLast3d);
  at::Tensor out = layer(x);
  const double seconds = seconds_of(setting.device, [&] { out = layer(x); });
  const std::string text = figures(setting, seconds, peak_device_bytes(setting.device) - before, prediction);

  const at::Tensor padded = at::constant_pad_nd(wide(x), {1, 1, 1, 1, 1, 1});
  const at::Tensor weight = wide(layer.weight).flatten(1);
  std::vector<at::Tensor> actual, expected;
  for (int64_t i = 0; i < kRows; ++i) {
    const int64_t place = i * (frames * edge * edge - 1) / (kRows - 1);
    const int64_t t = place / (edge * edge), y = place / edge % edge, z = place % edge;
    const at::Tensor seen = padded.narrow(2, t, 3).narrow(3, y, 3).narrow(4, z, 3).reshape({-1});
    expected.push_back(weight.mv(seen) + wide(layer.bias));
    actual.push_back(out.select(4, z).select(3, y).select(2, t).flatten());
  }
  return with_figures(compare(at::cat(actual), at::cat(expected), kBlockLimits.of(setting.dtype)), text);
}

}  // namespace

std::vector<SelfCheck> size_checks(at::Device device, const Dtypes& dtypes) {
  const bool small = device.is_cpu();  // where real sizes would take minutes
  std::vector<SelfCheck> checks;
  for (const at::ScalarType dtype : dtypes) {
    Setting setting{.device = device, .dtype = dtype, .config = {}};
    setting.text = small ? 64 : 512;
    if (small) {
      setting.config.hidden_size = 256;
      setting.config.num_heads = 2;
    }
    const auto add = [&](const std::string& what, const std::function<Outcome(const Setting&)>& check) {
      checks.push_back({"size", what + " " + dtype_name(dtype), [check, setting] { return check(setting); }});
    };
    for (const int64_t tokens : small ? std::vector<int64_t>{256, 1024} : std::vector<int64_t>{9'000, 77'000}) {
      setting.tokens = tokens;
      add(fmt::format("single block, {} tokens", tokens), check_single_block);
      add(fmt::format("double block, {} tokens", tokens), check_double_block);
    }
    const int64_t channels = small ? 128 : 512, frames = small ? 4 : 16, edge = small ? 16 : 96;
    add(fmt::format("convolution, {} channels", channels),
        [=](const Setting& its) { return check_convolution(its, channels, frames, edge); });
  }
  return checks;
}

}  // namespace opensora::tools
