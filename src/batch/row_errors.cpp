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
  if (empty()) return;
  throw UsageError(fmt::format("{}: {} error{}, nothing was made:\n{}", file_, size(), size() == 1 ? "" : "s",
                               fmt::join(lines(), "\n")));
}

}  // namespace opensora::batch
