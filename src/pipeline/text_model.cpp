#include "pipeline/text_model.h"

#include <algorithm>
#include <string>

#include "opensora/error.h"

namespace opensora::pipeline {
namespace {

// What told the encoder's sizes.
std::filesystem::path size_source(const io::TextEncoderFiles& files) {
  return files.config_folder.empty() ? files.weights : files.config_folder / "config.json";
}

void check_width(const io::TextEncoderFiles& files, const char* key, int64_t found, const char* model_key,
                 int64_t expected) {
  if (found == expected) return;
  throw CheckpointError(size_source(files).string() + ": \"" + key + "\" is " + std::to_string(found) +
                        ", but the transformer's \"" + model_key + "\" is " + std::to_string(expected));
}

// The first layer that one of the two does not have is named: where the weights have none, they are another model's,
// which binding them will say.
void check_layers(const io::TextEncoderFiles& files, const WeightSource& weights, const char* key, int64_t configured,
                  const std::string& prefix, const std::string& suffix) {
  const int64_t held = count_numbered(weights, prefix, suffix);
  if (held == configured || held == 0) return;
  throw CheckpointError((files.config_folder / "config.json").string() + ": \"" + key + "\" is " +
                        std::to_string(configured) + ", but the weights have " + std::to_string(held) + " (" +
                        (held < configured ? "no " : "there is ") + prefix +
                        std::to_string(std::min(held, configured)) + ")");
}

[[noreturn]] void fail_vocabulary(const io::TextEncoderFiles& files, const char* tokenizer_file, int64_t found,
                                  int64_t expected) {
  throw CheckpointError((files.tokenizer_folder / tokenizer_file).string() + ": " + std::to_string(found) +
                        " tokens, but the \"vocab_size\" of " + size_source(files).string() + " is " +
                        std::to_string(expected) + ": a tokenizer of another model");
}

}  // namespace

text::ClipConfig clip_config(const io::TextEncoderFiles& files, const WeightSource& weights) {
  if (files.config_folder.empty()) return text::deduce_clip_config(weights);
  text::ClipConfig config = text::load_clip_config(files.config_folder);
  check_layers(files, weights, "num_hidden_layers", config.num_hidden_layers, "text_model.encoder.layers.",
               ".mlp.fc1.weight");
  return config;
}

text::T5Config t5_config(const io::TextEncoderFiles& files, const WeightSource& weights) {
  if (files.config_folder.empty()) return text::deduce_t5_config(weights);
  text::T5Config config = text::load_t5_config(files.config_folder);
  check_layers(files, weights, "num_layers", config.num_layers, "encoder.block.",
               ".layer.1.DenseReluDense.wi_0.weight");
  return config;
}

void check_clip_sizes(const io::TextEncoderFiles& files, const text::ClipConfig& sizes, const Config& config) {
  check_width(files, "hidden_size", sizes.hidden_size, "vec_in_dim", config.model.vec_in_dim);
  if (config.clip.max_length <= sizes.max_position_embeddings) return;
  throw CheckpointError(size_source(files).string() + ": \"max_position_embeddings\" is " +
                        std::to_string(sizes.max_position_embeddings) + ", but the configuration reads " +
                        std::to_string(config.clip.max_length) + " tokens (\"clip.max_length\")");
}

void check_t5_sizes(const io::TextEncoderFiles& files, const text::T5Config& sizes, const Config& config) {
  check_width(files, "d_model", sizes.d_model, "context_in_dim", config.model.context_in_dim);
}

void check_clip_vocabulary(const io::TextEncoderFiles& files, const text::ClipTokenizer& tokenizer,
                           const text::ClipConfig& config) {
  if (tokenizer.vocab_size() == config.vocab_size || tokenizer.total_size() == config.vocab_size) return;
  fail_vocabulary(files, "vocab.json", tokenizer.vocab_size(), config.vocab_size);
}

// T5's embedding table is the vocabulary and 100 sentinels, rounded up to a multiple of 128.
void check_t5_vocabulary(const io::TextEncoderFiles& files, const text::T5Tokenizer& tokenizer,
                         const text::T5Config& config) {
  constexpr int64_t kMostUnused = 256;
  const int64_t pieces = tokenizer.vocab_size(), rows = config.vocab_size;
  if (pieces <= rows && rows - pieces < kMostUnused) return;
  fail_vocabulary(files, "spiece.model", pieces, rows);
}

void check_ids(const text::Tokens& tokens, int64_t vocab_size, const char* encoder) {
  for (size_t i = 0; i < tokens.ids.size(); ++i) {
    if (tokens.ids[i] < vocab_size) continue;
    throw UsageError(std::string(encoder) + ": the text holds the special token " + tokens.pieces[i] +
                     ", for which this model has no row (id " + std::to_string(tokens.ids[i]) + " of " +
                     std::to_string(vocab_size) + ")");
  }
}

}  // namespace opensora::pipeline
