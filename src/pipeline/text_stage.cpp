#include "pipeline/text_stage.h"

#include <spdlog/spdlog.h>

#include "io/checkpoint.h"
#include "io/model_files.h"
#include "pipeline/text_model.h"
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

// [1, C] a prompt
std::vector<at::Tensor> encode_clip(const std::vector<std::string>& prompts, const Config& config,
                                    const TextStageOptions& options) {
  const io::TextEncoderFiles files =
      io::find_text_encoder(options.model_dir, io::Component::kClip, config.clip.from_pretrained, options.clip_weights);
  const text::ClipTokenizer tokenizer(files.tokenizer_folder);
  const auto checkpoint = io::Checkpoint::open(files.weights);
  const text::ClipConfig encoder_config = clip_config(files, *checkpoint);
  check_clip_width(files, encoder_config, config.model);
  check_clip_vocabulary(files, tokenizer, encoder_config);
  const text::ClipEncoder encoder(Weights(checkpoint, options.device, options.dtype), encoder_config);
  std::vector<at::Tensor> pooled;
  for (const std::string& prompt : prompts) {
    const text::Tokens tokens = tokenizer.encode(prompt, config.clip.max_length);
    warn_if_cut("CLIP", tokens);
    pooled.push_back(encoder.forward(to_tensor(tokenizer.pad(tokens, config.clip.max_length))).pooled);
  }
  return pooled;
}

// [1, L, C] a prompt
std::vector<at::Tensor> encode_t5(const std::vector<std::string>& prompts, const Config& config,
                                  const TextStageOptions& options) {
  const io::TextEncoderFiles files =
      io::find_text_encoder(options.model_dir, io::Component::kT5, config.t5.from_pretrained, options.t5_weights);
  const text::T5Tokenizer tokenizer(files.tokenizer_folder);
  const auto checkpoint = io::Checkpoint::open(files.weights);
  const text::T5Config encoder_config = t5_config(files, *checkpoint);
  check_t5_width(files, encoder_config, config.model);
  check_t5_vocabulary(files, tokenizer, encoder_config);
  const text::T5Encoder encoder(Weights(checkpoint, options.device, options.dtype), encoder_config);
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
