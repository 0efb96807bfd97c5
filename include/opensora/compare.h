// How much two videos, pictures or latents differ.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "opensora/generate.h"

namespace opensora {

struct CompareRequest {
  // Both frames: a video, a picture, or a folder of PNG files, in the order of their names, as GenerateRequest's
  // save_frames writes it. Or both latents: files of safetensors as --keep-latents or save_tensors leave them.
  std::filesystem::path first, second;
  std::filesystem::path worst;  // .png for the frame that differs most, first beside second; empty: none
  bool overwrite = false;       // of that
};

// Of frames in 8-bit RGB, without their alpha.
struct FrameComparison {
  int64_t width = 0, height = 0;
  int64_t first_frames = 0, second_frames = 0;  // where one has more, they are not compared
  std::vector<double> psnr;  // of each frame, over all channels, in dB; infinite where nothing differs
  std::vector<double> ssim;  // of each frame, the mean over the channels: Wang et al. 2004, Gaussian 11x11, sigma 1.5
  double total_psnr = 0;     // of the mean squared error over all frames, as FFmpeg's "average"
  double mean_ssim = 0;
  int64_t worst_frame = 0;  // of the lowest PSNR, from 1
};

struct LatentComparison {
  std::vector<int64_t> shape;  // [1, C, T, h, w]
  double relative_error = 0;   // |second - first| / |first|, by the L2 norm
};

struct CompareResult {
  std::optional<FrameComparison> frames;
  std::optional<LatentComparison> latents;  // one of the two
};

// Frames are read as they are compared: two at a time are in memory, and the worst two. Reports the stage "compare".
// Throws UsageError for frames or latents of unequal sizes, or where only one of the two is a latent; InputMediaError,
// CheckpointError, OutputError.
CompareResult compare(const CompareRequest& request, const ProgressCallback& progress = {});

}  // namespace opensora
