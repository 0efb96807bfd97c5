// From decoded pieces to frames of 8 bits, and from frames to files.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <functional>
#include <string>

#include "autoencoder/tiling.h"
#include "media/picture.h"
#include "media/video_writer.h"
#include "opensora/video.h"

namespace opensora::run {

// Throws NumericError if any value of `frames` is not finite; `what` names them in the message.
void check_finite_frames(const at::Tensor& frames, const std::string& what);

// uint8 [H, W, 3]: a view, which `picture` must outlive.
at::Tensor as_tensor(media::Picture& picture);

// Frame `t` of [1, 3, T, H, W] in [-1, 1], clamped and rounded to uint8 [H, W, 3]: on the frames' device, or on the
// CPU.
at::Tensor rgb24_on_device(const at::Tensor& frames, int64_t t);
at::Tensor to_rgb24(const at::Tensor& frames, int64_t t);

// The tensor on the CPU; it is copied from another device through pinned memory.
at::Tensor to_host(const at::Tensor& x);

// The file that frames are written to: a video, or a PNG for a single frame. Their size is taken from the first one.
struct FrameFile {
  std::filesystem::path path;
  media::VideoOptions video;  // width and height are not needed
  bool overwrite = false;
};

// Writes frame(0) to frame(count - 1), each uint8 [H, W, 3] and all of one size, and calls `written` with the number of
// frames so far. Frames on another device are converted to the encoder's planes there, if it takes yuv420p and nothing
// is scaled. `commit` gives the complete file its name by commit_together(), along with others; without it the file is
// committed alone. Throws OutputError.
void write_frames(const FrameFile& file, int64_t count, const std::function<at::Tensor(int64_t t)>& frame,
                  const std::function<void(int64_t)>& written,
                  const std::function<void(const StagedFile&)>& commit = {});

// `rgb`, uint8 [H, W, 3], as the content of a PNG file. Errors name `path`.
std::string encode_picture(const std::filesystem::path& path, const at::Tensor& rgb);

// Converts `rgb`, uint8 [H, W, 3], to yuv420p on its device: one flat uint8 tensor with the planes Y [h, w], U and V
// [h/2, w/2], where h and w are H and W rounded up to even (the edge is replicated). BT.709 in limited range, chroma
// sited left. From 8x8 pixels on the result is within one level of media::FrameConverter's (swscale shortens its filter
// below).
at::Tensor to_yuv420p(const at::Tensor& rgb);

// Puts decoded pieces together as frames of 8 bits. Each piece is checked and converted as it arrives, so that never
// more than one tile of the video is held in float. Frames are handed on as soon as they are complete.
class RgbFrames {
 public:
  // So many frames of that size; whatever the decoder makes beyond it is cut off. `done` receives the next frames,
  // uint8 [t, H, W, 3] on the pieces' device. `what` names them in errors.
  RgbFrames(int64_t count, PixelSize size, std::string what, std::function<void(const at::Tensor& frames)> done);

  // Throws NumericError if any value of the piece is not finite, whether or not it is cut off.
  void add(const autoencoder::Piece& piece);

 private:
  int64_t count_;
  PixelSize size_;
  std::string what_;
  std::function<void(const at::Tensor& frames)> done_;
  at::Tensor frames_;  // under construction
};

}  // namespace opensora::run
