#include "pipeline/text_encoders.h"

#include <spdlog/spdlog.h>

#include <system_error>

#include "io/checkpoint.h"
#include "pipeline/identity.h"
#include "pipeline/text_model.h"
#include "text/clip_encoder.h"
#include "text/clip_tokenizer.h"
#include "text/prompt.h"
#include "text/t5_encoder.h"
#include "text/t5_tokenizer.h"

namespace opensora::pipeline {
namespace {

at::Tensor to_tensor(const std::vector<int64_t>& ids) {
  return at::tensor(ids, at::kLong).unsqueeze(0);  // [1, L]
}

// The suffixes that this program adds come last, and are the first to go: nobody needs to be told of that.
template <typename Tokenizer>
void warn_if_cut(const char* encoder, const Tokenizer& tokenizer, const std::string& text, const Config& config,
                 int64_t max_length) {
  const text::Tokens own =
      tokenizer.encode(text::without_suffixes(text, config.fps_save.rounded(), config.motion_score), max_length);
  if (!own.cut_before) return;
  spdlog::warn("{} reads {} of the prompt's {} tokens; it was cut before \"{}\"", encoder, own.ids.size(), own.total,
               *own.cut_before);
}

EncodeText load_clip(const Config& config, const TextStageOptions& options) {
  const io::TextEncoderFiles files = find_encoder(TextEncoderKind::kClip, config, options);
  const text::ClipTokenizer tokenizer(files.tokenizer_folder);
  const auto checkpoint = io::Checkpoint::open(files.weights);
  const text::ClipConfig encoder_config = clip_config(files, *checkpoint);
  check_clip_sizes(files, encoder_config, config);
  check_clip_vocabulary(files, tokenizer, encoder_config);
  const auto encoder =
      std::make_shared<text::ClipEncoder>(Weights(checkpoint, options.device, options.dtype), encoder_config);
  return [tokenizer, encoder, config, max_length = config.clip.max_length,
          rows = encoder_config.vocab_size](const std::string& text) {
    const text::Tokens tokens = tokenizer.encode(text, max_length);
    check_ids(tokens, rows, "CLIP");
    if (tokens.cut_before) warn_if_cut("CLIP", tokenizer, text, config, max_length);
    const at::Tensor ids = to_tensor(tokenizer.pad(tokens, max_length));
    return EncodedText{ids, encoder->forward(ids).pooled};
  };
}

EncodeText load_t5(const Config& config, const TextStageOptions& options) {
  const io::TextEncoderFiles files = find_encoder(TextEncoderKind::kT5, config, options);
  const text::T5Tokenizer tokenizer(files.tokenizer_folder);
  const auto checkpoint = io::Checkpoint::open(files.weights);
  const text::T5Config encoder_config = t5_config(files, *checkpoint);
  check_t5_sizes(files, encoder_config, config);
  check_t5_vocabulary(files, tokenizer, encoder_config);
  const auto encoder =
      std::make_shared<text::T5Encoder>(Weights(checkpoint, options.device, options.dtype), encoder_config);
  return [tokenizer, encoder, config, max_length = config.t5.max_length,
          rows = encoder_config.vocab_size](const std::string& text) {
    const text::Tokens tokens = tokenizer.encode(text, max_length);
    check_ids(tokens, rows, "T5");
    if (tokens.cut_before) warn_if_cut("T5", tokenizer, text, config, max_length);
    const at::Tensor ids = to_tensor(tokenizer.pad(tokens, max_length));
    return EncodedText{ids, encoder->forward(ids)};
  };
}

}  // namespace

const char* encoder_name(TextEncoderKind kind) { return kind == TextEncoderKind::kT5 ? "T5" : "CLIP"; }

const char* encoder_key(TextEncoderKind kind) { return kind == TextEncoderKind::kT5 ? "t5" : "clip"; }

io::Component encoder_component(TextEncoderKind kind) {
  return kind == TextEncoderKind::kT5 ? io::Component::kT5 : io::Component::kClip;
}

io::TextEncoderFiles find_encoder(TextEncoderKind kind, const Config& config, const TextStageOptions& options) {
  if (kind == TextEncoderKind::kT5) {
    return io::find_text_encoder(options.model_dir, io::Component::kT5, config.t5.from_pretrained, options.t5_weights);
  }
  return io::find_text_encoder(options.model_dir, io::Component::kClip, config.clip.from_pretrained,
                               options.clip_weights);
}

std::string encoder_identity(const io::TextEncoderFiles& files) {
  std::vector<std::filesystem::path> all = io::Checkpoint::open(files.weights)->files();
  for (const char* name : {"spiece.model", "vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json"}) {
    std::error_code unreadable;
    const std::filesystem::path file = files.tokenizer_folder / name;
    const bool is_file = std::filesystem::is_regular_file(file, unreadable);
    if (is_file && std::filesystem::file_size(file, unreadable) > 0) all.push_back(file);
  }
  return identity_of(all);
}

int64_t encoder_max_length(TextEncoderKind kind, const Config& config) {
  return kind == TextEncoderKind::kT5 ? config.t5.max_length : config.clip.max_length;
}

int64_t encoder_width(TextEncoderKind kind, const Config& config) {
  return kind == TextEncoderKind::kT5 ? config.model.context_in_dim : config.model.vec_in_dim;
}

EncodeText load_text_encoder(TextEncoderKind kind, const Config& config, const TextStageOptions& options) {
  return kind == TextEncoderKind::kT5 ? load_t5(config, options) : load_clip(config, options);
}

}  // namespace opensora::pipeline
