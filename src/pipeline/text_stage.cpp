#include "pipeline/text_stage.h"

#include <spdlog/spdlog.h>

#include "io/checkpoint.h"
#include "opensora/error.h"
#include "text/clip_encoder.h"
#include "text/clip_tokenizer.h"
#include "text/t5_encoder.h"
#include "text/t5_tokenizer.h"

namespace opensora::pipeline {
namespace {

at::Tensor to_tensor(const std::vector<int64_t>& ids) {
  return at::tensor(ids, at::kLong).unsqueeze(0);  // [1, L]
}

void warn_if_cut(const char* encoder, const text::Tokens& tokens) {
  if (!tokens.cut_before) return;
  spdlog::warn("{} reads {} of the prompt's {} tokens; it was cut before \"{}\"", encoder, tokens.ids.size(),
               tokens.total, *tokens.cut_before);
}

void check_width(const std::filesystem::path& folder, const char* key, int64_t found, const char* model_key,
                 int64_t expected) {
  if (found == expected) return;
  throw CheckpointError((folder / "config.json").string() + ": \"" + key + "\" is " + std::to_string(found) +
                        ", but the transformer's \"" + model_key + "\" is " + std::to_string(expected));
}

// [1, C] a prompt
std::vector<at::Tensor> encode_clip(const std::vector<std::string>& prompts, const Config& config,
                                    const TextStageOptions& options) {
  const std::filesystem::path folder = options.model_dir / config.clip.from_pretrained;
  const text::ClipTokenizer tokenizer(folder);
  const text::ClipConfig encoder_config = text::load_clip_config(folder);
  check_width(folder, "hidden_size", encoder_config.hidden_size, "vec_in_dim", config.model.vec_in_dim);
  if (tokenizer.vocab_size() != encoder_config.vocab_size) {
    throw CheckpointError((folder / "vocab.json").string() + ": " + std::to_string(tokenizer.vocab_size()) +
                          " entries, but config.json's \"vocab_size\" is " + std::to_string(encoder_config.vocab_size) +
                          ": a tokenizer of another model");
  }
  const text::ClipEncoder encoder(Weights(io::Checkpoint::open(folder), options.device, options.dtype), encoder_config);
  std::vector<at::Tensor> pooled;
  for (const std::string& prompt : prompts) {
    const text::Tokens tokens = tokenizer.encode(prompt, config.clip.max_length);
    warn_if_cut("CLIP", tokens);
    pooled.push_back(encoder.forward(to_tensor(tokenizer.pad(tokens, config.clip.max_length))).pooled);
  }
  return pooled;
}

// T5's embedding table is the vocabulary and 100 sentinels, rounded up to a multiple of 128.
void check_t5_vocabulary(const std::filesystem::path& folder, int64_t pieces, int64_t rows) {
  constexpr int64_t kMostUnused = 256;
  if (pieces <= rows && rows - pieces < kMostUnused) return;
  throw CheckpointError((folder / "spiece.model").string() + ": " + std::to_string(pieces) +
                        " pieces, but config.json's \"vocab_size\" is " + std::to_string(rows) +
                        ": a tokenizer of another model");
}

// [1, L, C] a prompt
std::vector<at::Tensor> encode_t5(const std::vector<std::string>& prompts, const Config& config,
                                  const TextStageOptions& options) {
  const std::filesystem::path folder = options.model_dir / config.t5.from_pretrained;
  const text::T5Tokenizer tokenizer(folder);
  const text::T5Config encoder_config = text::load_t5_config(folder);
  check_width(folder, "d_model", encoder_config.d_model, "context_in_dim", config.model.context_in_dim);
  check_t5_vocabulary(folder, tokenizer.vocab_size(), encoder_config.vocab_size);
  const text::T5Encoder encoder(Weights(io::Checkpoint::open(folder), options.device, options.dtype), encoder_config);
  std::vector<at::Tensor> states;
  for (const std::string& prompt : prompts) {
    const text::Tokens tokens = tokenizer.encode(prompt, config.t5.max_length);
    warn_if_cut("T5", tokens);
    states.push_back(encoder.forward(to_tensor(tokenizer.pad(tokens, config.t5.max_length))));
  }
  return states;
}

}  // namespace

std::vector<sampling::TextEmbedding> encode_prompts(const std::vector<std::string>& prompts, const Config& config,
                                                    const TextStageOptions& options) {
  const std::vector<at::Tensor> vec = encode_clip(prompts, config, options);
  const std::vector<at::Tensor> txt = encode_t5(prompts, config, options);
  std::vector<sampling::TextEmbedding> embeddings;
  for (size_t i = 0; i < prompts.size(); ++i) embeddings.push_back({.txt = txt[i], .vec = vec[i]});
  return embeddings;
}

}  // namespace opensora::pipeline
