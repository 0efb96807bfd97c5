#include "pipeline/identity.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "io/checkpoint.h"
#include "io/mapped_file.h"
#include "io/model_files.h"
#include "media/sha256.h"
#include "opensora/error.h"
#include "pipeline/text_encoders.h"

namespace opensora::pipeline {
namespace {

namespace fs = std::filesystem;
using io::Component;

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

CheckpointIdentity identify(const GenerateRequest& request, Component component, const fs::path& path) {
  return {io::component_name(component), name_of(path, request.model_dir),
          identity_of(io::Checkpoint::open(path)->files())};
}

CheckpointIdentity identify_text_encoder(const GenerateRequest& request, Component component,
                                         const std::string& configured, const fs::path& chosen) {
  const io::TextEncoderFiles found = io::find_text_encoder(request.model_dir, component, configured, chosen);
  return {io::component_name(component), name_of(found.weights, request.model_dir), encoder_identity(found)};
}

}  // namespace

std::string identity_of(const std::vector<fs::path>& files) {
  media::Sha256 hash;
  for (const fs::path& file : files) add_file(hash, file);
  return hash.finish();
}

CheckpointIdentities identify_checkpoints(const GenerateRequest& request) {
  const Config& config = request.config;
  const ModelFiles& chosen = request.files;
  const auto plain = [&](Component component, const std::string& configured, const fs::path& file) {
    return identify(request, component, io::find_component(request.model_dir, component, configured, file));
  };
  CheckpointIdentities all;
  const auto text_encoder = [&](Component component, const std::string& configured, const fs::path& file) {
    try {
      all.push_back(identify_text_encoder(request, component, configured, file));
    } catch (const CheckpointError&) {
      if (request.text_embeddings.empty()) throw;  // with them the encoder need not be there
    }
  };
  text_encoder(Component::kT5, config.t5.from_pretrained, chosen.t5xxl);
  text_encoder(Component::kClip, config.clip.from_pretrained, chosen.clip_l);
  if (config.use_t2i2v && config.text_to_image) {
    all.push_back(plain(Component::kImgFlux, config.text_to_image->model.from_pretrained, chosen.flux));
    all.push_back(plain(Component::kImgFluxAe, config.text_to_image->ae.from_pretrained, chosen.flux_ae));
  }
  if (request.image_only) return all;
  const std::string autoencoder = std::visit([](const auto& ae) { return ae.from_pretrained; }, config.ae);
  all.push_back(plain(Component::kModel, config.model.from_pretrained, chosen.diffusion_model));
  all.push_back(plain(Component::kAe, autoencoder, chosen.vae));
  return all;
}

}  // namespace opensora::pipeline
