#include "pipeline/run_models.h"

#include <system_error>
#include <vector>

#include "models/examination.h"
#include "opensora/error.h"
#include "text/encoder_config.h"

namespace opensora::pipeline {
namespace {

std::vector<Component> components_of(const GenerateRequest& request, bool encodes_texts) {
  std::vector<Component> components;
  if (!request.image_only) components = {Component::kModel, Component::kAe};
  if (encodes_texts) components.insert(components.end(), {Component::kT5, Component::kClip});
  if (request.config.use_t2i2v) components.insert(components.end(), {Component::kImgFlux, Component::kImgFluxAe});
  return components;
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

models::SetOptions set_options(const GenerateRequest& request, const Plan& plan) {
  const int64_t text = request.config.t5.max_length;
  return {.source = models::Source::kFiles,
          .device = plan.device,
          .dtype = plan.dtype,
          .offload = models::parse_offload(request.offload),
          .max_memory = request.max_memory,
          .video_tokens = plan.image_tokens() + text,
          .picture_tokens = plan.picture_schedule.tokens_per_frame + text};
}

void check_model_files(const GenerateRequest& request, bool encodes_pictures) {
  // Embeddings may stand in for the encoders: check_texts() knows.
  const bool encodes_texts = request.text_embeddings.empty() && request.negative_text_embedding.empty();
  check_models(components_of(request, encodes_texts), models::choice_of(request),
               encodes_pictures ? autoencoder::Half::kBoth : autoencoder::Half::kDecoder);
}

bool lacks_weights(const GenerateRequest& request) {
  if (!is_for_other_weights_than_demo(request.config)) return false;
  if (models::is_demo_folder(request.model_dir)) return true;  // files of the published names, but of another model
  GenerateRequest video = request;
  video.image_only = false;
  try {
    for (const Component component : components_of(video, request.text_embeddings.empty())) {
      locate(component, models::choice_of(request));
    }
    return false;
  } catch (const CheckpointError&) {
    return true;
  }
}

}  // namespace opensora::pipeline
