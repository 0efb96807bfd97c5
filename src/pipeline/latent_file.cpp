#include "pipeline/latent_file.h"

#include "core/output_file.h"
#include "core/weights.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"
#include "opensora/error.h"

namespace opensora::pipeline {
namespace {

constexpr const char* kTensor = "latent";

}  // namespace

std::filesystem::path latent_file(const std::filesystem::path& output) { return beside(output, ".latent.safetensors"); }

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

FileLock write_latent(const std::filesystem::path& path, const LatentFile& file) {
  const auto output = io::stage_safetensors(path, {{kTensor, file.latent}}, file.metadata, /*overwrite=*/true);
  output->commit();
  return output->take_lock();
}

}  // namespace opensora::pipeline
