// The public opensora/video_info.h under this room's name; implemented in video_info.cpp.
#pragma once

#include "opensora/video_info.h"

namespace opensora::media {

using opensora::read_video_info;
using opensora::VideoInfo;

}  // namespace opensora::media
