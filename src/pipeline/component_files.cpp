#include "pipeline/component_files.h"

#include <system_error>

#include "io/model_files.h"

namespace opensora::pipeline {

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

bool is_demo_folder(const std::filesystem::path& model_dir) {
  std::error_code absent;
  return std::filesystem::equivalent(model_dir, bundled_configs_dir() / "demo", absent);
}

}  // namespace opensora::pipeline
