// The public opensora/video.h under this room's name, implemented here, and the check of a finished video by it.
#pragma once

#include <filesystem>

#include "opensora/video.h"

namespace opensora::media {

using opensora::read_video_info;
using opensora::VideoInfo;

// Opens a finished video and compares frames, size, duration (within 2 ms: Matroska counts milliseconds), codec and
// comment with what was asked for. Not the pixel format: decoders may name another order of the same planes. Throws
// OutputError "<name>: …" that says what was expected and found, also if the file cannot be read. `name`: what the user
// calls the file, which may still be under another name.
void verify_video(const std::filesystem::path& file, const VideoInfo& expected, const std::filesystem::path& name);

}  // namespace opensora::media
