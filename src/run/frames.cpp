#include "run/frames.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>

#include "media/png.h"
#include "media/video_writer.h"
#include "opensora/error.h"

namespace opensora::run {
namespace {

// BT.709: the weights of red and blue in luma. Limited range: luma has 219 levels from 16, chroma 224 around 128.
constexpr double kRed = 0.2126, kBlue = 0.0722, kGreen = 1 - kRed - kBlue;
constexpr double kFull = 255, kLuma = 219, kChroma = 224;

// Repeats the last row or column where there is an odd number of them.
at::Tensor even(const at::Tensor& x, int64_t dim) {
  return x.size(dim) % 2 == 0 ? x : at::cat({x, x.narrow(dim, x.size(dim) - 1, 1)}, dim);
}

// Repeats the first element of a dimension `before` times in front of it, and the last one `after` times behind it.
at::Tensor replicated(const at::Tensor& x, int64_t dim, int64_t before, int64_t after) {
  std::vector<at::Tensor> parts = {x};
  for (int64_t i = 0; i < before; ++i) parts.insert(parts.begin(), x.narrow(dim, 0, 1));
  for (int64_t i = 0; i < after; ++i) parts.push_back(x.narrow(dim, x.size(dim) - 1, 1));
  return at::cat(parts, dim);
}

// Every second element of a dimension, `count` in all, from `first` on.
at::Tensor halved(const at::Tensor& x, int64_t dim, int64_t first, int64_t count) {
  return x.slice(dim, first, first + 2 * count - 1, 2);
}

// Halves both edges, [3, h, w] -> [3, h/2, w/2], by a triangle filter as wide as two pixels of the result. Across it is
// centred on the left one of two pixels (weights 1 2 1), down it lies between two rows (1 3 3 1).
at::Tensor shrunk(const at::Tensor& x) {
  const int64_t rows = x.size(1) / 2, columns = x.size(2) / 2;
  const at::Tensor wide = replicated(x, 2, 1, 0);
  const at::Tensor narrow =
      (halved(wide, 2, 0, columns) + 2 * halved(wide, 2, 1, columns) + halved(wide, 2, 2, columns)) / 4;
  const at::Tensor tall = replicated(narrow, 1, 1, 1);
  return (halved(tall, 1, 0, rows) + 3 * halved(tall, 1, 1, rows) + 3 * halved(tall, 1, 2, rows) +
          halved(tall, 1, 3, rows)) /
         8;
}

// The weighted sum of the channels, [3, h, w] -> [h, w].
at::Tensor mixed(const at::Tensor& x, double red, double green, double blue) {
  return red * x[0] + green * x[1] + blue * x[2];
}

at::Tensor to_levels(const at::Tensor& x) { return x.round().clamp(0, kFull).to(at::kByte).flatten(); }

}  // namespace

at::Tensor as_tensor(media::Picture& picture) {
  return at::from_blob(picture.rgb.data(), {picture.height, picture.width, 3}, at::kByte);
}

at::Tensor to_yuv420p(const at::Tensor& rgb) {
  const at::Tensor x = even(even(rgb.permute({2, 0, 1}).to(at::kFloat), 1), 2) / kFull;  // [3, h, w]
  const at::Tensor small = shrunk(x);
  const double u = kChroma / (2 * (1 - kBlue)), v = kChroma / (2 * (1 - kRed));
  return at::cat({to_levels(16 + kLuma * mixed(x, kRed, kGreen, kBlue)),
                  to_levels(128 + u * mixed(small, -kRed, -kGreen, 1 - kBlue)),
                  to_levels(128 + v * mixed(small, 1 - kRed, -kGreen, -kBlue))});
}

void check_finite_frames(const at::Tensor& frames, const std::string& what) {
  const at::Tensor finite = at::isfinite(frames).all();
  if (finite.is_meta() || finite.item<bool>()) return;
  throw NumericError(what + " is not finite; try `dtype` bf16 or fp32, or check the autoencoder's weights");
}

at::Tensor rgb24_on_device(const at::Tensor& frames, int64_t t) {
  const at::Tensor frame = frames[0].select(1, t).to(at::kFloat).clamp(-1, 1);
  return ((frame + 1) * 127.5).round().to(at::kByte).permute({1, 2, 0}).contiguous();
}

at::Tensor to_rgb24(const at::Tensor& frames, int64_t t) { return to_host(rgb24_on_device(frames, t)); }

at::Tensor to_host(const at::Tensor& x) {
  if (x.is_cpu() || x.is_meta()) return x;
  return at::empty(x.sizes(), x.options().device(at::kCPU).pinned_memory(true)).copy_(x);
}

std::string encode_picture(const std::filesystem::path& path, const at::Tensor& rgb) {
  return media::encode_png(path, rgb.const_data_ptr<uint8_t>(), static_cast<int>(rgb.size(1)),
                           static_cast<int>(rgb.size(0)));
}

void write_frames(const FrameFile& file, int64_t count, const std::function<at::Tensor(int64_t t)>& frame,
                  const std::function<void(int64_t)>& written, const std::function<void(const StagedFile&)>& commit) {
  const auto finish = [&](const StagedFile& complete) {
    if (commit) return commit(complete);
    commit_together({&complete, 1});
  };
  const at::Tensor first = frame(0);
  media::VideoOptions video = file.video;
  video.height = static_cast<int>(first.size(0));
  video.width = static_cast<int>(first.size(1));
  if (count == 1) {
    const OutputFile output(file.path, file.overwrite);
    write_content(output.staged(), media::encode_png(file.path, to_host(first).const_data_ptr<uint8_t>(), video.width,
                                                     video.height, video.output_width, video.output_height));
    return finish(output.staged());
  }
  media::VideoWriter writer(file.path, video, file.overwrite);
  for (int64_t t = 0; t < count; ++t) {
    const at::Tensor rgb = t > 0 ? frame(t) : first;
    if (!rgb.is_cpu() && writer.takes_yuv420p()) {
      writer.write_yuv420p(to_host(to_yuv420p(rgb)).const_data_ptr<uint8_t>());
    } else {
      writer.write(to_host(rgb).const_data_ptr<uint8_t>());
    }
    written(t + 1);
  }
  finish(writer.complete());
}

RgbFrames::RgbFrames(int64_t count, PixelSize size, std::string what,
                     std::function<void(const at::Tensor& frames)> done)
    : count_(count), size_(size), what_(std::move(what)), done_(std::move(done)) {}

void RgbFrames::add(const autoencoder::Piece& piece) {
  check_finite_frames(piece.values, what_);
  const int64_t frames = std::min(piece.values.size(2), count_ - piece.t);
  if (frames <= 0) return;
  if (!frames_.defined()) {
    frames_ = at::empty({frames, size_.height, size_.width, 3}, piece.values.options().dtype(at::kByte));
  }
  const int64_t height = std::min(piece.values.size(3), size_.height - piece.y);
  const int64_t width = std::min(piece.values.size(4), size_.width - piece.x);
  if (height > 0 && width > 0) {
    const at::Tensor values = piece.values.narrow(3, 0, height).narrow(4, 0, width);
    const at::Tensor place = frames_.narrow(1, piece.y, height).narrow(2, piece.x, width);
    for (int64_t t = 0; t < frames; ++t) place[t].copy_(rgb24_on_device(values, t));
  }
  if (!piece.ends_frames()) return;
  const at::Device device = frames_.device();
  // The frames are read on another stream, so this one must be done with them. Others are not waited for, as another
  // thread's may be recording a graph.
  if (!device.is_cpu() && !device.is_meta()) c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
  done_(std::exchange(frames_, {}));
}

}  // namespace opensora::run
