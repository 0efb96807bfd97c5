// The tokenizer of T5's encoder: SentencePiece, as Hugging Face's T5Tokenizer with `legacy=True`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "text/tokens.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace opensora::text {

class T5Tokenizer {
 public:
  // `folder` holds spiece.model. Throws CheckpointError if it is missing, is not a SentencePiece model or has no pieces
  // </s> and <pad>.
  explicit T5Tokenizer(const std::filesystem::path& folder);

  // The text as it is (names of special tokens in it are plain text), then </s>: at most `max_length` ids (at least 1).
  // Throws UsageError if the text is not valid UTF-8.
  Tokens encode(std::string_view text, size_t max_length) const;

  // The ids, filled up with <pad> to `max_length`, which must be at least their number.
  std::vector<int64_t> pad(const Tokens& tokens, size_t max_length) const;

  // The number of pieces. The embedding may have more rows.
  int64_t vocab_size() const;

 private:
  std::shared_ptr<const sentencepiece::SentencePieceProcessor> processor_;  // shared by copies
};

}  // namespace opensora::text
