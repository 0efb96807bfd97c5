#include "pipeline/request_json.h"

#include <fmt/format.h>

#include "core/device.h"
#include "core/local_file.h"
#include "media/sha256.h"
#include "opensora/error.h"
#include "opensora/version.h"
#include "pipeline/text_stage.h"
#include "sampling/condition.h"

namespace opensora::pipeline {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

template <typename T>
ordered_json value_or_null(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json();
}

// A whole rate is a number, as it has always been.
ordered_json rate_json(const FrameRate& rate) {
  return rate.is_whole() ? ordered_json(rate.numerator) : ordered_json(to_string(rate));
}

std::string size_text(int64_t width, int64_t height) { return fmt::format("{}x{}", width, height); }

ordered_json paths(const std::vector<fs::path>& files) {
  ordered_json list = ordered_json::array();
  for (const fs::path& file : files) list.push_back(file.string());
  return list;
}

// null where space and time differ, which no flag can say: the configuration does.
ordered_json tiling(const Config& config) {
  return std::visit(
      [](const auto& ae) {
        return ae.use_spatial_tiling == ae.use_temporal_tiling ? ordered_json(ae.use_spatial_tiling) : ordered_json();
      },
      config.ae);
}

ordered_json model_content(const MMDiTConfig& c) {
  return {c.in_channels, c.vec_in_dim,          c.context_in_dim, c.hidden_size, c.mlp_ratio, c.num_heads,
          c.depth,       c.depth_single_blocks, c.axes_dim,       c.theta,       c.qkv_bias,  c.guidance_embed,
          c.cond_embed,  c.fused_qkv,           c.use_liger_rope, c.patch_size};
}

struct AutoencoderContent {
  ordered_json operator()(const HunyuanVAEConfig& c) const {
    return {"hunyuan_vae",     c.in_channels,        c.out_channels,        c.latent_channels,    c.layers_per_block,
            c.norm_num_groups, c.scale_factor,       c.block_out_channels,  c.shift_factor,       c.sample_size,
            c.sample_tsize,    c.use_spatial_tiling, c.use_temporal_tiling, c.tile_overlap_factor};
  }
  ordered_json operator()(const DCAEConfig& c) const {
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
  ordered_json operator()(const Autoencoder2DConfig& c) const {
    return {"autoencoder_2d", c.in_channels, c.out_ch,       c.ch,          c.ch_mult,
            c.num_res_blocks, c.z_channels,  c.scale_factor, c.shift_factor};
  }
};

// What of the configuration determines content and is no flag.
ordered_json config_content(const Config& config) {
  const SamplingConfig& s = config.sampling;
  ordered_json content = {model_content(config.model),
                          std::visit(AutoencoderContent{}, config.ae),
                          config.t5.max_length,
                          config.clip.max_length,
                          s.shift,
                          s.temporal_reduction,
                          s.is_causal_vae,
                          config.ae_spatial_compression};
  if (config.use_t2i2v && config.text_to_image) {
    content.push_back(model_content(config.text_to_image->model));
    content.push_back(AutoencoderContent{}(config.text_to_image->ae));
  }
  return content;
}

bool is_inside(const fs::path& file, const fs::path& folder) {
  return (file.parent_path() / "").lexically_normal() == (folder / "").lexically_normal();
}

std::string hash_reference(const fs::path& file) {
  try {
    return media::sha256_of_file(local_file(file.string()));
  } catch (const CheckpointError& error) {
    throw InputMediaError(error.what());
  }
}

}  // namespace

ordered_json request_json(const GenerateRequest& request, const Plan& plan) {
  const Config& config = request.config;
  const SamplingConfig& s = config.sampling;
  const bool is_video = config.cond_type.starts_with("v2v");
  const std::vector<fs::path> none;
  ordered_json json;
  json["prompt"] = request.prompt;
  json["negative_prompt"] = negative_prompt(request);
  json["cond_type"] = config.cond_type;
  json["image"] = paths(is_video ? none : request.references);
  json["video"] = is_video ? ordered_json(request.references.front().string()) : ordered_json();
  json["sample_posterior"] = request.sample_posterior;
  json["t2i2v"] = config.use_t2i2v;
  json["image_only"] = request.image_only;
  json["image_size"] =
      plan.makes_picture ? ordered_json(size_text(plan.picture_size.width, plan.picture_size.height)) : ordered_json();
  json["width"] = plan.size.width;
  json["height"] = plan.size.height;
  json["num_frames"] = s.num_frames;
  json["fps"] = rate_json(config.fps_save);
  json["motion_score"] = config.motion_score.value_or("none");
  json["steps"] = s.num_steps;
  json["guidance"] = s.guidance;
  json["guidance_img"] = s.guidance_img.value_or(1);
  json["flow_shift"] = value_or_null(s.flow_shift);
  json["text_osci"] = s.text_osci;
  json["image_osci"] = s.image_osci;
  json["temporal_osci"] = s.scale_temporal_osci;
  json["vae_tiling"] = tiling(config);
  json["seed"] = plan.seed;
  json["dtype"] = dtype_name(plan.dtype);
  json["codec"] = request.codec;
  json["pix_fmt"] = request.pix_fmt.empty() ? ordered_json() : ordered_json(request.pix_fmt);
  json["crf"] = request.codec == "ffv1" ? ordered_json() : ordered_json(request.crf);
  json["output_size"] = request.output_size
                            ? ordered_json(size_text(request.output_size->width, request.output_size->height))
                            : ordered_json();
  return json;
}

ordered_json config_json(const GenerateRequest& request) {
  const fs::path file = request.config.name;
  if (is_inside(file, request.model_dir) && file.filename() == "config.json") return {};
  if (is_inside(file, bundled_configs_dir())) return file.stem().string();
  return file.string();
}

std::string content_key(const GenerateRequest& request, const Plan& plan, const CheckpointIdentities& checkpoints) {
  ordered_json json;
  json["version"] = version();
  json["request"] = request_json(request, plan);
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

}  // namespace opensora::pipeline
