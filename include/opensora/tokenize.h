// What the text encoders read of a prompt.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "opensora/config.h"

namespace opensora {

struct TokenizedText {
  std::vector<int64_t> ids;               // CLIP: padded to its length; T5: without padding
  std::vector<std::string> pieces;        // the text of each id, without padding
  size_t total = 0;                       // tokens of the whole text, special ones counted
  std::optional<std::string> cut_before;  // the first words that are not read; nullopt: all of it is
};

struct TokenizedPrompt {
  TokenizedText clip, t5;
};

// `text` (UTF-8) as it is, without the suffixes that generate() adds. Folders and lengths are the configuration's.
// Throws UsageError for invalid UTF-8, CheckpointError for a tokenizer file that is missing or damaged.
TokenizedPrompt tokenize(const std::string& text, const std::filesystem::path& model_dir, const Config& config);

}  // namespace opensora
