// Reading here and there in a file, for those who look at how a picture is stored.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

namespace opensora::media {

// Returns the bytes from `offset` on: `count` of them, or as many as there are. Throws nothing but std::bad_alloc.
using ReadBytes = std::function<std::string(uint64_t offset, size_t count)>;

// Reads from a file, which stays open as long as the function lives. One that cannot be opened counts as empty.
ReadBytes bytes_of_file(const std::filesystem::path& path);

// Reads from bytes in memory.
ReadBytes bytes_of_text(std::string text);

// The number in the first `bytes` (at most 8) of `text`; 0 if it has fewer.
uint64_t big_endian(std::string_view text, size_t bytes);
uint64_t little_endian(std::string_view text, size_t bytes);

}  // namespace opensora::media
