// Amounts of memory on the command line.
#pragma once

#include <cstdint>
#include <string>

namespace opensora::cli {

// "24GiB", "24 GB", "24G" (binary), "512MiB", a plain number of bytes. Throws UsageError that names `flag`.
int64_t parse_bytes(const std::string& flag, const std::string& text);

}  // namespace opensora::cli
