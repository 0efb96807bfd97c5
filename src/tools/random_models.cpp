#include "opensora/checkpoint.h"

#include <optional>
#include <set>
#include <system_error>

#include "core/device.h"
#include "io/quantized_file.h"
#include "io/random_checkpoint.h"
#include "media/sha256.h"
#include "models/model_set.h"
#include "opensora/error.h"
#include "run/text_embeddings.h"
#include "text/prompt.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw OutputError(folder.string() + ": cannot be made: " + error.message());
}

// A stand-in for an encoder's result, of about its size.
models::EncodedText random_encoding(const std::string& text, const std::string& key, int64_t max_length,
                                    const std::vector<int64_t>& shape, at::ScalarType dtype, uint64_t seed) {
  const int64_t count = c10::multiply_integers(shape);
  const at::Tensor states =
      io::random_piece({.name = key + ":" + text, .shape = {count, 3}}, seed, 0, count);  // uniform in [-1, 1]
  return {at::zeros({1, max_length}, at::kLong), states.view(shape).to(dtype)};
}

fs::path write_embedding(const RandomModelsRequest& request, const std::string& text, at::ScalarType dtype) {
  const Config& config = request.config;
  const int64_t clip_length = config.clip.max_length, t5_length = config.t5.max_length;
  const run::EncodedParts parts = {
      {Component::kClip, random_encoding(text, "clip", clip_length, {1, config.model.vec_in_dim}, dtype, request.seed)},
      {Component::kT5,
       random_encoding(text, "t5", t5_length, {1, t5_length, config.model.context_in_dim}, dtype, request.seed)}};
  const std::string identity = media::sha256_of_text("random numbers");  // of no encoder
  const fs::path folder = request.folder / "embeddings";
  make_folders(folder);
  fs::path file = folder / run::embedding_file_name(text, {Component::kClip, Component::kT5});
  run::save_embedding(file, text, parts, {{Component::kClip, identity}, {Component::kT5, identity}}, request.overwrite);
  return file;
}

void write_quantized_transformer(const fs::path& file, std::vector<MetaSource::Entry> tensors, QuantizedFormat format,
                                 const RandomModelsRequest& request) {
  for (MetaSource::Entry& tensor : tensors) tensor.dtype = at::kBFloat16;
  const auto read = [&](size_t index, int64_t begin, int64_t end) {
    return io::random_piece(tensors[index], request.seed, begin, end);
  };
  io::write_quantized(file, tensors, {.format = format}, read, {{"format", "pt"}}, request.overwrite);
}

}  // namespace

std::vector<fs::path> write_random_models(const RandomModelsRequest& request) {
  // Of quantised matrices, if `dtype` names such a format, among tensors in bf16.
  const std::optional<QuantizedFormat> format = io::quantized_format(request.dtype);
  const at::ScalarType dtype = format ? at::kBFloat16 : resolve_dtype(request.dtype, at::kCPU);
  const Config& config = request.config;
  make_folders(request.folder);
  std::vector<fs::path> files;
  models::ModelSet set({.model_dir = {}, .config = config}, {.source = models::Source::kPublished});
  const auto write = [&](Component component) {
    set.bind(component);
    files.push_back(request.folder / models::configured_file(component, config));
    if (format && component == Component::kModel) {
      return write_quantized_transformer(files.back(), set.tensors(component), *format, request);
    }
    io::write_random_checkpoint(files.back(), set.tensors(component), dtype, request.seed, request.overwrite);
  };
  if (request.transformer) write(Component::kModel);
  if (request.autoencoder) write(Component::kAe);
  if (request.tiny_autoencoder) write(Component::kTinyAe);
  std::set<std::string> texts;
  for (const std::string& prompt : request.prompts) {
    texts.insert(text::add_suffixes(prompt, config.fps_save.rounded(), config.motion_score));
  }
  if (!texts.empty()) texts.insert("");
  for (const std::string& text : texts) files.push_back(write_embedding(request, text, dtype));
  return files;
}

}  // namespace opensora
