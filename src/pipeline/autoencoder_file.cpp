#include "pipeline/autoencoder_file.h"

#include <spdlog/spdlog.h>

#include "io/model_files.h"
#include "io/shape_source.h"
#include "opensora/error.h"

namespace opensora::pipeline {
namespace {

using autoencoder::AutoencoderConfig;
using autoencoder::AutoencoderKind;

std::filesystem::path weights_file(const ReconstructRequest& request) {
  const Config& config = request.config;
  if (!request.vae.empty()) return io::find_component(request.model_dir, io::Component::kAe, "", request.vae);
  if (request.autoencoder == AutoencoderChoice::kVideo) {
    const std::string configured = std::visit([](const auto& ae) { return ae.from_pretrained; }, config.ae);
    return io::find_component(request.model_dir, io::Component::kAe, configured);
  }
  if (!config.text_to_image) {
    throw UsageError("--autoencoder flux: " + config.name + " has no img_flux_ae; try --config t2i2v_256px");
  }
  return io::find_component(request.model_dir, io::Component::kImgFluxAe, config.text_to_image->ae.from_pretrained);
}

// The official model's parameters, tiled as the bundled configurations tile it.
AutoencoderConfig official_config(AutoencoderKind kind) {
  if (kind == AutoencoderKind::kAutoencoder2D) return Autoencoder2DConfig{};
  if (kind == AutoencoderKind::kDCAE) {
    DCAEConfig config;
    config.use_spatial_tiling = config.use_temporal_tiling = true;
    return config;
  }
  HunyuanVAEConfig config;
  config.use_spatial_tiling = true;
  return config;
}

AutoencoderConfig config_of_kind(const Config& config, AutoencoderKind kind) {
  const auto* hunyuan_vae = std::get_if<HunyuanVAEConfig>(&config.ae);
  const auto* dc_ae = std::get_if<DCAEConfig>(&config.ae);
  if (kind == AutoencoderKind::kHunyuanVAE && hunyuan_vae) return *hunyuan_vae;
  if (kind == AutoencoderKind::kDCAE && dc_ae) return *dc_ae;
  if (kind == AutoencoderKind::kAutoencoder2D && config.text_to_image) return config.text_to_image->ae;
  spdlog::info("{} has no {}: the official parameters are used", config.name, autoencoder_kind_name(kind));
  return official_config(kind);
}

void set_tiling(AutoencoderConfig& config, bool tiling) {
  struct Setter {
    bool tiling;
    void operator()(HunyuanVAEConfig& c) const { c.use_spatial_tiling = c.use_temporal_tiling = tiling; }
    void operator()(DCAEConfig& c) const { c.use_spatial_tiling = c.use_temporal_tiling = tiling; }
    void operator()(Autoencoder2DConfig& /*never tiled*/) const {}
  };
  std::visit(Setter{tiling}, config);
}

}  // namespace

AutoencoderFile find_autoencoder(const ReconstructRequest& request) {
  const auto checkpoint = io::Checkpoint::open(weights_file(request));
  const auto kind = autoencoder::autoencoder_kind(checkpoint->all_names());
  if (!kind) {
    throw CheckpointError(checkpoint->description() +
                          ": no autoencoder; expected HunyuanVAE, DC-AE or FLUX's (see opensora inspect)");
  }
  AutoencoderConfig config = config_of_kind(request.config, *kind);
  if (request.tiling) set_tiling(config, *request.tiling);
  const auto shapes = std::make_shared<io::ShapeSource>(checkpoint, /*tells_names=*/false);
  make_autoencoder({shapes, at::kMeta, at::kBFloat16}, config, autoencoder::Half::kBoth);
  return {checkpoint, *kind, std::move(config)};
}

}  // namespace opensora::pipeline
