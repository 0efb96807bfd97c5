#include "pipeline/models.h"

#include "io/checkpoint.h"
#include "io/model_files.h"
#include "opensora/error.h"

namespace opensora::pipeline {
namespace {

std::filesystem::path video_transformer(const GenerateRequest& request) {
  return io::find_component(request.model_dir, io::Component::kModel, request.config.model.from_pretrained,
                            request.files.diffusion_model);
}

std::filesystem::path video_autoencoder(const GenerateRequest& request) {
  const std::string configured = std::visit([](const auto& ae) { return ae.from_pretrained; }, request.config.ae);
  return io::find_component(request.model_dir, io::Component::kAe, configured, request.files.vae);
}

std::filesystem::path image_transformer(const GenerateRequest& request) {
  return io::find_component(request.model_dir, io::Component::kImgFlux,
                            request.config.text_to_image->model.from_pretrained, request.files.flux);
}

std::filesystem::path image_autoencoder(const GenerateRequest& request) {
  return io::find_component(request.model_dir, io::Component::kImgFluxAe,
                            request.config.text_to_image->ae.from_pretrained, request.files.flux_ae);
}

Weights open_weights(const std::filesystem::path& file, const Plan& plan) {
  return {io::Checkpoint::open(file), plan.device, plan.dtype};
}

// The wrong kind would be one long list of missing tensors: this says it in a line.
void check_kind(const io::Checkpoint& checkpoint, autoencoder::AutoencoderKind expected) {
  const std::optional<autoencoder::AutoencoderKind> found = autoencoder::autoencoder_kind(checkpoint.names());
  if (!found || *found == expected) return;
  throw CheckpointError(checkpoint.description() + ": holds an autoencoder of the kind " +
                        autoencoder_kind_name(*found) + ", but the configuration's is " +
                        autoencoder_kind_name(expected));
}

}  // namespace

diffusion::MMDiT load_video_transformer(const GenerateRequest& request, const Plan& plan) {
  return {open_weights(video_transformer(request), plan), request.config.model};
}

diffusion::MMDiT load_image_transformer(const GenerateRequest& request, const Plan& plan) {
  return {open_weights(image_transformer(request), plan), request.config.text_to_image->model};
}

std::unique_ptr<autoencoder::Autoencoder> load_video_autoencoder(const GenerateRequest& request, const Plan& plan,
                                                                 autoencoder::Half half) {
  const auto checkpoint = io::Checkpoint::open(video_autoencoder(request));
  const bool is_dc_ae = std::holds_alternative<DCAEConfig>(request.config.ae);
  check_kind(*checkpoint, is_dc_ae ? autoencoder::AutoencoderKind::kDCAE : autoencoder::AutoencoderKind::kHunyuanVAE);
  const Weights weights(checkpoint, plan.device, plan.dtype);
  return std::visit([&](const auto& ae) { return autoencoder::make_autoencoder(weights, ae, half); },
                    request.config.ae);
}

std::unique_ptr<autoencoder::Autoencoder> load_image_autoencoder(const GenerateRequest& request, const Plan& plan) {
  return autoencoder::make_autoencoder(open_weights(image_autoencoder(request), plan), request.config.text_to_image->ae,
                                       autoencoder::Half::kDecoder);
}

void check_model_files(const GenerateRequest& request) {
  const Config& config = request.config;
  io::find_text_encoder(request.model_dir, io::Component::kClip, config.clip.from_pretrained, request.files.clip_l);
  io::find_text_encoder(request.model_dir, io::Component::kT5, config.t5.from_pretrained, request.files.t5xxl);
  if (config.use_t2i2v) {
    image_transformer(request);
    image_autoencoder(request);
  }
  if (request.image_only) return;
  video_transformer(request);
  video_autoencoder(request);
}

}  // namespace opensora::pipeline
