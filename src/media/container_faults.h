// What is wrong with a file that FFmpeg does not make out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace opensora::media {

// "incomplete: it has no index (moov) …" for an MP4 or MOV that was cut off, is a fragment, refers to another file, or
// for a scrambled MPEG-TS: what it is and what to do. Empty if nothing of that kind is found.
std::string container_fault(const std::filesystem::path& path);

// Whether a sample entry of MP4 ("encv", the lowest byte first) is that of encrypted pictures.
bool is_encrypted(uint32_t codec_tag);

// Throws InputMediaError: with the container's fault if there is one, otherwise that the file is damaged or truncated.
// `reason`: FFmpeg's, if it has one; `place`: where it was found, behind all.
[[noreturn]] void throw_damaged(const std::filesystem::path& path, const std::string& reason,
                                const std::string& place = {});

// Throws InputMediaError.
[[noreturn]] void throw_encrypted(const std::filesystem::path& path);

}  // namespace opensora::media
