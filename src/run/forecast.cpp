#include "run/forecast.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "core/cpu_features.h"
#include "core/stopwatch.h"
#include "core/units.h"
#include "io/random_checkpoint.h"
#include "media/video_writer.h"
#include "nn/attention.h"
#include "nn/conv.h"
#include "nn/linear.h"

namespace fs = std::filesystem;

namespace opensora::run {
namespace {

// How long the fastest of some runs takes, after one to warm up: what else a machine does makes them longer, never
// shorter.
double best_seconds(const std::function<void()>& work) {
  constexpr int kRuns = 6;
  work();
  double best = std::numeric_limits<double>::max();
  for (int run = 0; run < kRuns; ++run) best = std::min(best, seconds_of(at::kCPU, work));
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

// Channels of an autoencoder's levels, from its pictures inwards.
const std::vector<int64_t>& level_widths(const VideoAutoencoderConfig& config) {
  if (const auto* dc_ae = std::get_if<DCAEConfig>(&config)) return dc_ae->width_list;
  return std::get<HunyuanVAEConfig>(config).block_out_channels;
}

double convolution_flops(const nn::ConvOptions& options, at::IntArrayRef shape, at::ScalarType dtype) {
  MetaDevice meta(at::kCPU);
  const nn::Conv layer(Weights(std::make_shared<MetaSource>(), at::kMeta, dtype, {.stands_for = at::kCPU}), 3, options);
  layer(at::empty(shape, at::TensorOptions().device(at::kMeta).dtype(dtype)));
  return meta.flops().convolution;
}

// By the FLOPs that are counted of it, which are fewer than its definition's where the layer has a shorter way.
double convolution_rate_of(int64_t channels, at::ScalarType dtype) {
  constexpr int64_t kFrames = 4, kEdge = 32;
  const nn::ConvOptions options{.in_channels = channels, .out_channels = channels};
  const std::vector<int64_t> shape = {1, channels, kFrames, kEdge, kEdge};
  const nn::Conv layer(Weights(std::make_shared<io::RandomSource>(), at::kCPU, dtype), 3, options);
  const at::Tensor x = at::ones(shape, dtype);
  return convolution_flops(options, shape, dtype) / best_seconds([&] { layer(x); });
}

// As the levels have about the same share of a decoder's FLOPs, the mean of the time that the outermost and the widest
// take for the same.
double convolution_rate(const Config& config, at::ScalarType dtype) {
  const std::vector<int64_t>& widths = level_widths(config.ae);
  const int64_t outer = std::min<int64_t>(widths.front(), 128), inner = std::min<int64_t>(widths.back(), 256);
  return 2 / (1 / convolution_rate_of(outer, dtype) + 1 / convolution_rate_of(inner, dtype));
}

constexpr double kPngBits = 12;  // a pixel, of the 24 that noise would take

// Bits a pixel in the file, as measured with the demo model's clips, as they are and enlarged to 512x512. At crf 18
// x264 takes 0.07 to 0.17 in yuv420p and twice as much in RGB, and x265 two thirds of that; by x264's own rule 6 steps
// of crf halve the rate. Without loss x264 takes 0.6 to 1.8, and FFV1 a quarter of the raw bits, or half of them where
// a channel has more than 8.
double coded_bits(const GenerateRequest& request) {
  const fs::path name =
      request.output.empty() ? fs::path("video" + media::default_extension(request.codec)) : request.output;
  const media::Encoding encoding = media::resolve_encoding(name, request.codec, request.pix_fmt);
  const double raw = media::raw_bits_per_pixel(encoding.pixel_format);
  const bool is_rgb =
      encoding.pixel_format.find("rgb") != std::string::npos || encoding.pixel_format.find("gbr") != std::string::npos;
  if (encoding.is_lossless) return raw * (raw > 24 ? 0.5 : 0.35);
  const double lossy = 0.1 * std::exp2((18.0 - request.crf) / 6) * (encoding.codec == "hevc" ? 0.7 : 1);
  const bool keeps_all = request.crf == 0;
  return (keeps_all ? 1.5 : lossy) * (is_rgb ? 2 : 1);
}

struct Need {
  std::string what;
  fs::path folder;
  int64_t bytes = 0;
};

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

std::vector<Need> needs_of(const Job& job, int64_t waiting) {
  constexpr int64_t kFloat = sizeof(float);
  const GenerateRequest& request = job.request;
  const sampling::LatentShape& shape = job.latent_shape;
  const int64_t frames = request.config.sampling.num_frames;
  const int64_t pixels = job.size.width * job.size.height * frames;
  const int64_t latent = shape.channels * shape.frames * shape.height * shape.width * kFloat;
  const int64_t file = expected_file_bytes(request, job.size, frames);
  std::vector<Need> needs = {{"the latent takes " + format_bytes(latent), folder_of(job.latent_file), latent},
                             {"the video about " + format_bytes(file), folder_of(job.output), file}};
  const auto add = [&](const std::string& what, const fs::path& folder, int64_t bytes) {
    needs.push_back({what + format_bytes(bytes), folder, bytes});
  };
  if (waiting > 0) add(fmt::format("{} more to be written about ", waiting), folder_of(job.output), waiting * file);
  if (!request.save_frames.empty()) {
    add("`save_frames` about ", request.save_frames, static_cast<int64_t>(static_cast<double>(pixels) * kPngBits / 8));
  }
  if (!request.save_tensors.empty()) {
    add("`save_tensors` ", folder_of(request.save_tensors), 2 * latent + 3 * pixels * kFloat);
  }
  return needs;
}

}  // namespace

double Rates::seconds(const FlopCount& flops) const {
  return flops.linear / linear + flops.convolution / convolution + flops.attention / attention;
}

Rates measure_rates(const Config& config, int64_t tokens, at::ScalarType dtype, bool with_convolutions) {
  Rates rates;
  const auto computing = [&](Work work) { return computing_dtype(dtype, work, at::kCPU); };
  rates.linear = product_rate(config.model, tokens, computing(Work::kProduct));
  rates.attention = attention_rate(config.model, tokens, computing(Work::kProduct));
  if (with_convolutions) rates.convolution = convolution_rate(config, computing(Work::kConvolution));
  return rates;
}

// The matrices of a block, of either kind, are those of q, k, v and of what follows attention, and two of the MLP.
FlopCount sampling_flops(const Job& job, int64_t first) {
  const Config& config = job.request.config;
  const MMDiTConfig& model = config.model;
  const auto forwards = static_cast<double>(sampling_forwards(job, first));
  const auto image = static_cast<double>(job.image_tokens());
  const double tokens = image + static_cast<double>(config.t5.max_length);
  const auto blocks = static_cast<double>(model.blocks());
  const auto width = static_cast<double>(model.hidden_size), hidden = static_cast<double>(model.mlp_hidden());
  const double ends = 2 * image * width * 2 * static_cast<double>(model.in_channels);  // the first and the last layer
  return {.linear = forwards * (2 * tokens * (4 * width * width + 2 * width * hidden) * blocks + ends),
          .attention = forwards * 4 * tokens * tokens * width * blocks};
}

int64_t expected_file_bytes(const GenerateRequest& request, PixelSize size, int64_t frames) {
  constexpr int64_t kContainerBytes = 8 * 1024;  // index and metadata
  size = request.output_size.value_or(size);
  const double bits = frames == 1 ? kPngBits : coded_bits(request);
  return kContainerBytes + static_cast<int64_t>(static_cast<double>(size.width * size.height * frames) * bits / 8);
}

std::optional<std::string> lack_of_space(const Job& job, int64_t waiting) {
  std::map<dev_t, std::vector<Need>> by_disk;
  for (Need& need : needs_of(job, waiting)) {
    struct stat status {};
    if (::stat(need.folder.c_str(), &status) == 0) by_disk[status.st_dev].push_back(std::move(need));
  }
  for (const auto& [disk, needs] : by_disk) {
    int64_t sum = 0;
    std::vector<std::string> texts;
    for (const Need& need : needs) {
      sum += need.bytes;
      texts.push_back(need.what);
    }
    std::error_code error;
    const fs::space_info space = fs::space(needs.front().folder, error);
    if (error || space.available >= static_cast<uintmax_t>(sum)) continue;
    return fmt::format("{}: the disk is full: {} are free; {}", job.output.string(),
                       format_bytes(static_cast<int64_t>(space.available)), fmt::join(texts, ", "));
  }
  return std::nullopt;
}

}  // namespace opensora::run
