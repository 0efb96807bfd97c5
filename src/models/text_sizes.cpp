#include "models/text_sizes.h"

#include <algorithm>
#include <string>

#include "opensora/error.h"

namespace opensora::models {
namespace {

// What told the encoder's sizes.
std::filesystem::path size_source(const ComponentFiles& files) {
  return files.config_folder.empty() ? files.weights : files.config_folder / "config.json";
}

void check_width(const ComponentFiles& files, const char* key, int64_t found, const char* model_key, int64_t expected) {
  if (found == expected) return;
  throw CheckpointError(size_source(files).string() + ": \"" + key + "\" is " + std::to_string(found) +
                        ", but the transformer's \"" + model_key + "\" is " + std::to_string(expected));
}

// The first layer that one of the two does not have is named: where the weights have none, they are another model's,
// which binding them will say.
void check_layers(const ComponentFiles& files, const WeightSource& weights, const char* key, int64_t configured,
                  const std::string& prefix, const std::string& suffix) {
  const int64_t held = count_numbered(weights, prefix, suffix);
  if (held == configured || held == 0) return;
  throw CheckpointError((files.config_folder / "config.json").string() + ": \"" + key + "\" is " +
                        std::to_string(configured) + ", but the weights have " + std::to_string(held) + " (" +
                        (held < configured ? "no " : "there is ") + prefix +
                        std::to_string(std::min(held, configured)) + ")");
}

[[noreturn]] void fail_vocabulary(const ComponentFiles& files, const char* tokenizer_file, int64_t found,
                                  int64_t expected) {
  throw CheckpointError((files.tokenizer_folder / tokenizer_file).string() + ": " + std::to_string(found) +
                        " tokens, but the \"vocab_size\" of " + size_source(files).string() + " is " +
                        std::to_string(expected) + ": a tokenizer of another model");
}

text::ClipConfig read_clip_sizes(const ComponentFiles& files, const WeightSource& weights) {
  if (files.config_folder.empty()) return text::deduce_clip_config(weights);
  text::ClipConfig sizes = text::load_clip_config(files.config_folder);
  check_layers(files, weights, "num_hidden_layers", sizes.num_hidden_layers, "text_model.encoder.layers.",
               ".mlp.fc1.weight");
  return sizes;
}

text::T5Config read_t5_sizes(const ComponentFiles& files, const WeightSource& weights) {
  if (files.config_folder.empty()) return text::deduce_t5_config(weights);
  text::T5Config sizes = text::load_t5_config(files.config_folder);
  check_layers(files, weights, "num_layers", sizes.num_layers, "encoder.block.", ".layer.1.DenseReluDense.wi_0.weight");
  return sizes;
}

}  // namespace

TextSizes read_text_sizes(Component component, const ComponentFiles& files, const WeightSource& weights) {
  TextSizes sizes;
  if (component == Component::kClip) sizes.clip = read_clip_sizes(files, weights);
  if (component == Component::kT5) sizes.t5 = read_t5_sizes(files, weights);
  return sizes;
}

TextSizes proportioned_text_sizes(const Config& config) {
  TextSizes sizes;
  sizes.clip.hidden_size = config.model.vec_in_dim;
  sizes.clip.intermediate_size = 4 * sizes.clip.hidden_size;
  sizes.clip.num_attention_heads = std::max<int64_t>(1, sizes.clip.hidden_size / 64);
  sizes.clip.max_position_embeddings = config.clip.max_length;
  sizes.t5.d_model = config.model.context_in_dim;
  sizes.t5.d_ff = sizes.t5.d_model * 5 / 2;
  sizes.t5.num_heads = std::max<int64_t>(1, sizes.t5.d_model / sizes.t5.d_kv);
  return sizes;
}

Tokenizer open_tokenizer(Component component, const std::filesystem::path& folder) {
  if (component == Component::kT5) return text::T5Tokenizer(folder);
  return text::ClipTokenizer(folder);
}

void check_text_sizes(Component component, const ComponentFiles& files, const TextSizes& sizes, const Config& config) {
  if (component == Component::kT5) {
    return check_width(files, "d_model", sizes.t5.d_model, "context_in_dim", config.model.context_in_dim);
  }
  check_width(files, "hidden_size", sizes.clip.hidden_size, "vec_in_dim", config.model.vec_in_dim);
  if (config.clip.max_length <= sizes.clip.max_position_embeddings) return;
  throw CheckpointError(size_source(files).string() + ": \"max_position_embeddings\" is " +
                        std::to_string(sizes.clip.max_position_embeddings) + ", but the configuration reads " +
                        std::to_string(config.clip.max_length) + " tokens (\"clip.max_length\")");
}

void check_vocabulary(const ComponentFiles& files, const Tokenizer& tokenizer, const TextSizes& sizes) {
  if (const auto* clip = std::get_if<text::ClipTokenizer>(&tokenizer)) {
    const int64_t rows = sizes.clip.vocab_size;
    if (clip->vocab_size() == rows || clip->total_size() == rows) return;
    fail_vocabulary(files, "vocab.json", clip->vocab_size(), rows);
  }
  // T5's embedding table is the vocabulary and 100 sentinels, rounded up to a multiple of 128.
  constexpr int64_t kMostUnused = 256;
  const int64_t pieces = std::get<text::T5Tokenizer>(tokenizer).vocab_size(), rows = sizes.t5.vocab_size;
  if (pieces <= rows && rows - pieces < kMostUnused) return;
  fail_vocabulary(files, "spiece.model", pieces, rows);
}

}  // namespace opensora::models
