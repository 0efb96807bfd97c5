#include "pipeline/request_json.h"

#include "core/device.h"
#include "core/local_file.h"
#include "media/sha256.h"
#include "opensora/error.h"
#include "opensora/version.h"
#include "pipeline/text_stage.h"
#include "request/parameter.h"

namespace opensora::pipeline {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

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

// The settings with what the plan made of them: these are a video's, whatever the configuration says another day.
request::Settings settled(const GenerateRequest& given, const Plan& plan) {
  request::Settings settings;
  settings.request = given;
  GenerateRequest& request = settings.request;
  request.negative_prompt = negative_prompt(given);
  request.config.sampling.width = plan.size.width;
  request.config.sampling.height = plan.size.height;
  request.image_size.reset();
  if (plan.makes_picture) request.image_size = plan.picture_size;
  request.seed = plan.seed;
  request.dtype = dtype_name(plan.dtype);
  return settings;
}

}  // namespace

ordered_json request_json(const GenerateRequest& request, const Plan& plan) {
  const request::Settings settings = settled(request, plan);
  ordered_json json;
  for (const request::Parameter& parameter : request::parameters()) {
    if (parameter.is_recorded()) json[parameter.key()] = parameter.get(settings);
  }
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
