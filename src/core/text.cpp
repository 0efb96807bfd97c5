#include "core/text.h"

#include <spdlog/fmt/fmt.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <numeric>
#include <vector>

namespace opensora {

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  const auto length = static_cast<int64_t>(text.size());
  for (int64_t next = 0; next < length;) {
    const int64_t offset = next;
    UChar32 character = 0;
    U8_NEXT(text.data(), next, length, character);
    if (character < 0) return static_cast<size_t>(offset);
  }
  return std::nullopt;
}

std::string_view cut_utf8(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  size_t end = bytes;
  while (end > 0 && U8_IS_TRAIL(text[end])) --end;
  return text.substr(0, end);
}

std::string on_one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    line += code < 0x20 || code == 0x7F ? fmt::format("\\u{:04x}", code) : std::string(1, c);
  }
  return line;
}

std::string to_lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

std::string slug(std::string_view text, size_t soft, size_t hard) {
  std::string words;
  for (const unsigned char c : text) {
    if (words.size() >= hard) break;
    if (std::isalnum(c) != 0) {
      words += static_cast<char>(std::tolower(c));
    } else if (!words.empty() && words.back() != '-') {
      if (words.size() >= soft) break;
      words += '-';
    }
  }
  while (!words.empty() && words.back() == '-') words.pop_back();
  return words;
}

std::string prompt_slug(std::string_view prompt) {
  const std::string words = slug(prompt, 40, 80);
  return words.empty() ? "video" : words;
}

namespace {

// Counts insertions, deletions, substitutions and swapped neighbours, with three rows of the table at a time.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before, last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, substituted});
      const bool is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (is_swap) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = last;
    last = row;
  }
  return last[b.size()];
}

std::string_view without_dashes(std::string_view name) {
  const size_t begin = name.find_first_not_of('-');
  return begin == std::string_view::npos ? name : name.substr(begin);
}

// How many slips a name of this length may contain: a wrong suggestion is worse than none.
size_t tolerance(std::string_view name) { return name.size() <= 5 ? 1 : name.size() <= 8 ? 2 : 3; }

// True for "steps" in "num_steps" and in "--num-steps".
bool is_word_of(std::string_view word, std::string_view name) {
  constexpr std::string_view kSeparators = "-_";
  constexpr size_t kShortest = 4;
  if (word.size() < kShortest) return false;
  for (size_t at = name.find(word); at != std::string_view::npos; at = name.find(word, at + 1)) {
    const size_t end = at + word.size();
    const bool begins = at == 0 || kSeparators.find(name[at - 1]) != std::string_view::npos;
    const bool ends = end == name.size() || kSeparators.find(name[end]) != std::string_view::npos;
    if (begins && ends) return true;
  }
  return false;
}

}  // namespace

std::optional<std::string> nearest_name(std::string_view name, std::span<const std::string> known) {
  const std::string_view wanted = without_dashes(name);
  std::optional<std::string> best;
  std::vector<std::string> holding;
  size_t best_distance = 0;
  for (const std::string& candidate : known) {
    const std::string_view text = without_dashes(candidate);
    if (is_word_of(wanted, text)) holding.push_back(candidate);
    const size_t distance = edit_distance(wanted, text);
    if (distance > tolerance(std::min(wanted, text, [](auto a, auto b) { return a.size() < b.size(); }))) continue;
    if (best && distance >= best_distance) continue;
    best_distance = distance;
    best = candidate;
  }
  if (best) return best;
  return holding.size() == 1 ? std::optional(holding.front()) : std::nullopt;
}

std::string did_you_mean(std::string_view name, std::span<const std::string> known) {
  const std::optional<std::string> nearest = nearest_name(name, known);
  return nearest ? "; did you mean \"" + *nearest + "\"?" : "";
}

std::string join_names(std::span<const std::string> names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace opensora
