// Amounts of memory and lengths of time, as people read and write them.
#pragma once

#include <cstdint>
#include <string>

namespace opensora {

// "24GiB", "24 GB", "24G" (binary), "1.5TiB", "512MiB", a plain number of bytes. Throws UsageError that names `flag`.
int64_t parse_bytes(const std::string& flag, const std::string& text);

// "3.42 GiB", "17 MiB", "0 KiB"
std::string format_bytes(int64_t bytes);

// "12 s", "4 min", "3 h 20 min", "5 days": as exact as a guess may be.
std::string format_duration(double seconds);

// The local time in so many seconds: "15:42"; on another day "Fri 03:10"; after that the date.
std::string local_time_in(double seconds);

}  // namespace opensora
