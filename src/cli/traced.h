// Work that --trace watches.
#pragma once

#include <filesystem>
#include <optional>
#include <utility>

#include "opensora/trace.h"

namespace opensora::cli {

// Does the work, and writes its trace to `file`, unless that is empty, if the work succeeds.
template <typename Work>
void run_traced(const std::filesystem::path& file, Work&& work) {
  std::optional<Trace> trace;
  if (!file.empty()) trace.emplace(file);
  std::forward<Work>(work)();
  if (trace) trace->finish();
}

}  // namespace opensora::cli
