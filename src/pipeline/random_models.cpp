#include "opensora/random_models.h"

#include <memory>
#include <set>
#include <system_error>

#include "autoencoder/autoencoder.h"
#include "core/device.h"
#include "diffusion/mmdit.h"
#include "io/random_checkpoint.h"
#include "media/sha256.h"
#include "opensora/error.h"
#include "pipeline/text_embeddings.h"
#include "text/prompt.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using pipeline::TextEncoderKind;

// What `bind` asks a checkpoint for.
template <typename Bind>
std::vector<MetaSource::Entry> entries_of(Bind&& bind) {
  const auto source = std::make_shared<MetaSource>();
  bind(Weights(source, at::kMeta, at::kFloat));
  return source->requested();
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw OutputError(folder.string() + ": cannot be made: " + error.message());
}

// A stand-in for an encoder's result, of about its size.
pipeline::EncodedText random_encoding(const std::string& text, const std::string& key, int64_t max_length,
                                      const std::vector<int64_t>& shape, at::ScalarType dtype, uint64_t seed) {
  const int64_t count = c10::multiply_integers(shape);
  const at::Tensor states =
      io::random_piece({.name = key + ":" + text, .shape = {count, 3}}, seed, 0, count);  // uniform in [-1, 1]
  return {at::zeros({1, max_length}, at::kLong), states.view(shape).to(dtype)};
}

fs::path write_embedding(const RandomModelsRequest& request, const std::string& text, at::ScalarType dtype) {
  const Config& config = request.config;
  const int64_t clip_length = config.clip.max_length, t5_length = config.t5.max_length;
  const pipeline::EncodedParts parts = {
      {TextEncoderKind::kClip,
       random_encoding(text, "clip", clip_length, {1, config.model.vec_in_dim}, dtype, request.seed)},
      {TextEncoderKind::kT5,
       random_encoding(text, "t5", t5_length, {1, t5_length, config.model.context_in_dim}, dtype, request.seed)}};
  const std::string identity = media::sha256_of_text("random numbers");  // of no encoder
  const fs::path folder = request.folder / "embeddings";
  make_folder(folder);
  fs::path file = folder / pipeline::embedding_file_name(text, {TextEncoderKind::kClip, TextEncoderKind::kT5});
  pipeline::save_embedding(file, text, parts, {{TextEncoderKind::kClip, identity}, {TextEncoderKind::kT5, identity}},
                           request.overwrite);
  return file;
}

}  // namespace

std::vector<fs::path> write_random_models(const RandomModelsRequest& request) {
  const at::ScalarType dtype = resolve_dtype(request.dtype, at::kCPU);
  const Config& config = request.config;
  make_folder(request.folder);
  std::vector<fs::path> files;
  const auto write = [&](const std::string& name, const std::vector<MetaSource::Entry>& entries) {
    files.push_back(request.folder / name);
    io::write_random_checkpoint(files.back(), entries, dtype, request.seed, request.overwrite);
  };
  if (request.transformer) {
    write(config.model.from_pretrained,
          entries_of([&](const Weights& weights) { diffusion::MMDiT(weights, config.model); }));
  }
  if (request.autoencoder) {
    std::visit(
        [&](const auto& ae) {
          write(ae.from_pretrained, entries_of([&](const Weights& weights) {
                  autoencoder::make_autoencoder(weights, ae, autoencoder::Half::kBoth);
                }));
        },
        config.ae);
  }
  std::set<std::string> texts;
  for (const std::string& prompt : request.prompts) {
    texts.insert(text::add_suffixes(prompt, config.fps_save.rounded(), config.motion_score));
  }
  if (!texts.empty()) texts.insert("");
  for (const std::string& text : texts) files.push_back(write_embedding(request, text, dtype));
  return files;
}

}  // namespace opensora
