// Texts as people write them: UTF-8 and where it may be cut, numbers, words for file names, and mistyped names.
#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace opensora {

// Offset in bytes of the first byte that belongs to no character, or nullopt where all of `text` is valid.
std::optional<size_t> find_invalid_utf8(std::string_view text);

// The longest beginning of `text` (valid UTF-8) that has at most `bytes` bytes and ends between two characters.
std::string_view cut_utf8(std::string_view text, size_t bytes);

// With the control characters as JSON writes them ("\\u001b"), so that it neither breaks a line nor steers a terminal.
std::string on_one_line(std::string_view text);

// Up to where it goes on in another: LibTorch's errors end with a stack.
inline std::string first_line(std::string_view text) { return std::string(text.substr(0, text.find('\n'))); }

// ASCII letters in lower case, all else as it is.
std::string to_lower(std::string_view text);

// "A red circle, moving" -> "a-red-circle-moving": its ASCII letters and digits. It ends with the word that reaches
// `soft` bytes, and within a word at `hard` bytes. Empty where the text has none of them.
std::string slug(std::string_view text, size_t soft, size_t hard);

// How a video of that prompt is called: the slug of some 40 bytes, or "video".
std::string prompt_slug(std::string_view prompt);

// "42", and "-42" where T is signed: no plus, no spaces, no exponent, no hexadecimal. nullopt for all else, and for
// what T cannot hold.
template <typename T>
std::optional<T> parse_whole(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "7.5", "-1", "1e-3"; the decimal sign is a point in every language. nullopt for all else, and for what is not finite.
inline std::optional<double> parse_decimal(std::string_view text) {
  const std::optional<double> value = parse_whole<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

// The entry of `known` that is only a few slips away from `name` (insertions, deletions, substitutions, swapped
// neighbours; case counts, dashes in front do not), else the only one of which `name` is a word ("steps" of
// "num_steps"), or nullopt: a wrong suggestion is worse than none.
std::optional<std::string> nearest_name(std::string_view name, std::span<const std::string> known);

// The end of a message: `; did you mean "num_steps"?`, or nothing where no known name is near.
std::string did_you_mean(std::string_view name, std::span<const std::string> known);

// "256px, 360p, 480p"
std::string join_names(std::span<const std::string> names);

}  // namespace opensora
