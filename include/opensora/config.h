// A run's configuration: the JSON twin of an official Open-Sora 2.0 configuration file.
//
// Defaults are the official code's. Keys and their meaning: README.md, "Configuration files".
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "opensora/video.h"

namespace opensora {

// A model of a run, by its section of the configuration.
enum class Component {
  kModel,  // "model": the video transformer
  kAe,     // "ae": its autoencoder
  kClip,
  kT5,         // "clip", "t5": the text encoders
  kImgFlux,    // "img_flux": FLUX.1's transformer
  kImgFluxAe,  // "img_flux_ae": its autoencoder
  kTinyAe,     // "tiny_ae": a small stand-in for HunyuanVAE, which shows previews where it is in the model folder
};

// `model`, `img_flux`: the MMDiT transformer (type "flux").
struct MMDiTConfig {
  std::string from_pretrained;    // file, relative to the model folder
  int64_t in_channels = 64;       // latent channels * patch_size^2
  int64_t vec_in_dim = 768;       // width of CLIP's pooled output
  int64_t context_in_dim = 4096;  // width of T5's output
  int64_t hidden_size = 3072;
  double mlp_ratio = 4.0;
  int64_t num_heads = 24;
  int64_t depth = 19;                            // double-stream blocks
  int64_t depth_single_blocks = 38;              // single-stream blocks
  std::vector<int64_t> axes_dim = {16, 56, 56};  // RoPE widths for t, h, w; their sum is hidden_size / num_heads
  int64_t theta = 10000;
  bool qkv_bias = true;
  bool guidance_embed = false;  // FLUX's distilled guidance input
  bool cond_embed = false;      // Open-Sora's condition input (mask + masked reference latent)
  bool fused_qkv = true;        // true: one qkv matrix (FLUX); false: q_proj, k_proj, v_proj (Open-Sora)
  bool use_liger_rope = false;  // true: rotate-half pairs (i, i + D/2); false: interleaved pairs (2i, 2i + 1)
  int64_t patch_size = 2;

  int64_t head_dim() const { return hidden_size / num_heads; }
  int64_t blocks() const { return depth + depth_single_blocks; }  // of both kinds; each has attention
  int64_t mlp_hidden() const { return static_cast<int64_t>(static_cast<double>(hidden_size) * mlp_ratio); }
};

// `ae` of type "hunyuan_vae": the causal 3D autoencoder, 4x8x8, 16 channels.
struct HunyuanVAEConfig {
  std::string from_pretrained;
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  int64_t latent_channels = 16;
  int64_t layers_per_block = 2;  // residual blocks a level in the encoder; the decoder has one more
  int64_t norm_num_groups = 32;
  std::vector<int64_t> block_out_channels = {128, 256, 512, 512};
  double scale_factor = 0.476986;
  double shift_factor = 0.0;
  int64_t sample_size = 256;  // a spatial tile's edge in pixels
  int64_t sample_tsize = 64;  // a temporal tile's length in frames
  bool use_spatial_tiling = false;
  bool use_temporal_tiling = false;
  double tile_overlap_factor = 0.25;

  // Pixels a latent pixel: 8 with four blocks.
  int64_t spatial_compression() const { return 8; }
  int64_t temporal_compression() const { return 4; }
  bool operator==(const HunyuanVAEConfig&) const = default;
};

// `ae` of type "dc_ae": the high-compression autoencoder "dc-ae-f32t4c128", 4x32x32, 128 channels. Its latents are not
// scaled.
struct DCAEConfig {
  std::string from_pretrained;
  int64_t in_channels = 3;
  int64_t latent_channels = 128;
  // Stages from the pixels inwards; the file's `width_list` and `depth_list` override both halves.
  std::vector<int64_t> width_list = {128, 256, 512, 512, 1024, 1024};
  std::vector<int64_t> encoder_depths = {2, 2, 2, 3, 3, 3};
  std::vector<int64_t> decoder_depths = {3, 3, 3, 3, 3, 3};
  bool use_spatial_tiling = false;
  bool use_temporal_tiling = false;
  int64_t spatial_tile_size = 256;  // pixels
  int64_t temporal_tile_size = 32;  // frames
  double tile_overlap_factor = 0.25;

