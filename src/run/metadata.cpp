#include "run/metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/device.h"
#include "core/json_text.h"
#include "core/local_file.h"
#include "core/output_file.h"
#include "io/config_document.h"
#include "media/input.h"
#include "media/sha256.h"
#include "media/video_info.h"
#include "opensora/error.h"
#include "opensora/process.h"
#include "request/parameter.h"
#include "request/settings.h"
#include "run/text_stage.h"

namespace opensora::run {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

ordered_json model_content(const MMDiTConfig& c) {
  return {c.in_channels, c.vec_in_dim,          c.context_in_dim, c.hidden_size, c.mlp_ratio, c.num_heads,
          c.depth,       c.depth_single_blocks, c.axes_dim,       c.theta,       c.qkv_bias,  c.guidance_embed,
          c.cond_embed,  c.fused_qkv,           c.use_liger_rope, c.patch_size};
}

ordered_json autoencoder_content(const HunyuanVAEConfig& c) {
  return {"hunyuan_vae",     c.in_channels,        c.out_channels,        c.latent_channels,    c.layers_per_block,
          c.norm_num_groups, c.scale_factor,       c.block_out_channels,  c.shift_factor,       c.sample_size,
          c.sample_tsize,    c.use_spatial_tiling, c.use_temporal_tiling, c.tile_overlap_factor};
}

ordered_json autoencoder_content(const DCAEConfig& c) {
  return {"dc_ae",
          c.in_channels,
          c.latent_channels,
          c.width_list,
          c.encoder_depths,
          c.decoder_depths,
          c.use_spatial_tiling,
          c.use_temporal_tiling,
          c.spatial_tile_size,
          c.temporal_tile_size,
          c.tile_overlap_factor};
}

ordered_json autoencoder_content(const Autoencoder2DConfig& c) {
  return {"autoencoder_2d", c.in_channels, c.out_ch,       c.ch,          c.ch_mult,
          c.num_res_blocks, c.z_channels,  c.scale_factor, c.shift_factor};
}

// The part of the configuration that determines the content and that no flag sets.
ordered_json config_content(const Config& config) {
  const SamplingConfig& s = config.sampling;
  ordered_json content = {model_content(config.model),
                          std::visit([](const auto& ae) { return autoencoder_content(ae); }, config.ae),
                          config.t5.max_length,
                          config.clip.max_length,
                          s.shift,
                          s.temporal_reduction,
                          s.is_causal_vae,
                          config.ae_spatial_compression};
  if (config.use_t2i2v && config.text_to_image) {
    content.push_back(model_content(config.text_to_image->model));
    content.push_back(autoencoder_content(config.text_to_image->ae));
  }
  return content;
}

bool is_inside(const fs::path& file, const fs::path& folder) {
  return (file.parent_path() / "").lexically_normal() == (folder / "").lexically_normal();
}

std::string hash_reference(const fs::path& file) {
  const fs::path local = local_file(file.string());
  media::check_regular_file(local);
  try {
    return media::sha256_of_file(local);
  } catch (const CheckpointError& error) {
    throw InputMediaError(error.what());
  }
}

// The settings with the values that make_job() has settled: these are the video's, even if the configuration changes.
request::Settings settled(const Job& job) {
  const GenerateRequest& given = job.request;
  request::Settings settings;
  settings.request = given;
  GenerateRequest& request = settings.request;
  request.negative_prompt = negative_prompt(given);
  request.config.sampling.width = job.size.width;
  request.config.sampling.height = job.size.height;
  request.image_size.reset();
  if (job.makes_picture) request.image_size = job.picture_size;
  request.seed = job.seed;
  request.dtype = dtype_name(job.dtype);
  request.cache = cache_text(job.cache);
  return settings;
}

}  // namespace

ordered_json request_json(const Job& job) {
  const request::Settings settings = settled(job);
  ordered_json json;
  for (const request::Parameter& parameter : request::parameters()) {
    if (parameter.is_recorded(settings)) json[parameter.key()] = parameter.get(settings);
  }
  return json;
}

ordered_json config_json(const GenerateRequest& request) {
  const fs::path file = request.config.name;
  if (is_inside(file, request.model_dir) && file.filename() == "config.json") return {};
  if (is_inside(file, bundled_configs_dir())) return file.stem().string();
  return file.string();
}

