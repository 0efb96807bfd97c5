// The tokenizer of T5's encoder: SentencePiece, as Hugging Face's T5Tokenizer with `legacy=True`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/tokens.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace opensora::text {

class T5Tokenizer {
 public:
  // `folder` holds spiece.model, and perhaps what read_tokenizer_settings() reads. Throws CheckpointError if the former
  // is missing, is not a SentencePiece model or has no pieces </s> and <pad>, or if one of the latter is damaged.
  explicit T5Tokenizer(const std::filesystem::path& folder);

  // The text as it is, then </s> if it does not end with it: at most `max_length` ids (at least 1). The names of
  // special tokens in the text (</s>, <pad>, <unk>, <extra_id_0>, …) are those tokens. Throws UsageError if the text is
  // not valid UTF-8.
  Tokens encode(std::string_view text, size_t max_length) const;

  // The ids, filled up with <pad> to `max_length`, which must be at least their number.
  std::vector<int64_t> pad(const Tokens& tokens, size_t max_length) const;

  // The number of pieces, without added tokens (<extra_id_0>, …). The embedding may have more rows.
  int64_t vocab_size() const;

 private:
  std::shared_ptr<const sentencepiece::SentencePieceProcessor> processor_;  // shared by copies
  std::shared_ptr<const AddedTokens> added_;
};

}  // namespace opensora::text