  int64_t spatial_compression() const { return 32; }
  int64_t temporal_compression() const { return 4; }
  bool operator==(const DCAEConfig&) const = default;
};

// `img_flux_ae` of type "autoencoder_2d": FLUX.1's image autoencoder, 8x8, 16 channels.
struct Autoencoder2DConfig {
  std::string from_pretrained;
  int64_t in_channels = 3;
  int64_t out_ch = 3;
  int64_t ch = 128;
  std::vector<int64_t> ch_mult = {1, 2, 4, 4};
  int64_t num_res_blocks = 2;  // a level of the encoder; the decoder has one more
  int64_t z_channels = 16;
  double scale_factor = 0.3611;
  double shift_factor = 0.1159;
};

// `t5`, `clip`: a folder in Hugging Face's layout (config.json, weights, tokenizer files), relative to the model
// folder.
struct TextEncoderConfig {
  std::string from_pretrained;
  int64_t max_length = 0;  // tokens, padded and truncated to: T5 512, CLIP 77
};

// Beyond these a request is refused before anything runs: flags, configurations and prompts files share them.
inline constexpr int64_t kMaxSteps = 10000;
inline constexpr double kMaxGuidance = 1000;  // and as much below 0
inline constexpr double kMinFlowShift = 0.001, kMaxFlowShift = 1000;

// `sampling_option`.
struct SamplingConfig {
  std::optional<std::string> resolution;    // "256px", "768px", "720p", …; with aspect_ratio gives height and width
  std::optional<std::string> aspect_ratio;  // "16:9", …
  std::optional<int64_t> height;            // pixels
  std::optional<int64_t> width;
  int64_t num_frames = 1;
  int64_t num_steps = 50;
  bool shift = true;                 // shift the schedule towards high noise by the size of the video
  std::optional<double> flow_shift;  // overrides the estimated shift (alpha)
  int64_t temporal_reduction = 1;
  bool is_causal_vae = false;
  double guidance = 4.0;               // classifier-free guidance on the text
  std::optional<double> guidance_img;  // guidance on the condition
  bool text_osci = false;              // from step 10 on, every odd step uses a text guidance of 1
  bool image_osci = false;             // likewise for the condition
  bool scale_temporal_osci = false;    // image guidance grows over the latent frames
  std::optional<uint64_t> seed;
};

// What a video's latents are decoded with.
using VideoAutoencoderConfig = std::variant<HunyuanVAEConfig, DCAEConfig>;

// `img_flux`, `img_flux_ae`, `img_resolution`: FLUX.1, which makes the first frame from the prompt.
struct TextToImageConfig {
  MMDiTConfig model;
  Autoencoder2DConfig ae;
  std::string resolution = "768px";  // of the picture, before it is resized to the video's size
};

// `vocabulary` (ours): all that a small model was taught. What a prompt says besides means nothing to it.
struct Vocabulary {
  std::string about;               // a sentence's beginning: "the demo model knows coloured shapes"
  std::vector<std::string> words;  // in lower case
};

struct Config {
  std::string name;  // a configuration's name or file, for messages
  MMDiTConfig model;
  VideoAutoencoderConfig ae;
  TextEncoderConfig t5;
  TextEncoderConfig clip;
  SamplingConfig sampling;
  std::string cond_type = "t2v";  // one of condition_types()
  std::optional<TextToImageConfig> text_to_image;
  bool use_t2i2v = false;                         // text to image to video
  std::optional<std::string> motion_score = "4";  // null: no motion-score suffix
  FrameRate fps_save = 24;                        // frames a second
  int64_t ae_spatial_compression = 16;            // sizes are rounded up to a multiple of this many pixels
  // Ours, for models of stamp-sized videos: what a video of the configuration's own size is scaled to when it is
  // written.
  std::optional<PixelSize> output_size;
  std::optional<Vocabulary> vocabulary;
};

// "t2v", "i2v_head", …: the official words for what a video starts from.
const std::vector<std::string>& condition_types();

// Reads a configuration file. `_base_` (a file name or a list, relative to this file) is read first and overridden,
// objects key by key; a null overrides too.
// Throws UsageError that names the file and the key: not readable, not JSON, an unknown key (with the nearest known
// one), a wrong type, a value out of range.
Config load_config(const std::filesystem::path& file);

// The file that a --config argument means: an existing file, or a name of one in the bundled folder ("256px").
// Throws UsageError that lists the names.
std::filesystem::path find_config(const std::string& name_or_file);

// The bundled `configs` folder: beside a build tree or in an install prefix's share/opensora.
std::filesystem::path bundled_configs_dir();

// A size that a resolution and an aspect ratio stand for.
struct SizeRow {
  std::string resolution, aspect_ratio;
  int64_t width = 0, height = 0;  // pixels
  int64_t tokens = 0;             // of the transformer, for config.sampling.num_frames frames; the text's come on top
};

// Every known resolution in every known aspect ratio (width:height), for the configuration's autoencoder.
std::vector<SizeRow> size_table(const Config& config);

// config.sampling.num_frames; or, where the references of config.cond_type would leave nothing to make of so many, the
// frames of a reference and 16 more: 49 for v2v_head, 81 for v2v_head_easy. Throws UsageError for an unknown cond_type.
int64_t frames_with_room(const Config& config);

}  // namespace opensora
