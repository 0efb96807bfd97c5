#include "pipeline/latent_file.h"

#include "core/weights.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"
#include "opensora/error.h"

namespace opensora::pipeline {
namespace {

constexpr const char* kTensor = "latent";

}  // namespace

std::filesystem::path latent_file(const std::filesystem::path& output) {
  return std::filesystem::path(output).replace_extension(".latent.safetensors");
}

LatentFile read_latent(const std::filesystem::path& path) {
  const io::SafetensorsFile file(path);
  const auto found = file.tensors().find(kTensor);
  if (found == file.tensors().end()) {
    throw CheckpointError(path.string() + ": has no tensor \"" + kTensor + "\": it is no latent");
  }
  const at::Tensor latent = file.tensor(kTensor);
  if (latent.dim() != 5 || latent.size(0) != 1 || !latent.is_floating_point()) {
    throw CheckpointError(path.string() + ": tensor \"" + kTensor + "\": expected floats [1, C, T, H, W], found " +
                          shape_string(latent.sizes()));
  }
  return {latent.to(at::kFloat), file.metadata()};
}

void write_latent(const std::filesystem::path& path, const LatentFile& file) {
  io::save_safetensors(path, {{kTensor, file.latent}}, file.metadata, /*overwrite=*/true);
}

}  // namespace opensora::pipeline
