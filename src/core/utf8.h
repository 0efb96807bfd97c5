// UTF-8: is it, and where may it be cut.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace opensora {

// Offset in bytes of the first byte that belongs to no character, or nullopt where all of `text` is valid.
std::optional<size_t> find_invalid_utf8(std::string_view text);

// The longest beginning of `text` (valid UTF-8) that has at most `bytes` bytes and ends between two characters.
std::string_view cut_utf8(std::string_view text, size_t bytes);

}  // namespace opensora
