#include "core/rank_layout.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <sstream>

#include "core/text.h"
#include "opensora/error.h"

namespace opensora {

RankLayout whole_sequence(int ranks, int heads) {
  const int ulysses = std::gcd(ranks, heads);
  return {.ulysses = ulysses, .ring = ranks / ulysses};
}

std::string layout_text(const RankLayout& layout) {
  return fmt::format("guidance={},ulysses={},ring={}", layout.guidance, layout.ulysses, layout.ring);
}

RankLayout parse_layout(const std::string& text) {
  RankLayout layout;
  const std::map<std::string, int*> parts = {
      {"guidance", &layout.guidance}, {"ulysses", &layout.ulysses}, {"ring", &layout.ring}};
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    const size_t equals = std::min(word.find('='), word.size());
    const auto part = parts.find(word.substr(0, equals));
    const std::optional<int> count = parse_whole<int>(word.substr(std::min(equals + 1, word.size())));
    if (part == parts.end() || !count || *count < 1) {
      throw UsageError("`rank_layout`: expected guidance=, ulysses= and ring= with numbers from 1, found \"" + word +
                       "\"");
    }
    *part->second = *count;
  }
  return layout;
}

}  // namespace opensora
