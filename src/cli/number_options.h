// Flags that take a number: each with its range, and an error in the same words for all that is no such number.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "opensora/frame_rate.h"
#include "opensora/generate.h"

namespace opensora::cli {

// Inclusive.
struct WholeRange {
  int64_t min = 0, max = 0;
};
struct RealRange {
  double min = 0, max = 0;
};

// `target` is set as the flag is parsed; the description gets the range. "-W,--width" are names as CLI11 takes them.
CLI::Option* add_whole(CLI::App& command, const std::string& names, int& target, WholeRange range,
                       const std::string& description);
CLI::Option* add_whole(CLI::App& command, const std::string& names, int64_t& target, WholeRange range,
                       const std::string& description);
CLI::Option* add_whole(CLI::App& command, const std::string& names, std::optional<int64_t>& target, WholeRange range,
                       const std::string& description);
CLI::Option* add_real(CLI::App& command, const std::string& names, double& target, RealRange range,
                      const std::string& description);
CLI::Option* add_real(CLI::App& command, const std::string& names, std::optional<double>& target, RealRange range,
                      const std::string& description);
// Any number that 64 bits hold.
CLI::Option* add_seed(CLI::App& command, const std::string& names, uint64_t& target, const std::string& description);
CLI::Option* add_frame_rate(CLI::App& command, const std::string& names, std::optional<FrameRate>& target,
                            const std::string& description);

// "512x288": two sides of 1 to kMaxEdge.
CLI::Option* add_size(CLI::App& command, const std::string& names, std::optional<PixelSize>& target,
                      const std::string& description);
// The same, or "none", which is noted in `is_none`.
CLI::Option* add_size_or_none(CLI::App& command, const std::string& names, std::optional<PixelSize>& target,
                              bool& is_none, const std::string& description);
// "4GiB", as parse_bytes() takes it.
CLI::Option* add_bytes(CLI::App& command, const std::string& names, int64_t& target, const std::string& description);

}  // namespace opensora::cli
