#include "pipeline/models.h"

#include "io/checkpoint.h"
#include "io/model_files.h"
#include "opensora/error.h"

namespace opensora::pipeline {
namespace {

std::filesystem::path video_transformer_file(const GenerateRequest& request) {
  return io::find_component(request.model_dir, io::Component::kModel, request.config.model.from_pretrained,
                            request.files.diffusion_model);
}

std::filesystem::path video_autoencoder_file(const GenerateRequest& request) {
  const std::string configured = std::visit([](const auto& ae) { return ae.from_pretrained; }, request.config.ae);
  return io::find_component(request.model_dir, io::Component::kAe, configured, request.files.vae);
}

std::filesystem::path image_transformer_file(const GenerateRequest& request) {
  return io::find_component(request.model_dir, io::Component::kImgFlux,
                            request.config.text_to_image->model.from_pretrained, request.files.flux);
}

std::filesystem::path image_autoencoder_file(const GenerateRequest& request) {
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

// `kept` if there is one, else what `load` makes, which is kept if `keep` says so.
template <typename Model, typename Load>
std::shared_ptr<const Model> kept_or_loaded(std::shared_ptr<const Model>& kept, bool keep, Load&& load) {
  if (kept) return kept;
  std::shared_ptr<const Model> model = load();
  if (keep) kept = model;
  return model;
}

}  // namespace

std::shared_ptr<const diffusion::MMDiT> Models::video_transformer() {
  return kept_or_loaded(video_transformer_, request_.keep_models, [&] {
    return std::make_shared<diffusion::MMDiT>(open_weights(video_transformer_file(request_), plan_),
                                              request_.config.model);
  });
}

std::shared_ptr<const diffusion::MMDiT> Models::image_transformer() {
  return kept_or_loaded(image_transformer_, request_.keep_models, [&] {
    return std::make_shared<diffusion::MMDiT>(open_weights(image_transformer_file(request_), plan_),
                                              request_.config.text_to_image->model);
  });
}

std::shared_ptr<const autoencoder::Autoencoder> Models::video_autoencoder(autoencoder::Half half) {
  using autoencoder::AutoencoderKind;
  return kept_or_loaded(video_autoencoder_, request_.keep_models, [&] {
    const auto checkpoint = io::Checkpoint::open(video_autoencoder_file(request_));
    const bool is_dc_ae = std::holds_alternative<DCAEConfig>(request_.config.ae);
    check_kind(*checkpoint, is_dc_ae ? AutoencoderKind::kDCAE : AutoencoderKind::kHunyuanVAE);
    const Weights weights(checkpoint, plan_.device, plan_.dtype);
    const autoencoder::Half bound = request_.keep_models ? autoencoder::Half::kBoth : half;
    return std::visit([&](const auto& ae) { return autoencoder::make_autoencoder(weights, ae, bound); },
                      request_.config.ae);
  });
}

std::shared_ptr<const autoencoder::Autoencoder> Models::image_autoencoder() {
  return kept_or_loaded(image_autoencoder_, request_.keep_models, [&] {
    return autoencoder::make_autoencoder(open_weights(image_autoencoder_file(request_), plan_),
                                         request_.config.text_to_image->ae, autoencoder::Half::kDecoder);
  });
}

void check_model_files(const GenerateRequest& request) {
  const Config& config = request.config;
  io::find_text_encoder(request.model_dir, io::Component::kClip, config.clip.from_pretrained, request.files.clip_l);
  io::find_text_encoder(request.model_dir, io::Component::kT5, config.t5.from_pretrained, request.files.t5xxl);
  if (config.use_t2i2v) {
    image_transformer_file(request);
    image_autoencoder_file(request);
  }
  if (request.image_only) return;
  video_transformer_file(request);
  video_autoencoder_file(request);
}

}  // namespace opensora::pipeline
