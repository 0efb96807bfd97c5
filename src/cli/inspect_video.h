// opensora inspect for videos: size, frames, and what is written in them about their making.
#pragma once

#include <filesystem>

namespace opensora::cli {

// By what it holds, whatever its name; or where that tells nothing, by its name.
bool is_video_or_picture(const std::filesystem::path& path);

// Prints the video to stdout: a line for each fact and each entry of its metadata, or one JSON object. Throws
// InputMediaError.
void inspect_video(const std::filesystem::path& path, bool json);

}  // namespace opensora::cli
