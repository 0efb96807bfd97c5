// Pictures as PNG files, and notes in these.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace opensora::media {

// Writes one picture. `rgb24`: height x width x 3, packed. An output size other than 0 scales it (Lanczos) first. The
// pixels come back exactly. The file appears complete or not at all. Throws UsageError for a size out of range (1 to
// 16384 pixels each way), OutputError as OutputFile does or for what FFmpeg reports.
void write_png(const std::filesystem::path& path, const uint8_t* rgb24, int width, int height, bool overwrite,
               int output_width = 0, int output_height = 0);

// Returns the content of such a file and writes nothing; errors name `path`.
std::string encode_png(const std::filesystem::path& path, const uint8_t* rgb24, int width, int height,
                       int output_width = 0, int output_height = 0);

// Notes in PNG files, which no viewer shows, say whose a picture is that lies beside an unfinished video.
//
// The PNG `file` with a text chunk in front of its end. `note` is Latin-1 without a null character.
std::string with_note(std::string file, std::string_view note);

// The file without such a chunk.
std::string without_note(std::string file);

// The note in a file; empty if there is none, or if the file is no PNG or cannot be read.
std::string read_note(const std::filesystem::path& path);

}  // namespace opensora::media
