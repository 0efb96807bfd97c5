#include "pipeline/text_model.h"

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

[[noreturn]] void fail_vocabulary(const io::TextEncoderFiles& files, const char* tokenizer_file, int64_t found,
                                  int64_t expected) {
  throw CheckpointError((files.tokenizer_folder / tokenizer_file).string() + ": " + std::to_string(found) +
                        " tokens, but the \"vocab_size\" of " + size_source(files).string() + " is " +
                        std::to_string(expected) + ": a tokenizer of another model");
}

}  // namespace

text::ClipConfig clip_config(const io::TextEncoderFiles& files, const WeightSource& weights) {
  return files.config_folder.empty() ? text::deduce_clip_config(weights) : text::load_clip_config(files.config_folder);
}

text::T5Config t5_config(const io::TextEncoderFiles& files, const WeightSource& weights) {
  return files.config_folder.empty() ? text::deduce_t5_config(weights) : text::load_t5_config(files.config_folder);
}

void check_clip_width(const io::TextEncoderFiles& files, const text::ClipConfig& config, const MMDiTConfig& model) {
  check_width(files, "hidden_size", config.hidden_size, "vec_in_dim", model.vec_in_dim);
}

void check_t5_width(const io::TextEncoderFiles& files, const text::T5Config& config, const MMDiTConfig& model) {
  check_width(files, "d_model", config.d_model, "context_in_dim", model.context_in_dim);
}

void check_clip_vocabulary(const io::TextEncoderFiles& files, const text::ClipTokenizer& tokenizer,
                           const text::ClipConfig& config) {
  if (tokenizer.vocab_size() == config.vocab_size) return;
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

}  // namespace opensora::pipeline
