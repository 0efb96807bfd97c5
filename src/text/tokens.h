// What a tokenizer makes of a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace opensora::text {

struct Tokens {
  // The ids that the encoder sees: with special tokens, truncated to the length that was asked for, not padded.
  std::vector<int64_t> ids;
  // The piece of each id as the vocabulary spells it: "panda</w>" (CLIP), "▁panda" (T5).
  std::vector<std::string> pieces;
  // Tokens of the whole text with special tokens, before truncation.
  size_t total = 0;
  // The first few words of what was cut off, on one line; nullopt if nothing was. CLIP: as it reads the text, that is
  // fixed and in lower case.
  std::optional<std::string> cut_before;
};

}  // namespace opensora::text
