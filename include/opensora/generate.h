// From a prompt to a video file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "opensora/cache.h"
#include "opensora/config.h"

namespace opensora {

// Weights that are not where the configuration says; empty: as configured, else the community's usual names.
struct ModelFiles {
  std::filesystem::path diffusion_model, vae, t5xxl, clip_l, flux, flux_ae;
};

inline constexpr int64_t kMaxThreads = 1024;

// What GenerateRequest::rng may be: "cpu", "cuda", or "cuda:BLOCKS" with the blocks of 256 threads that a GPU runs at
// once, which is its multiprocessors times the threads of each by 256. "cuda" is an H100's or H200's, "cuda:1056".
inline constexpr int64_t kH100Blocks = 1056, kMaxRngBlocks = 65535;

// The blocks of an rng; 0 for "cpu", nullopt for what is none.
std::optional<int64_t> rng_blocks(std::string_view rng);

// One video. `config` holds the effective values: a configuration file with whatever overrides it.
struct GenerateRequest {
  std::string prompt;           // UTF-8; may be empty; suffixes are added (config.fps_save, config.motion_score)
  std::string negative_prompt;  // UTF-8; used as it is
  // What encode_text() wrote, in place of the text encoders, whose files need not be there then. Texts that it does not
  // hold are encoded where they are.
  std::filesystem::path text_embeddings;          // a folder, or one file; empty: none
  std::filesystem::path negative_text_embedding;  // one file; its text is the negative prompt; empty: none
  std::filesystem::path model_dir;
  Config config;
  ModelFiles files;
  std::optional<uint64_t> seed;  // of the noise; nullopt: a random one, reported in the result

  // Who draws the noise: "cpu", LibTorch's generator there, in float32; or "cuda", "cuda:BLOCKS" (rng_blocks()): the
  // numbers that a GPU's generator fills, rounded to the dtype, computed on any device.
  std::string rng = "cpu";
  // Times, and FLUX's guidance, before they are embedded: "none" as they are; "official" rounded to the dtype, as by
  // the official code, which is compiled on a GPU; "eager" rounded again when multiplied by 1000, as where it is not.
  std::string timestep_rounding = "none";
  // The solver: "euler" as the official code; "dpm++2m" and "unipc", which also look at earlier steps; "heun", which
  // runs the forwards of all steps but the last twice. Each makes another video of the same seed.
  std::string sampler = "euler";
  // Which steps run the transformer, FLUX's too: parse_cache(). At the others the velocity is forecast.
  std::string cache = "none";
  // Above 1 it takes the place of `cache`: the fixed steps that make so many times fewer forwards of the transformer.
  // They are spaced by `calibration`, a table of calibrate(), or without one by the demo model's.
  double speed = 1;
  std::filesystem::path calibration;
  // The video transformer's attention: "exact"; or "fp8", with products in 8 bits on a GPU of compute capability 9.0 or
  // 10.x, but in the first and the last steps and in layers whose result is too far off. Elsewhere that is a warning,
  // and exact.
  std::string attention = "exact";

  // Images or one video, as config.cond_type wants them: i2v_loop two images, first then last; others one; t2v none.
  std::vector<std::filesystem::path> references;
  bool sample_posterior = false;  // encode references as the official code does, with noise drawn from the seed
  // Where config.use_t2i2v is set and no reference is given, FLUX makes the first frame.
  bool image_only = false;              // stop there: the output is a PNG
  std::optional<PixelSize> image_size;  // of FLUX's picture; nullopt: config's resolution in the video's aspect ratio

  std::string device = "auto";  // "auto", "cpu", "cuda", "cuda:N"
  std::string dtype;  // "fp32", "bf16", "fp16"; empty: bf16 or fp16 on a GPU, bf16 on a CPU with AMX, else fp32
  // Products with weights that are stored in 8 bits: "weights" dequantises the weights; "full" rounds activations to 8
  // bits too, each token by a scale of its own, where the device has such products; "auto" is "full" where they are
  // faster there and a file does not ask for exact ones. Where they are not made, weights are dequantised, and a
  // warning ("full") or a line of the log says why.
  std::string quant_compute = "auto";
  int threads = 0;           // CPU threads; 0: LibTorch's choice
  bool keep_models = false;  // keep transformers and autoencoders until the end instead of one at a time
  // Where weights are. "none": whole models on the device, kept until the end; "model": one whole model after the other
  // (the CPU works on the file itself, mapped); "block": the blocks of a transformer, and on a GPU of T5, come to the
  // device as they are used; "auto": for each of them "model" where the device has room for it, else "block".
  std::string offload = "auto";
  // Bytes that the run may take on the device; more is an OutOfMemoryError that names `max_memory`. On the CPU mapped
  // files do not count, and their pages are let go of behind the blocks in use. 0: no limit.
  int64_t max_memory = 0;
  // Whether a GPU replays the transformer's forwards as graphs: "auto" where it has them and launching a forward takes
  // the host more than half as long as the GPU, "on" with a warning where it has none, "off". A graph is kept only if
  // its first replay equals the forward as it is.
  std::string cuda_graphs = "auto";

