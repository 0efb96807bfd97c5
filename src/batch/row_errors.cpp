#include "batch/row_errors.h"

#include <fmt/format.h>

#include <algorithm>

#include "opensora/error.h"

namespace opensora::batch {

std::vector<std::string> RowErrors::lines() const {
  auto sorted = errors_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> texts;
  texts.reserve(sorted.size());
  for (const auto& [line, message] : sorted) {
    texts.push_back(line == 0 ? fmt::format("{}: {}", file_, message) : fmt::format("{}:{}: {}", file_, line, message));
  }
  return texts;
}

void RowErrors::throw_if_any() const {
  constexpr size_t kMostShown = 100;  // a table with one slip in each of its rows
  if (empty()) return;
  std::vector<std::string> shown = lines();
  if (shown.size() > kMostShown) {
    const size_t rest = shown.size() - kMostShown;
    shown.resize(kMostShown);
    shown.push_back(fmt::format("{}: and {} more", file_, rest));
  }
  throw UsageError(fmt::format("{}: {} error{}, nothing was made:\n{}", file_, size(), size() == 1 ? "" : "s",
                               fmt::join(shown, "\n")));
}

}  // namespace opensora::batch
