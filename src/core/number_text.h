// Numbers as people write them: digits, and nothing that only a programming language knows.
#pragma once

#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>
#include <system_error>

namespace opensora {

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

}  // namespace opensora
