#include "opensora/tokenize.h"

#include "models/model_files.h"
#include "text/clip_tokenizer.h"
#include "text/t5_tokenizer.h"
#include "text/unicode.h"

namespace opensora {

TokenizedPrompt tokenize(const std::string& text, const std::filesystem::path& model_dir, const Config& config) {
  text::check_utf8(text, "the text");
  const models::ModelChoice choice{model_dir, config};
  const text::ClipTokenizer clip(tokenizer_folder(Component::kClip, choice));
  const text::T5Tokenizer t5(tokenizer_folder(Component::kT5, choice));
  const text::Tokens clip_tokens = clip.encode(text, config.clip.max_length);
  const text::Tokens t5_tokens = t5.encode(text, config.t5.max_length);
  return {.clip = {clip.pad(clip_tokens, config.clip.max_length), clip_tokens.pieces, clip_tokens.total,
                   clip_tokens.cut_before},
          .t5 = {t5_tokens.ids, t5_tokens.pieces, t5_tokens.total, t5_tokens.cut_before}};
}

}  // namespace opensora
