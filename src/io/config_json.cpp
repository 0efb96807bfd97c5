#include <algorithm>
#include <cstdio>
#include <numeric>
#include <system_error>
#include <vector>

#include "core/text.h"
#include "io/config_document.h"
#include "opensora/config.h"
#include "opensora/error.h"
#include "opensora/video.h"

// The implementation of include/opensora/config.h: where configurations are found, and how they are read.
namespace opensora {
namespace {

using io::ConfigDocument;
using io::ConfigSection;
using io::IntRange;

// `from_pretrained` names a file in the model folder. The official configurations put that folder in front of it.
std::string read_model_path(ConfigSection& section) {
  std::string path;
  section.read("from_pretrained", path);
  for (const std::string_view folder : {"./ckpts/", "ckpts/"}) {
    if (path.starts_with(folder)) {
      path.erase(0, folder.size());
      break;
    }
  }
  section.require("from_pretrained", !path.empty(), "a file or folder name within the folder of the models");
  return path;
}

MMDiTConfig read_transformer(const ConfigDocument& document, const std::string& name) {
  MMDiTConfig config;
  ConfigSection section(document, name);
  section.ignore({"from_scratch", "shardformer", "cache_dir", "torch_dtype"});
  section.expect("type", {"flux"});
  config.from_pretrained = read_model_path(section);
  section.read("in_channels", config.in_channels);
  section.read("vec_in_dim", config.vec_in_dim);
  section.read("context_in_dim", config.context_in_dim);
  section.read("hidden_size", config.hidden_size);
  section.read("mlp_ratio", config.mlp_ratio);
  section.read("num_heads", config.num_heads);
  section.read("depth", config.depth, {0, 1000});
  section.read("depth_single_blocks", config.depth_single_blocks, {0, 1000});
  section.read("axes_dim", config.axes_dim);
  section.read("theta", config.theta, {1, int64_t{1} << 40});
  section.read("qkv_bias", config.qkv_bias);
  section.read("guidance_embed", config.guidance_embed);
  section.read("cond_embed", config.cond_embed);
  section.read("fused_qkv", config.fused_qkv);
  section.read("use_liger_rope", config.use_liger_rope);
  section.read("patch_size", config.patch_size, {1, 64});
  section.finish();

  const auto is_even = [](int64_t width) { return width % 2 == 0; };
  const int64_t axes_sum = std::accumulate(config.axes_dim.begin(), config.axes_dim.end(), int64_t{0});
  section.require("hidden_size", config.hidden_size % config.num_heads == 0,
                  "a multiple of num_heads (" + std::to_string(config.num_heads) + ")");
  section.require("axes_dim", config.axes_dim.size() == 3, "three widths: time, height, width");
  section.require("axes_dim", std::all_of(config.axes_dim.begin(), config.axes_dim.end(), is_even), "even widths");
  section.require("axes_dim", axes_sum == config.head_dim(),
                  "widths whose sum is hidden_size / num_heads (" + std::to_string(config.head_dim()) + ")");
  section.require("mlp_ratio", config.mlp_ratio > 0 && config.mlp_ratio <= 1024 && config.mlp_hidden() >= 1,
                  "a number above 0 and up to 1024");
  return config;
}

void require_overlap(const ConfigSection& section, double overlap) {
  section.require("tile_overlap_factor", overlap >= 0 && overlap < 1, "a number from 0 to below 1");
}

HunyuanVAEConfig read_hunyuan_vae(const ConfigDocument& document) {
  HunyuanVAEConfig config;
  ConfigSection section(document, "ae");
  section.ignore({"from_scratch", "shardformer", "cache_dir", "torch_dtype"});
  section.expect("type", {"hunyuan_vae"});
  config.from_pretrained = read_model_path(section);
  section.read("in_channels", config.in_channels, {3, 3});  // RGB
  section.read("out_channels", config.out_channels, {3, 3});
  section.read("latent_channels", config.latent_channels);
  section.read("layers_per_block", config.layers_per_block, {1, 1000});
  section.read("norm_num_groups", config.norm_num_groups);
  section.read("block_out_channels", config.block_out_channels);
  section.read("scale_factor", config.scale_factor);
  section.read("shift_factor", config.shift_factor);
  section.read("sample_size", config.sample_size);
  section.read("sample_tsize", config.sample_tsize);
  section.read("use_spatial_tiling", config.use_spatial_tiling);
  section.read("use_temporal_tiling", config.use_temporal_tiling);
  section.read("tile_overlap_factor", config.tile_overlap_factor);
  section.finish();

  const auto is_grouped = [&](int64_t channels) { return channels % config.norm_num_groups == 0; };
  section.require("block_out_channels", config.block_out_channels.size() >= 4, "four widths or more");
  section.require("block_out_channels",
                  std::all_of(config.block_out_channels.begin(), config.block_out_channels.end(), is_grouped),
                  "multiples of norm_num_groups (" + std::to_string(config.norm_num_groups) + ")");
  section.require("scale_factor", config.scale_factor != 0, "a number other than 0");
  section.require("sample_size", config.sample_size % config.spatial_compression() == 0,
                  "a multiple of " + std::to_string(config.spatial_compression()));
  section.require("sample_tsize", config.sample_tsize % config.temporal_compression() == 0,
                  "a multiple of " + std::to_string(config.temporal_compression()));
  require_overlap(section, config.tile_overlap_factor);
  return config;
}

DCAEConfig read_dc_ae(const ConfigDocument& document) {
  constexpr size_t kStages = 6;
  DCAEConfig config;
  ConfigSection section(document, "ae");
  section.ignore({"from_scratch", "shardformer", "cache_dir", "torch_dtype"});
  section.expect("type", {"dc_ae"});
  section.expect("model_name", {"dc-ae-f32t4c128"});
  config.from_pretrained = read_model_path(section);
  section.read("in_channels", config.in_channels, {3, 3});  // RGB
  section.read("latent_channels", config.latent_channels);
  section.read("width_list", config.width_list);
  section.read("depth_list", config.encoder_depths);
  section.read("depth_list", config.decoder_depths);
  section.read("use_spatial_tiling", config.use_spatial_tiling);
  section.read("use_temporal_tiling", config.use_temporal_tiling);
  section.read("spatial_tile_size", config.spatial_tile_size);
  section.read("temporal_tile_size", config.temporal_tile_size);
  section.read("tile_overlap_factor", config.tile_overlap_factor);
  section.finish();

  section.require("width_list", config.width_list.size() == kStages, "six widths");
  section.require("depth_list", config.encoder_depths.size() == kStages && config.decoder_depths.size() == kStages,
                  "six depths");
  section.require("spatial_tile_size", config.spatial_tile_size % config.spatial_compression() == 0,
                  "a multiple of " + std::to_string(config.spatial_compression()));
  section.require("temporal_tile_size", config.temporal_tile_size % config.temporal_compression() == 0,
                  "a multiple of " + std::to_string(config.temporal_compression()));
  require_overlap(section, config.tile_overlap_factor);
  return config;
}

VideoAutoencoderConfig read_ae(const ConfigDocument& document) {
  ConfigSection section(document, "ae");
  std::string type = "hunyuan_vae";
  section.read_choice("type", type, {"hunyuan_vae", "dc_ae"});
  if (type == "dc_ae") return read_dc_ae(document);
  return read_hunyuan_vae(document);
}

Autoencoder2DConfig read_autoencoder_2d(const ConfigDocument& document) {
  Autoencoder2DConfig config;
  ConfigSection section(document, "img_flux_ae");
  section.ignore({"from_scratch", "cache_dir", "torch_dtype", "resolution"});
  section.expect("type", {"autoencoder_2d"});
  config.from_pretrained = read_model_path(section);
  section.read("in_channels", config.in_channels, {3, 3});  // RGB
  section.read("out_ch", config.out_ch, {3, 3});
  section.read("ch", config.ch);
  section.read("ch_mult", config.ch_mult);
  section.read("num_res_blocks", config.num_res_blocks, {1, 1000});
  section.read("z_channels", config.z_channels);
  section.read("scale_factor", config.scale_factor);
  section.read("shift_factor", config.shift_factor);
  section.finish();
  section.require("scale_factor", config.scale_factor != 0, "a number other than 0");
  section.require("ch_mult", config.ch_mult.size() == 4, "four factors (8x8 compression)");
  const int64_t largest = *std::max_element(config.ch_mult.begin(), config.ch_mult.end());
  section.require("ch_mult", largest <= IntRange().max / config.ch,
                  "factors whose products with ch are up to " + std::to_string(IntRange().max));
  return config;
}

// FLUX, which runs before the video model, needs both of its sections or neither.
std::optional<TextToImageConfig> read_text_to_image(const ConfigDocument& document) {
  const bool has_model = document.root.contains("img_flux"), has_ae = document.root.contains("img_flux_ae");
  if (!has_model && !has_ae) return std::nullopt;
  if (!has_model || !has_ae) {
    document.fail(has_model ? "img_flux_ae" : "img_flux", "expected with the other of img_flux and img_flux_ae");
  }
  TextToImageConfig config{read_transformer(document, "img_flux"), read_autoencoder_2d(document)};
  ConfigSection root(document, "");
  root.read("img_resolution", config.resolution);
  return config;
}

TextEncoderConfig read_text_encoder(const ConfigDocument& document, const std::string& name, int64_t max_length) {
  TextEncoderConfig config;
  config.max_length = max_length;
  ConfigSection section(document, name);
  section.ignore({"from_scratch", "shardformer", "cache_dir", "torch_dtype"});
  section.expect("type", {"text_embedder"});
  config.from_pretrained = read_model_path(section);
  section.read("max_length", config.max_length, {2, 65536});  // at least an end and a start or one token of text
  section.finish();
  return config;
}

SamplingConfig read_sampling(const ConfigDocument& document) {
  SamplingConfig config;
  ConfigSection section(document, "sampling_option");
  section.expect("method", {"i2v", "distill"});
  section.read("resolution", config.resolution);
  section.read("aspect_ratio", config.aspect_ratio);
  section.read("height", config.height, IntRange{1, kMaxEdge});
  section.read("width", config.width, IntRange{1, kMaxEdge});
  section.read("num_frames", config.num_frames, {1, kMaxFrames});
  section.read("num_steps", config.num_steps, {1, kMaxSteps});
  section.read("shift", config.shift);
  section.read("flow_shift", config.flow_shift);
  section.read("temporal_reduction", config.temporal_reduction, {1, 64});
  section.read("is_causal_vae", config.is_causal_vae);
  section.read("guidance", config.guidance);
  section.read("guidance_img", config.guidance_img);
  section.read("text_osci", config.text_osci);
  section.read("image_osci", config.image_osci);
  section.read("scale_temporal_osci", config.scale_temporal_osci);
  section.read("seed", config.seed);
  section.finish();
  const auto is_guidance = [](double value) { return value >= -kMaxGuidance && value <= kMaxGuidance; };
  section.require("guidance", is_guidance(config.guidance), "a number from -1000 to 1000");
  section.require("guidance_img", is_guidance(config.guidance_img.value_or(1)), "a number from -1000 to 1000");
  const double shift = config.flow_shift.value_or(1);
  section.require("flow_shift", shift >= kMinFlowShift && shift <= kMaxFlowShift, "a number from 0.001 to 1000");
  return config;
}

// "4" and 4 mean the same, and null means no score.
std::optional<std::string> read_motion_score(ConfigSection& section, std::optional<std::string> score) {
  const nlohmann::json* found = section.find("motion_score");
  if (!found) return score;
  if (found->is_null()) return std::nullopt;
  section.require("motion_score", found->is_string() || found->is_number(), "a string, a number or null");
  return found->is_string() ? found->get<std::string>() : found->dump();
}

// Takes 24, 23.976 and "30000/1001".
void read_frame_rate(ConfigSection& section, FrameRate& rate) {
  const nlohmann::json* found = section.find("fps_save");
  if (!found) return;
  const std::string text = found->is_string() ? found->get<std::string>() : found->dump();
  const std::optional<FrameRate> read = parse_frame_rate(text);
  section.require("fps_save", read.has_value(), kFrameRateExpected);
  rate = *read;
}

// Takes "512x512", or null for none.
std::optional<PixelSize> read_output_size(ConfigSection& section) {
  const nlohmann::json* found = section.find("output_size");
  if (found == nullptr || found->is_null()) return std::nullopt;
  std::string text;
  section.read("output_size", text);
  PixelSize size;
  char rest = 0;
  const bool is_size = std::sscanf(text.c_str(), "%5ldx%5ld%c", &size.width, &size.height, &rest) == 2;
  const auto is_edge = [](int64_t edge) { return edge >= 1 && edge <= kMaxEdge; };
  section.require("output_size", is_size && is_edge(size.width) && is_edge(size.height),
                  "WIDTHxHEIGHT of 1 to " + std::to_string(kMaxEdge) + " pixels, such as \"512x512\"");
  return size;
}

std::optional<Vocabulary> read_vocabulary(const ConfigDocument& document) {
  if (document.root.value("vocabulary", nlohmann::json()).is_null()) return std::nullopt;
  Vocabulary vocabulary;
  ConfigSection section(document, "vocabulary");
  section.read("about", vocabulary.about);
  section.require("about", !vocabulary.about.empty(), "what the model knows");
  const nlohmann::json* words = section.find("words");
  const auto is_word = [](const nlohmann::json& word) { return word.is_string(); };
  section.require("words", words != nullptr && words->is_array() && std::all_of(words->begin(), words->end(), is_word),
                  "a list of words");
  vocabulary.words = words->get<std::vector<std::string>>();
  section.finish();
  return vocabulary;
}

void read_root(const ConfigDocument& document, Config& config) {
  ConfigSection section(document, "");
  section.ignore({"save_dir", "seed", "batch_size", "dataset", "shardformer", "from_scratch", "num_workers",
                  "save_prefix", "cache_dir", "torch_dtype", "dtype"});  // dtype: the device or --dtype decides
  section.ignore_prefix("plugin");
  // These are sections with readers of their own; those named img_… are for text-to-image-to-video.
  for (const char* key :
       {"model", "ae", "t5", "clip", "sampling_option", "img_flux", "img_flux_ae", "img_resolution", "vocabulary"}) {
    section.find(key);
  }
  int64_t patch_size = 0;  // the model's section has it too: see check_agreement()
  section.read("use_t2i2v", config.use_t2i2v);
  section.read_choice("cond_type", config.cond_type, condition_types());
  config.motion_score = read_motion_score(section, config.motion_score);
  read_frame_rate(section, config.fps_save);
  section.read("patch_size", patch_size);
  config.output_size = read_output_size(section);
  section.read("ae_spatial_compression", config.ae_spatial_compression, {1, 1024});
  section.finish();
}

// Checks what only several sections together tell.
void check_agreement(const ConfigDocument& document, const Config& config) {
  const int64_t patch_size = document.root.value("patch_size", config.model.patch_size);
  if (patch_size != config.model.patch_size) {
    document.fail("patch_size", "expected the same as model.patch_size, " + std::to_string(config.model.patch_size) +
                                    ", found " + std::to_string(patch_size));
  }
  const int64_t patch_area = config.model.patch_size * config.model.patch_size;
  const auto [latent_channels, pixels, frames] = std::visit(
      [&](const auto& ae) {
        return std::tuple(ae.latent_channels * patch_area, ae.spatial_compression() * config.model.patch_size,
                          ae.temporal_compression());
      },
      config.ae);
  const auto expect = [&](const std::string& key, int64_t found, const std::string& what, int64_t expected) {
    if (found == expected) return;
    document.fail(key, "expected " + what + std::to_string(expected) + ", found " + std::to_string(found));
  };
  expect("model.in_channels", config.model.in_channels, "ae.latent_channels * patch_size^2 = ", latent_channels);
  expect("ae_spatial_compression", config.ae_spatial_compression,
         "the autoencoder's compression * patch_size = ", pixels);
  expect("sampling_option.temporal_reduction", config.sampling.temporal_reduction,
         "the autoencoder's compression in time, ", frames);
  if (config.text_to_image) {  // both transformers read the same text encoders
    const MMDiTConfig& flux = config.text_to_image->model;
    expect("img_flux.vec_in_dim", flux.vec_in_dim, "the same as model.vec_in_dim, ", config.model.vec_in_dim);
    expect("img_flux.context_in_dim", flux.context_in_dim, "the same as model.context_in_dim, ",
           config.model.context_in_dim);
  }
  if (config.use_t2i2v && !config.text_to_image) document.fail("use_t2i2v", "img_flux and img_flux_ae are missing");
}

namespace fs = std::filesystem;

// Tells our folder from another one called "configs".
constexpr const char* kKnownConfig = "256px.json";

std::vector<std::string> config_names(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Config load_config(const std::filesystem::path& file) {
  const ConfigDocument document = io::load_config_document(file);
  Config config;
  config.name = file.string();
  read_root(document, config);  // first: a misspelt section must not be reported as a missing one
  config.model = read_transformer(document, "model");
  config.ae = read_ae(document);
  config.t5 = read_text_encoder(document, "t5", 512);
  config.clip = read_text_encoder(document, "clip", 77);
  config.sampling = read_sampling(document);
  config.text_to_image = read_text_to_image(document);
  config.vocabulary = read_vocabulary(document);
  check_agreement(document, config);
  return config;
}

fs::path find_config(const std::string& name_or_file) {
  std::error_code unreadable;
  if (fs::is_regular_file(name_or_file, unreadable)) return name_or_file;
  const fs::path folder = bundled_configs_dir();
  fs::path bundled = folder / (name_or_file + ".json");
  if (fs::is_regular_file(bundled, unreadable)) return bundled;
  const std::vector<std::string> names = config_names(folder);
  throw UsageError("no configuration \"" + name_or_file + "\": neither a file nor a bundled one" +
                   did_you_mean(name_or_file, names) + " (bundled: " + join_names(names) + ")");
}

fs::path bundled_configs_dir() {
  const fs::path folder = fs::read_symlink("/proc/self/exe").parent_path();
  // For the program in a build tree, for the tests in a build tree, and for an installation, in this order.
  const std::vector<fs::path> candidates = {folder.parent_path() / "configs",
                                            folder.parent_path().parent_path() / "configs",
                                            folder.parent_path() / "share/opensora/configs"};
  for (const fs::path& candidate : candidates) {
    std::error_code unreadable;
    if (fs::is_regular_file(candidate / kKnownConfig, unreadable)) return candidate;
  }
  throw UsageError("no bundled configurations in " + candidates[0].string() + " or " + candidates[2].string() +
                   "; give `config` the path of a file");
}

}  // namespace opensora
