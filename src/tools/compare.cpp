#include "opensora/compare.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <optional>
#include <system_error>

#include "core/output_file.h"
#include "media/media_reader.h"
#include "media/png.h"
#include "opensora/error.h"
#include "opensora/video.h"
#include "run/frames.h"
#include "run/remains.h"
#include "run/stage.h"
#include "tools/quality.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using run::StageClock;

bool is_latent(const fs::path& path) { return path.extension() == ".safetensors"; }

std::deque<fs::path> pictures_in(const fs::path& folder) {
  std::deque<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".png") files.push_back(entry.path());
  }
  if (files.empty()) throw InputMediaError(folder.string() + ": a folder without .png files");
  std::sort(files.begin(), files.end());
  return files;
}

// The frames of a video, a picture or a folder of pictures, one after another.
class FrameSource {
 public:
  FrameSource(const fs::path& path, const StageClock& clock) : path_(path), clock_(clock) {
    std::error_code error;
    if (fs::is_directory(path, error)) {
      files_ = pictures_in(path);
    } else {
      files_ = {path};
    }
  }

  // uint8 [H, W, 3]; undefined after the last. Throws UsageError for another size than the first.
  at::Tensor next() {
    while (reader_ || !files_.empty()) {
      if (!reader_) open_next();
      if (std::optional<media::Picture> picture = reader_->next()) return frame_of(*picture);
      reader_.reset();
    }
    return {};
  }

  // So many frames were read, or have been passed over.
  int64_t count() const { return count_; }

  void pass_over_the_rest() {
    for (; reader_ || !files_.empty(); reader_.reset()) {
      if (!reader_) open_next();
      count_ += reader_->skip(std::numeric_limits<int64_t>::max());
    }
  }

 private:
  void open_next() {
    reader_.emplace(files_.front(), media::ReadOptions{.poll = [this] { clock_.look(); }});
    files_.pop_front();
  }

  at::Tensor frame_of(media::Picture& picture) {
    const at::Tensor frame = run::as_tensor(picture).clone();
    if (++count_ == 1) size_ = {picture.width, picture.height};
    if (size_ == PixelSize{picture.width, picture.height}) return frame;
    throw UsageError(fmt::format("{}: frame {} is {}x{}, the first one {}x{}", path_.string(), count_, picture.width,
                                 picture.height, size_.width, size_.height));
  }

  fs::path path_;
  const StageClock& clock_;
  std::deque<fs::path> files_;  // those after reader_'s
  std::optional<media::MediaReader> reader_;
  PixelSize size_;
  int64_t count_ = 0;
};

struct WorstFrame {
  double error = -1;
  at::Tensor first, second;
};

void check_sizes(const CompareRequest& request, const at::Tensor& first, const at::Tensor& second) {
  if (first.sizes() == second.sizes()) return;
  throw UsageError(fmt::format("{} is {}x{}, {} is {}x{}: only frames of one size can be compared",
                               request.first.string(), first.size(1), first.size(0), request.second.string(),
                               second.size(1), second.size(0)));
}

// The frames that both have, and the worst of them.
WorstFrame compare_common(const CompareRequest& request, FrameSource& a, FrameSource& b, const StageClock& clock,
                          FrameComparison& result) {
  WorstFrame worst;
  double error_sum = 0;
  for (;;) {
    const at::Tensor first = a.next(), second = b.next();
    if (!first.defined() || !second.defined()) break;
    check_sizes(request, first, second);
    result.height = first.size(0);
    result.width = first.size(1);
    const double error = tools::mean_squared_error(first, second);
    error_sum += error;
    result.psnr.push_back(tools::psnr_of(error));
    result.ssim.push_back(tools::ssim(first, second));
    if (error > worst.error) {
      worst = {error, first, second};
      result.worst_frame = static_cast<int64_t>(result.psnr.size());
    }
    clock.report({"compare", static_cast<int64_t>(result.psnr.size()), 0});
  }
  result.total_psnr = tools::psnr_of(error_sum / static_cast<double>(result.psnr.size()));
  result.mean_ssim = tools::mean(result.ssim);
  return worst;
}

FrameComparison compare_frames(const CompareRequest& request, const StageClock& clock) {
  FrameSource a(request.first, clock), b(request.second, clock);
  FrameComparison result;
  const WorstFrame worst = compare_common(request, a, b, clock, result);
  a.pass_over_the_rest();
  b.pass_over_the_rest();
  result.first_frames = a.count();
  result.second_frames = b.count();
  if (a.count() != b.count()) {
    spdlog::warn("{} has {} frame(s), {} has {}: the first {} are compared", request.first.string(), a.count(),
                 request.second.string(), b.count(), result.psnr.size());
  }
  if (!request.worst.empty()) {
    const at::Tensor both = at::cat({worst.first, worst.second}, /*dim=*/1);
    media::write_png(request.worst, both.const_data_ptr<uint8_t>(), static_cast<int>(both.size(1)),
                     static_cast<int>(both.size(0)), request.overwrite);
  }
  return result;
}

LatentComparison compare_latents(const CompareRequest& request) {
  const at::Tensor first = run::read_latent(request.first), second = run::read_latent(request.second);
  if (first.sizes() != second.sizes()) {
    throw UsageError(fmt::format("{} is {}, {} is {}: only latents of one shape can be compared",
                                 request.first.string(), fmt::join(first.sizes(), "x"), request.second.string(),
                                 fmt::join(second.sizes(), "x")));
  }
  const at::Tensor a = first.to(at::kDouble), b = second.to(at::kDouble);
  return {.shape = first.sizes().vec(), .relative_error = ((b - a).norm() / a.norm()).item<double>()};
}

void check_request(const CompareRequest& request) {
  if (is_latent(request.first) != is_latent(request.second)) {
    const bool first = is_latent(request.first);
    throw UsageError(fmt::format("{} is a latent and {} is none", (first ? request.first : request.second).string(),
                                 (first ? request.second : request.first).string()));
  }
  if (request.worst.empty()) return;
  if (is_latent(request.first)) throw UsageError("`worst`: latents have no frames to be shown");
  if (request.worst.extension() != ".png") {
    throw UsageError(fmt::format("`worst` {}: expected .png, found \"{}\"", request.worst.string(),
                                 request.worst.extension().string()));
  }
  check_output(request.worst, request.overwrite);
}

}  // namespace

CompareResult compare(const CompareRequest& request, const ProgressCallback& progress) {
  const c10::InferenceMode inference;
  check_request(request);
  StageClock clock(at::kCPU, progress);
  return clock.run("compare", [&]() -> CompareResult {
    if (is_latent(request.first)) return {.frames = {}, .latents = compare_latents(request)};
    return {.frames = compare_frames(request, clock), .latents = {}};
  });
}

}  // namespace opensora
