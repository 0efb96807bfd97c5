// Notes in PNG files, which no viewer shows: whose a picture is that lies beside an unfinished video.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace opensora::media {

// The PNG `file` with a text chunk in front of its end. `note` is Latin-1 without a null character.
std::string with_note(std::string file, std::string_view note);

// Without such a chunk.
std::string without_note(std::string file);

// The note in a file; empty: none, no PNG, or it cannot be read.
std::string read_note(const std::filesystem::path& path);

}  // namespace opensora::media
