// Writes one picture as PNG.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace opensora::media {

// `rgb24`: height x width x 3, packed. An output size other than 0 scales it (Lanczos) first. The pixels come back
// exactly. The file appears complete or not at all. Throws UsageError for a size out of range (1 to 16384 pixels each
// way), OutputError as OutputFile does or for what FFmpeg reports.
void write_png(const std::filesystem::path& path, const uint8_t* rgb24, int width, int height, bool overwrite,
               int output_width = 0, int output_height = 0);

// The file's content alone; errors name `path`.
std::string encode_png(const std::filesystem::path& path, const uint8_t* rgb24, int width, int height,
                       int output_width = 0, int output_height = 0);

}  // namespace opensora::media
