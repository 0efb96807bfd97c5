// The tokenizer of CLIP's text encoder, as Hugging Face's CLIPTokenizer with ftfy.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/tokens.h"

namespace opensora::text {

class BytePairEncoder;

class ClipTokenizer {
 public:
  // What CLIP-L was trained with, special tokens included.
  static constexpr size_t kMaxLength = 77;

  // `folder` holds vocab.json and merges.txt, and perhaps what read_tokenizer_settings() reads. Throws CheckpointError
  // if one of the two is missing, malformed, of another kind of model or does not fit the other, if the vocabulary
  // lacks
  // <|startoftext|> or <|endoftext|>, or if one of the others is damaged.
  explicit ClipTokenizer(const std::filesystem::path& folder);

  // <|startoftext|>, the text (fixed, white space collapsed, in lower case; without mojibake repair), <|endoftext|>: at
  // most `max_length` ids (at least 2). The names of the two special tokens, and of others that the files add, are
  // those tokens where they stand in the text. Throws UsageError if the text is not valid UTF-8.
  Tokens encode(std::string_view text, size_t max_length = kMaxLength) const;

  // The ids, filled up with <|endoftext|> to `max_length`, which must be at least their number.
  std::vector<int64_t> pad(const Tokens& tokens, size_t max_length = kMaxLength) const;

  // Largest id + 1: the rows that the embedding must have.
  int64_t vocab_size() const;
  // The same with the tokens that other files than vocab.json add behind it.
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

}  // namespace opensora::text