  // .mp4, .mov, .mkv (ffv1: .mkv, .mov), or .png for a single frame; empty: named after prompt and seed
  std::filesystem::path output;
  bool overwrite = false;
  std::string codec = "h264";            // "h264", "h265", "ffv1" (lossless)
  std::string pix_fmt;                   // FFmpeg's name, or "rgb"; empty: yuv420p, and rgb for ffv1
  int crf = 18;                          // quality of h264 and h265: 0 (best) to 51; ffv1 has none
  std::optional<PixelSize> output_size;  // scaled to this (Lanczos)
  bool metadata = true;                  // what it was made with goes into the MP4's comment tag (opensora/metadata.h)
  bool sidecar = false;                  // and beside it, as OUTPUT's name with .json
  std::filesystem::path contact_sheet;   // .png with frames side by side; empty: none
  std::filesystem::path save_frames;     // folder for frame-00001.png, …; made if missing; empty: none
  // After every so many steps a small picture of the decoded estimate, <output's stem>.preview.png, which is removed
  // at the end; 0: none. Keeps the decoder loaded while sampling.
  int64_t preview_every = 0;
  bool strict = false;                 // throw SuspiciousError for a suspicious video, once it is written
  std::filesystem::path save_tensors;  // safetensors with noise, latent, video, timesteps; empty: none
};

struct GenerateResult {
  std::filesystem::path output;
  std::filesystem::path image;   // FLUX's picture, kept beside the video; empty: none
  std::filesystem::path latent;  // the latent, where it is kept; empty: none
  uint64_t seed = 0;
  std::string effective_prompt;
  int64_t width = 0, height = 0;  // of the generated frames, before output_size
  int64_t frames = 0;
  int64_t steps = 0;
  int64_t forwards = 0;                 // of the video transformer
  int64_t image_forwards = 0;           // of FLUX
  std::vector<int64_t> computed_steps;  // from 1, that ran the video transformer; empty: all did, or none was run
  std::string device, dtype;
  // The kernel: "cudnn", "flash", "efficient", "math"; with `attention` fp8 and what came of it: "cudnn, fp8 in 55 of
  // 57 layers".
  std::string attention;
  std::string cuda_graphs;                              // "replayed", "dropped", "off", "off (cpu)", …
  std::vector<std::pair<std::string, double>> seconds;  // by stage, in order
  // Of sampling, as expected before its first step or, where nobody could tell, after it; nullopt: it was not sampled.
  std::optional<double> expected_seconds;
  std::string suspicious;  // "all black", "all of one colour" or "frozen"; empty: none of them
  int64_t peak_resident_bytes = 0, peak_device_bytes = 0;
};

// Where a run is. `done` of `total` units of a stage: steps, tiles or frames; 0 of total as a stage begins.
struct Progress {
  std::string_view stage;  // "text", "image", "encode", "denoise", "decode", "write"
  int64_t done = 0, total = 0;
  int64_t video = 0, videos = 1;  // in a batch: the video's number, from 1, of how many; 0: all of them
};
// May throw to stop the run; nothing half-written remains.
using ProgressCallback = std::function<void(const Progress&)>;

// Text encoders, FLUX, autoencoder and transformer are loaded, used and released one after the other (keep_models).
// What can be checked before weights are loaded is: sizes, prompt, output path, the files' presence. Throws UsageError,
// CheckpointError, DeviceError, OutOfMemoryError, OutputError, NumericError, SuspiciousError.
GenerateResult generate(const GenerateRequest& request, const ProgressCallback& progress = {});

// Decodes and writes. Of the request count the autoencoder, the machine and the output; the size comes from the latent,
// and so does the number of frames where the request's does not fit it. The latent's file stays.
// Throws as generate(); UsageError for a latent that the configuration's autoencoder cannot decode.
GenerateResult decode(const std::filesystem::path& latent, const GenerateRequest& request,
                      const ProgressCallback& progress = {});

// "a-red-circle-moving-42.mp4": the first words of the prompt, the seed, and .png for a single frame, .mkv for ffv1.
// Throws UsageError for an unknown codec.
std::filesystem::path default_output(const std::string& prompt, uint64_t seed, int64_t frames,
                                     const std::string& codec = "h264");

}  // namespace opensora
