#include "run/checkpoints.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <system_error>
#include <vector>

#include "io/checkpoint.h"
#include "io/mapped_file.h"
#include "media/sha256.h"
#include "models/examination.h"
#include "opensora/error.h"
#include "text/encoder_config.h"

namespace opensora::run {
namespace {

namespace fs = std::filesystem;

std::vector<Component> components_of(const GenerateRequest& request, bool encodes_texts) {
  std::vector<Component> components;
  if (!request.image_only) components = {Component::kModel, Component::kAe};
  if (encodes_texts) components.insert(components.end(), {Component::kT5, Component::kClip});
  if (request.config.use_t2i2v) components.insert(components.end(), {Component::kImgFlux, Component::kImgFluxAe});
  const bool has_previews = request.preview_every > 0 && !request.image_only;
  if (has_previews && models::has_tiny_autoencoder(models::choice_of(request))) {
    components.push_back(Component::kTinyAe);
  }
  return components;
}

// Whether it is a bundled configuration, or one for text encoders of the published widths.
bool is_for_other_weights_than_demo(const Config& config) {
  std::error_code absent;
  const std::filesystem::path folder = std::filesystem::path(config.name).parent_path();
  if (std::filesystem::equivalent(folder, bundled_configs_dir(), absent)) return true;
  return config.model.vec_in_dim == text::ClipConfig{}.hidden_size &&
         config.model.context_in_dim == text::T5Config{}.d_model;
}

constexpr uint64_t kBlock = 4096, kBlocks = 64;

// Bytes in front of the data: safetensors starts with its header's length, little-endian.
uint64_t header_size(const io::MappedFile& file, const fs::path& path) {
  uint64_t length = 0;
  if (path.extension() == ".safetensors" && file.size() >= sizeof length) {
    std::memcpy(&length, file.data(), sizeof length);
    if (length <= file.size() - sizeof length) return sizeof length + length;
  }
  return std::min(file.size(), kBlock);
}

void add_file(media::Sha256& hash, const fs::path& path) {
  const io::MappedFile file(path);
  const uint64_t size = file.size(), header = header_size(file, path);
  hash.update(std::to_string(size) + ":");
  hash.update(file.text(0, header));
  const uint64_t rest = size - header;
  if (rest <= kBlock * kBlocks) return hash.update(file.text(header, rest));
  for (uint64_t i = 0; i < kBlocks; ++i) {
    hash.update(file.text(header + (rest - kBlock) / (kBlocks - 1) * i, kBlock));
  }
  hash.update(file.text(size - kBlock, kBlock));  // the division above may fall short of it
}

// "google/t5-v1_1-xxl", or the name alone of what lies elsewhere: a folder of this machine means nothing on another.
std::string name_of(const fs::path& path, const fs::path& model_dir) {
  const fs::path relative = path.lexically_normal().lexically_relative((model_dir / "").lexically_normal());
  const bool is_inside = !relative.empty() && *relative.begin() != "..";
  return is_inside ? relative.string() : path.filename().string();
}

bool is_text_encoder(Component component) { return component == Component::kT5 || component == Component::kClip; }

}  // namespace

models::SetOptions set_options(const Job& job) {
  const GenerateRequest& request = job.request;
  const int64_t text = request.config.t5.max_length;
  return {.source = models::Source::kFiles,
          .device = job.device,
          .dtype = job.dtype,
          .offload = models::parse_offload(request.offload),
          .max_memory = request.max_memory,
          .quant_compute = models::parse_quant_compute(request.quant_compute),
          .video_tokens = job.image_tokens() + text,
          .picture_tokens = job.picture_schedule.tokens_per_frame + text};
}

Tokenizers check_model_files(const GenerateRequest& request, bool encodes_pictures) {
  // Embeddings may stand in for the encoders: check_texts() finds out.
  const bool encodes_texts = request.text_embeddings.empty() && request.negative_text_embedding.empty();
  return check_models(components_of(request, encodes_texts), models::choice_of(request),
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

std::string identity_of(const std::vector<fs::path>& files) {
  media::Sha256 hash;
  for (const fs::path& file : files) add_file(hash, file);
  return hash.finish();
}

std::string encoder_identity(const models::ComponentFiles& files) {
  std::vector<fs::path> all = io::Checkpoint::open(files.weights)->files();
  for (const char* name : {"spiece.model", "vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json"}) {
    std::error_code unreadable;
    const fs::path file = files.tokenizer_folder / name;
    if (fs::is_regular_file(file, unreadable) && fs::file_size(file, unreadable) > 0) all.push_back(file);
  }
  return identity_of(all);
}

CheckpointIdentities identify_checkpoints(const GenerateRequest& request) {
  const models::ModelChoice choice = models::choice_of(request);
  std::vector<Component> components = {Component::kT5, Component::kClip};
  if (request.config.use_t2i2v && request.config.text_to_image) {
    components.insert(components.end(), {Component::kImgFlux, Component::kImgFluxAe});
  }
  if (!request.image_only) components.insert(components.end(), {Component::kModel, Component::kAe});
  CheckpointIdentities all;
  for (const Component component : components) {
    try {
      const models::ComponentFiles files = locate(component, choice);
      all.push_back({models::component_name(component), name_of(files.weights, request.model_dir),
                     is_text_encoder(component) ? encoder_identity(files)
                                                : identity_of(io::Checkpoint::open(files.weights)->files())});
    } catch (const CheckpointError&) {
      if (!is_text_encoder(component) || request.text_embeddings.empty()) throw;  // embeddings may stand in for it
    }
  }
  return all;
}

}  // namespace opensora::run