std::string content_key(const Job& job, const CheckpointIdentities& checkpoints) {
  const GenerateRequest& request = job.request;
  ordered_json json;
  json["version"] = version();
  json["request"] = request_json(job);
  json["config"] = config_content(request.config);
  json["references"] = ordered_json::array();
  json["request"].erase("image");
  json["request"].erase("video");
  for (const fs::path& file : request.references) json["references"].push_back(hash_reference(file));
  for (const CheckpointIdentity& checkpoint : checkpoints) {
    json["checkpoints"][checkpoint.component] = checkpoint.identity;
  }
  return media::sha256_of_text(json.dump());
}

}  // namespace opensora::run

namespace opensora {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kSchemaVersion = 1;

std::string document_text(const fs::path& file) {
  if (file.extension() != ".json") {
    const media::VideoInfo info = media::read_video_info(file);
    if (!info.comment.empty()) return info.comment;
    const char* reason = info.frames == 1 ? "a picture holds no metadata of opensora's"
                                          : "its metadata was removed, or another program made it";
    throw UsageError(file.string() + ": does not say what it was made with: " + reason +
                     "; give the .json that `sidecar` wrote beside it, or a video of opensora's");
  }
  try {
    return read_text_file(file);
  } catch (const JsonError& error) {
    throw UsageError(file.string() + ": " + error.what());
  }
}

json parse_document(const std::string& text, const std::string& place) {
  json document;
  try {
    document = parse_json(text);
  } catch (const JsonError& error) {
    throw UsageError(place + ": what it was made with is not valid JSON: " + error.what());
  }
  if (!document.is_object() || document.value("program", json()) != "opensora" || !document["request"].is_object() ||
      !document["schema_version"].is_number_integer()) {
    throw UsageError(place + ": expected the metadata of a video of opensora, found " + json_excerpt(document));
  }
  if (document["schema_version"] > kSchemaVersion) {
    throw UsageError(fmt::format("{}: its metadata has schema_version {}, this program knows up to {}", place,
                                 document["schema_version"].dump(), kSchemaVersion));
  }
  return document;
}

// 17 digits: CLI11 reads by way of a long double, and the shortest spelling may lie too near the middle of two doubles.
std::string flag_text(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.17g}", value.get<double>());
  return value.dump();
}

using request::FlagValues;

void add_flag(FlagValues& flags, std::string name, const json& value) {
  std::replace(name.begin(), name.end(), '_', '-');
  if (value.is_null()) return;
  if (!value.is_array()) {
    flags.emplace_back(std::move(name), flag_text(value));
    return;
  }
  for (const json& item : value) flags.emplace_back(name, flag_text(item));
}

}  // namespace

FlagValues parse_request_flags(const std::string& text, const std::string& place) {
  const json document = parse_document(text, place);
  FlagValues flags;
  add_flag(flags, "config", document.value("config", json()));
  const json& request = document["request"];
  for (const auto& [name, value] : request.items()) add_flag(flags, name, value);
  // Its frames were written as they were made, whatever the configuration says today.
  if (request.value("output_size", json()).is_null()) flags.emplace_back("output-size", "none");
  return flags;
}

FlagValues read_request_flags(const fs::path& file) { return parse_request_flags(document_text(file), file.string()); }

std::string effective_values(const GenerateRequest& request) {
  nlohmann::ordered_json values = run::request_json(run::make_job(request));
  if (!request.seed && !request.config.sampling.seed) values["seed"] = nullptr;
  return values.dump();
}

std::map<std::string, fs::path> config_origins(const fs::path& file) { return io::load_config_document(file).origins; }

namespace run {

nlohmann::ordered_json video_metadata(const Job& job, const CheckpointIdentities& checkpoints) {
  const GenerateRequest& request = job.request;
  nlohmann::ordered_json document;
  document["schema_version"] = kSchemaVersion;
  document["program"] = "opensora";
  document["version"] = version();
  document["request"] = request_json(job);
  document["effective_prompt"] = request.image_only ? request.prompt : job.effective_prompt;
  document["seed"] = job.seed;
  document["config"] = config_json(request);
  document["checkpoints"] = nlohmann::ordered_json::object();
  for (const CheckpointIdentity& checkpoint : checkpoints) {
    document["checkpoints"][checkpoint.component] = {{"file", checkpoint.file}, {"identity", checkpoint.identity}};
  }
  return document;
}

void settle_metadata(Job& job, const CheckpointIdentities& checkpoints) {
  const std::string document = video_metadata(job, checkpoints).dump();
  job.latent_metadata["opensora"] = document;
  if (job.request.metadata || job.request.sidecar) job.metadata = document;
}

fs::path sidecar_file(const fs::path& output) { return beside(output, ".json"); }

}  // namespace run
}  // namespace opensora
