// Finds out what is wrong with a file that FFmpeg cannot read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace opensora::media {

// What is wrong and what to do, "incomplete: it has no index (moov) …", for an MP4 or MOV that was cut off, is a
// fragment or refers to another file, and for a scrambled MPEG-TS. Empty if nothing of that kind is found.
std::string container_fault(const std::filesystem::path& path);

// Whether a sample entry of MP4 (such as "encv", as a number with the lowest byte first) says that pictures are
// encrypted.
bool is_encrypted(uint32_t codec_tag);

// Throws InputMediaError: with the container's fault if there is one, otherwise that the file is damaged or truncated.
// `reason` is FFmpeg's, if it has one; `place` says where the damage was found and comes last.
[[noreturn]] void throw_damaged(const std::filesystem::path& path, const std::string& reason,
                                const std::string& place = {});

// Throws InputMediaError.
[[noreturn]] void throw_encrypted(const std::filesystem::path& path);

}  // namespace opensora::media
