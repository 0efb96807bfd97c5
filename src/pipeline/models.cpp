#include "pipeline/models.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "core/cpu_features.h"
#include "io/checkpoint.h"
#include "opensora/error.h"
#include "pipeline/component_files.h"
#include "pipeline/examination.h"
#include "pipeline/offload.h"

namespace opensora::pipeline {
namespace {

// `slot` if it holds a model, else what `load` makes.
template <typename Model, typename Load>
std::shared_ptr<const Model> loaded(std::shared_ptr<const Model>& slot, std::string_view name,
                                    const Models::LoadCallback& on_load, Load&& load) {
  if (slot) return slot;
  const auto start = std::chrono::steady_clock::now();
  slot = load();
  if (on_load) on_load(name, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return slot;
}

}  // namespace

Models::Models(ModelSource source, LoadCallback on_load) : source_(std::move(source)), on_load_(std::move(on_load)) {}

std::shared_ptr<const diffusion::MMDiT> Models::open_transformer(const std::filesystem::path& file,
                                                                 const MMDiTConfig& config) const {
  const GenerateRequest& request = source_.request;
  const auto checkpoint = io::Checkpoint::open(file);
  const Offload wanted = parse_offload(request.offload);
  const int64_t width = static_cast<int64_t>(c10::elementSize(source_.dtype));
  const Offload offload = settle_offload(
      wanted, source_.device,
      {.weight_bytes = checkpoint->elements() * width,
       .activation_bytes = transformer_activation_bytes(config, source_.tokens,
                                                        computing_dtype(source_.dtype, Work::kProduct, source_.device)),
       .free_bytes = wanted == Offload::kAuto ? free_device_bytes(request, source_.device) : std::nullopt});
  if (offload == Offload::kBlock) spdlog::info("{}: blocks are streamed to the device", file.filename().string());
  const Weights weights(checkpoint, source_.device, source_.dtype, transformer_weights(offload, request));
  return std::make_shared<diffusion::MMDiT>(weights, config);
}

Weights Models::open_weights(std::shared_ptr<const io::Checkpoint> checkpoint) const {
  return {std::move(checkpoint), source_.device, source_.dtype, model_weights(parse_offload(source_.request.offload))};
}

std::shared_ptr<const diffusion::MMDiT> Models::video_transformer() {
  return loaded(video_transformer_, "transformer", on_load_, [&] {
    return open_transformer(video_transformer_file(source_.request), source_.request.config.model);
  });
}

std::shared_ptr<const diffusion::MMDiT> Models::image_transformer() {
  return loaded(image_transformer_, "flux", on_load_, [&] {
    return open_transformer(image_transformer_file(source_.request), source_.request.config.text_to_image->model);
  });
}

std::shared_ptr<const autoencoder::Autoencoder> Models::image_autoencoder() {
  return loaded(image_autoencoder_, "flux_autoencoder", on_load_, [&] {
    return autoencoder::make_autoencoder(open_weights(io::Checkpoint::open(image_autoencoder_file(source_.request))),
                                         source_.request.config.text_to_image->ae, autoencoder::Half::kDecoder);
  });
}

std::shared_ptr<const autoencoder::Autoencoder> Models::video_encoder(const VideoAutoencoderConfig& config) {
  return video_autoencoder(video_encoder_, autoencoder::Half::kEncoder, config).model;
}

std::shared_ptr<const autoencoder::Autoencoder> Models::video_decoder(const VideoAutoencoderConfig& config) {
  return video_autoencoder(video_decoder_, autoencoder::Half::kDecoder, config).model;
}

const Models::HalfAutoencoder& Models::video_autoencoder(HalfAutoencoder& half, autoencoder::Half which,
                                                         const VideoAutoencoderConfig& config) {
  if (half.config != config) half = {nullptr, config};
  loaded(half.model, "autoencoder", on_load_, [&]() -> std::shared_ptr<const autoencoder::Autoencoder> {
    const Weights weights = open_weights(io::Checkpoint::open(video_autoencoder_file(source_.request)));
    return std::visit([&](const auto& ae) { return autoencoder::make_autoencoder(weights, ae, which); }, config);
  });
  return half;
}

void Models::release_image_models() {
  image_transformer_.reset();
  image_autoencoder_.reset();
}

void check_model_files(const GenerateRequest& request, bool encodes_pictures) {
  using io::Component;
  std::vector<Component> components;
  if (!request.image_only) components = {Component::kModel, Component::kAe};
  // Embeddings may stand in for the encoders: check_texts() knows.
  if (request.text_embeddings.empty() && request.negative_text_embedding.empty()) {
    components.insert(components.end(), {Component::kT5, Component::kClip});
  }
  if (request.config.use_t2i2v) components.insert(components.end(), {Component::kImgFlux, Component::kImgFluxAe});
  check_models(components, request.model_dir, request.config, request.files,
               encodes_pictures ? autoencoder::Half::kBoth : autoencoder::Half::kDecoder);
}

}  // namespace opensora::pipeline
