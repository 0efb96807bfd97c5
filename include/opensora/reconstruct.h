// A video or image through an autoencoder and back: what the autoencoder alone loses.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "opensora/config.h"
#include "opensora/generate.h"

namespace opensora {

struct ReconstructRequest {
  std::filesystem::path input;  // an image or a video, of any size
  std::filesystem::path model_dir;
  Config config;
  Component autoencoder = Component::kAe;  // or kImgFluxAe
  // Weights of any of the three autoencoders, in place of that choice; empty: as configured. What a file holds is
  // recognised from its tensors. The parameters are the configuration's of that kind, else the official model's.
  std::filesystem::path vae;
  std::optional<bool> tiling;     // in space and time; nullopt: as configured. FLUX's autoencoder has no tiles
  bool sample_posterior = false;  // a draw from the encoder's posterior instead of its mean. DC-AE has none
  uint64_t seed = 0;              // of that draw
  int64_t max_frames = 0;         // the first so many; 0: all

  std::string device = "auto";  // as GenerateRequest's
  std::string dtype;
  int threads = 0;

  std::filesystem::path output;  // .mp4, or .png for a single frame
  bool overwrite = false;
  int crf = 18;               // x264's quality, 0 (lossless) to 51
  bool side_by_side = false;  // the input on the left, the reconstruction on the right
};

struct ReconstructResult {
  std::filesystem::path output;
  std::string autoencoder;        // "hunyuan_vae", "taehv", "dc_ae", "autoencoder_2d"
  int64_t width = 0, height = 0;  // of the input, and of its reconstruction
  int64_t frames = 0;
  std::vector<int64_t> latent_shape;  // [channels, frames, height, width]
  // A frame each, of the reconstruction in 8 bits before H.264. PSNR in dB: infinite where nothing differs.
  std::vector<double> psnr, ssim;
  double mean_psnr = 0, mean_ssim = 0;
  std::string device, dtype;
  // By stage: "read", "load", "encode", "decode", "compare", "write".
  std::vector<std::pair<std::string, double>> seconds;
  int64_t peak_resident_bytes = 0, peak_device_bytes = 0;
};

// Frames keep their size: what the autoencoder needs more is padded before and cut off after. The output's rate is the
// input's (to three decimals, or one of NTSC), or the configuration's where the input has none.
// Input, output, device and the kind of the weights' file are checked before weights are loaded.
// Throws UsageError, CheckpointError, DeviceError, InputMediaError, OutOfMemoryError, OutputError, NumericError.
ReconstructResult reconstruct(const ReconstructRequest& request, const ProgressCallback& progress = {});

}  // namespace opensora
