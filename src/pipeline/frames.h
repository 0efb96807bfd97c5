// From decoded frames to files.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <functional>
#include <string>

#include "media/video_writer.h"

namespace opensora::pipeline {

// Throws NumericError if any value of `frames` is not finite; `what` names them.
void check_finite_frames(const at::Tensor& frames, const std::string& what);

// Frame `t` of [1, 3, T, H, W] in [-1, 1], clamped and rounded: uint8 [H, W, 3] on the frames' device, and on the CPU.
at::Tensor rgb24_on_device(const at::Tensor& frames, int64_t t);
at::Tensor to_rgb24(const at::Tensor& frames, int64_t t);

// On the CPU; from another device through pinned memory.
at::Tensor to_host(const at::Tensor& x);

// Where `count` frames go: a video, or of a single frame a PNG. Their size is told by the first one.
struct FrameFile {
  std::filesystem::path path;
  media::VideoOptions video;  // width and height are not needed
  bool overwrite = false;
};

// Writes frame(0) to frame(count - 1), each uint8 [H, W, 3], all of one size; calls `written` with the number of frames
// so far. Those that are not on the CPU become the encoder's planes where they are, if it takes yuv420p and nothing is
// scaled. `commit` gives the complete file its name, by commit_together() with others; empty: it is alone.
// Throws OutputError.
void write_frames(const FrameFile& file, int64_t count, const std::function<at::Tensor(int64_t t)>& frame,
                  const std::function<void(int64_t)>& written,
                  const std::function<void(const StagedFile&)>& commit = {});

// uint8 [H, W, 3] as the content of a PNG file; errors name `path`.
std::string encode_picture(const std::filesystem::path& path, const at::Tensor& rgb);

}  // namespace opensora::pipeline
