// --trace: what runs when, into a file.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <utility>

#include "opensora/trace.h"

namespace opensora::cli {

struct TraceOption {
  std::filesystem::path file;  // empty: no trace

  void add_to(CLI::App& command) {
    command.add_option("--trace", file, "Write what ran when to this JSON file, for chrome://tracing or Perfetto")
        ->type_name("FILE")
        ->group("Machine");
  }

  // Does the work, and writes its trace if one is wanted and the work succeeds.
  template <typename Work>
  void run(Work&& work) const {
    std::optional<Trace> trace;
    if (!file.empty()) trace.emplace(file);
    std::forward<Work>(work)();
    if (trace) trace->finish();
  }
};

}  // namespace opensora::cli
