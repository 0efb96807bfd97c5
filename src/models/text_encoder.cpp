#include "models/text_encoder.h"

#include <spdlog/spdlog.h>

#include <variant>

#include "opensora/error.h"
#include "text/prompt.h"

namespace opensora::models {
namespace {

void check_ids(const text::Tokens& tokens, int64_t vocab_size, const char* encoder) {
  for (size_t i = 0; i < tokens.ids.size(); ++i) {
    if (tokens.ids[i] < vocab_size) continue;
    throw UsageError(std::string(encoder) + ": the text holds the special token " + tokens.pieces[i] +
                     ", for which this model has no row (id " + std::to_string(tokens.ids[i]) + " of " +
                     std::to_string(vocab_size) + ")");
  }
}

}  // namespace

int64_t encoder_max_length(Component component, const Config& config) {
  return component == Component::kT5 ? config.t5.max_length : config.clip.max_length;
}

int64_t encoder_width(Component component, const Config& config) {
  return component == Component::kT5 ? config.model.context_in_dim : config.model.vec_in_dim;
}

TextEncoder::TextEncoder(Component component, ModelSet& models)
    : component_(component),
      models_(models),
      tokenizer_(open_tokenizer(component, locate(component, models.choice()).tokenizer_folder)),
      max_length_(encoder_max_length(component, models.choice().config)) {
  models.bind(component);
}

// The suffixes that this program adds come last, and are the first to go: nobody needs to be told of that.
void TextEncoder::warn_if_cut(const std::string& text) const {
  const Config& config = models_.choice().config;
  const std::string own_text = text::without_suffixes(text, config.fps_save.rounded(), config.motion_score);
  const text::Tokens own =
      std::visit([&](const auto& tokenizer) { return tokenizer.encode(own_text, max_length_); }, tokenizer_);
  if (!own.cut_before) return;
  spdlog::warn("{} reads {} of the prompt's {} tokens; it was cut before \"{}\"", encoder_name(component_),
               own.ids.size(), own.total, *own.cut_before);
}

EncodedText TextEncoder::operator()(const std::string& text) const {
  const text::Tokens tokens =
      std::visit([&](const auto& tokenizer) { return tokenizer.encode(text, max_length_); }, tokenizer_);
  check_ids(tokens, models_.vocab_size(component_), encoder_name(component_));
  if (tokens.cut_before) warn_if_cut(text);
  const std::vector<int64_t> padded =
      std::visit([&](const auto& tokenizer) { return tokenizer.pad(tokens, max_length_); }, tokenizer_);
  const at::Tensor ids = at::tensor(padded, at::kLong).unsqueeze(0);  // [1, L]
  return {ids, models_.encode_text(component_, ids)};
}

}  // namespace opensora::models
