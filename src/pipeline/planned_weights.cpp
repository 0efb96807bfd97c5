#include "pipeline/planned_weights.h"

#include <system_error>

#include "opensora/error.h"
#include "pipeline/component_files.h"
#include "text/encoder_config.h"

namespace opensora::pipeline {
namespace {

// As a mapped file's tensor, which takes no memory of its own: the meta device does not count it.
at::Tensor mapped_meta(at::IntArrayRef shape, at::ScalarType dtype) {
  return at::for_blob(nullptr, shape)
      .target_device(at::kMeta)
      .options(at::TensorOptions(dtype).device(at::kMeta))
      .make_tensor();
}

// A block's weight, other than those of its modulation, which run ahead of all blocks.
bool is_streamed(const std::string& name) {
  return name.find("_blocks.") != std::string::npos && name.find("_mod.") == std::string::npos &&
         name.find(".modulation.") == std::string::npos;
}

// A bundled configuration, or one that reads text encoders of the published widths.
bool is_for_other_weights_than_demo(const Config& config) {
  std::error_code absent;
  const std::filesystem::path folder = std::filesystem::path(config.name).parent_path();
  if (std::filesystem::equivalent(folder, bundled_configs_dir(), absent)) return true;
  return config.model.vec_in_dim == text::ClipConfig{}.hidden_size &&
         config.model.context_in_dim == text::T5Config{}.d_model;
}

}  // namespace

bool lacks_weights(const GenerateRequest& request) {
  const Config& config = request.config;
  if (!is_for_other_weights_than_demo(config)) return false;
  if (is_demo_folder(request.model_dir)) return true;  // files of the published names, but of another model
  try {
    video_transformer_file(request);
    video_autoencoder_file(request);
    if (request.text_embeddings.empty()) {
      io::find_text_encoder(request.model_dir, io::Component::kClip, config.clip.from_pretrained, request.files.clip_l);
      io::find_text_encoder(request.model_dir, io::Component::kT5, config.t5.from_pretrained, request.files.t5xxl);
    }
    if (!config.use_t2i2v) return false;
    image_transformer_file(request);
    image_autoencoder_file(request);
    return false;
  } catch (const CheckpointError&) {
    return true;
  }
}

at::ScalarType published_dtype(io::Component component) {
  const bool is_transformer = component == io::Component::kModel || component == io::Component::kImgFlux;
  return is_transformer ? at::kBFloat16 : at::kFloat;
}

std::optional<at::Tensor> PlannedWeights::find(const std::string& name, at::IntArrayRef expected_shape) const {
  if (!contains(name)) return std::nullopt;
  const at::Tensor tensor = checkpoint_ ? mapped_meta(checkpoint_->info(name).shape, checkpoint_->info(name).dtype)
                                        : mapped_meta(expected_shape, published_);
  const auto bytes = tensor.numel() * static_cast<int64_t>(tensor.element_size());
  const at::ScalarType held = held_ && tensor.is_floating_point() ? *held_ : tensor.scalar_type();
  stored_bytes_ += bytes;
  weight_bytes_ += tensor.numel() * static_cast<int64_t>(c10::elementSize(held));
  elements_ += tensor.numel();
  if (is_streamed(name)) block_bytes_ += bytes;
  return tensor;
}

}  // namespace opensora::pipeline
