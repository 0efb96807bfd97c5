// The tokenizers of the two text encoders: from a text to the ids that an encoder reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "opensora/text.h"
#include "text/added_tokens.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace opensora::text {

// What a tokenizer makes of a text, with special tokens, truncated to the length that was asked for. The ids are not
// padded.
using Tokens = TokenizedText;

class BytePairEncoder;

// CLIP's tokenizer, as Hugging Face's CLIPTokenizer with ftfy.
class ClipTokenizer {
 public:
  // The length that CLIP-L was trained with, special tokens included.
  static constexpr size_t kMaxLength = 77;

  // `folder` holds vocab.json and merges.txt, and perhaps what read_tokenizer_settings() reads. Throws CheckpointError
  // if one of the two is missing, malformed, of another kind of model or does not fit the other, if the vocabulary
  // lacks <|startoftext|> or <|endoftext|>, or if one of the others is damaged.
  explicit ClipTokenizer(const std::filesystem::path& folder);

  // <|startoftext|>, the text (fixed, white space collapsed, in lower case; without mojibake repair), <|endoftext|>: at
  // most `max_length` ids (at least 2). The names of the two special tokens, and of others that the files add, are
  // those tokens where they stand in the text. Throws UsageError if the text is not valid UTF-8.
  Tokens encode(std::string_view text, size_t max_length = kMaxLength) const;

  // The ids, filled up with <|endoftext|> to `max_length`, which must be at least their number.
  std::vector<int64_t> pad(const Tokens& tokens, size_t max_length = kMaxLength) const;

  // Largest id + 1: the rows that the embedding must have.
  int64_t vocab_size() const;
  // The same, counting the tokens that files other than vocab.json add behind it.
  int64_t total_size() const;

 private:
  void encode_segment(std::string_view text, size_t max_length, Tokens& tokens) const;
  const std::string& piece(int64_t id) const;
  void note_cut(std::string_view rest, size_t ids_before, size_t max_length, Tokens& tokens) const;

  std::shared_ptr<const BytePairEncoder> encoder_;  // shared by copies
  std::shared_ptr<const AddedTokens> added_;
  int64_t start_ = 0;
  int64_t end_ = 0;
};

// T5's tokenizer: SentencePiece, as Hugging Face's T5Tokenizer with `legacy=True`.
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
