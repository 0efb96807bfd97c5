#include "media/verify_video.h"

#include <spdlog/fmt/fmt.h>

#include <cmath>
#include <string>
#include <string_view>

#include "opensora/error.h"

namespace opensora::media {
namespace {

constexpr double kTolerance = 0.002;  // seconds

VideoInfo read_again(const std::filesystem::path& file, const std::filesystem::path& name) {
  try {
    return read_video_info(file);
  } catch (const InputMediaError& error) {
    throw OutputError(
        fmt::format("{}: the file that was written cannot be read again: {}", name.string(), error.what()));
  }
}

}  // namespace

void verify_video(const std::filesystem::path& file, const VideoInfo& expected, const std::filesystem::path& name) {
  const VideoInfo found = read_again(file, name);
  const auto differs = [&](std::string_view what, const std::string& wanted, const std::string& there) {
    throw OutputError(
        fmt::format("{}: the file that was written is not whole: expected {} {}, found {}; is the disk "
                    "full or damaged?",
                    name.string(), what, wanted, there));
  };
  if (found.codec != expected.codec) differs("codec", expected.codec, found.codec);
  if (found.width != expected.width || found.height != expected.height) {
    differs("size", fmt::format("{}x{}", expected.width, expected.height),
            fmt::format("{}x{}", found.width, found.height));
  }
  if (found.frames != expected.frames) {
    differs("frames", fmt::format("{}", expected.frames), fmt::format("{}", found.frames));
  }
  if (!(std::abs(found.duration - expected.duration) <= kTolerance)) {
    differs("seconds", fmt::format("{:.3f}", expected.duration), fmt::format("{:.3f}", found.duration));
  }
  if (found.comment != expected.comment) {
    differs("comment of", fmt::format("{} bytes", expected.comment.size()),
            found.comment.size() == expected.comment.size() ? "another text"
                                                            : fmt::format("{} bytes", found.comment.size()));
  }
}

}  // namespace opensora::media
