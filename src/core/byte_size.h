// Amounts of memory as text.
#pragma once

#include <cstdint>
#include <string>

namespace opensora {

// "24GiB", "24 GB", "24G" (binary), "1.5TiB", "512MiB", a plain number of bytes. Throws UsageError that names `flag`.
int64_t parse_bytes(const std::string& flag, const std::string& text);

// "3.42 GiB", "17 MiB", "0 KiB"
std::string format_bytes(int64_t bytes);

}  // namespace opensora
