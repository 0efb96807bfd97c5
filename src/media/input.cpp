#include "media/input.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <regex>
#include <string>
#include <vector>

#include "media/ffmpeg_functions.h"
#include "opensora/error.h"

namespace opensora::media {
namespace {

namespace fs = std::filesystem;

// Options that are freed in any case. FFmpeg takes those that it knows out of the dictionary.
struct Dictionary {
  AVDictionary* entries = nullptr;
  Dictionary() = default;
  Dictionary(const Dictionary&) = delete;
  Dictionary& operator=(const Dictionary&) = delete;
  ~Dictionary() { av_dict_free(&entries); }
};

void check_regular_file(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  const std::string name = path.string();
  if (!fs::exists(status)) {
    if (std::regex_search(name, std::regex("^[A-Za-z][A-Za-z0-9+.-]*://"))) {
      throw InputMediaError(name + ": is a URL; only local files are read: download it and give the file");
    }
    throw InputMediaError(name +
                          ": cannot be read: " + (error ? error.message() : std::string("No such file or directory")));
  }
  if (fs::is_directory(status)) throw InputMediaError(name + ": is a folder; expected an image or a video file");
  if (!fs::is_regular_file(status)) {
    throw InputMediaError(name + ": is not a regular file; expected an image or a video file");
  }
  if (fs::file_size(path, error) == 0 && !error) throw InputMediaError(name + ": the file is empty");
}

InputFormatPtr open_format(AVIOContext* io, const fs::path& path) {
  Dictionary options;
  av_dict_set(&options.entries, "protocol_whitelist", "file", 0);
  AVFormatContext* format = not_null(avformat_alloc_context());
  format->pb = io;
  const int opened = avformat_open_input(&format, nullptr, nullptr, &options.entries);  // frees it on failure
  check_input(opened, path, "be read as an image or a video");
  return InputFormatPtr(format);
}

void find_stream_info(AVFormatContext& format, const fs::path& path) {
  // To learn its parameters FFmpeg may decode a frame: not an enormous one.
  std::vector<AVDictionary*> options(format.nb_streams);
  for (AVDictionary*& each : options) {
    av_dict_set_int(&each, "max_pixels", int64_t{kMaxInputEdge} * kMaxInputEdge, 0);
  }
  const int found = avformat_find_stream_info(&format, options.empty() ? nullptr : options.data());
  for (AVDictionary*& each : options) av_dict_free(&each);
  check_input(found, path, "be read as an image or a video");
}

}  // namespace

Input open_input(const fs::path& path) {
  init_logging();
  check_regular_file(path);
  // We open the file and do not tell the name: or FFmpeg would take "%03d" in it for a sequence of images, and believe
  // its extension. What a playlist refers to must be a local file too.
  Dictionary options;
  av_dict_set(&options.entries, "protocol_whitelist", "file", 0);
  AVIOContext* io = nullptr;
  check_input(avio_open2(&io, file_url(path).c_str(), AVIO_FLAG_READ, nullptr, &options.entries), path, "be read");
  Input input;
  input.io.reset(io);
  input.format = open_format(io, path);
  find_stream_info(*input.format, path);
  return input;
}

int find_video_stream(const Input& input, const fs::path& path) {
  const int index = av_find_best_stream(input.format.get(), AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
  constexpr int kCover = AV_DISPOSITION_ATTACHED_PIC;  // an album's
  if (index < 0 || (input.format->streams[index]->disposition & kCover) != 0) {
    throw InputMediaError(
        fmt::format("{}: holds no image or video (its format is {})", path.string(), input.format->iformat->long_name));
  }
  return index;
}

double frame_rate(const Input& input, int stream_index) {
  const AVRational rate = av_guess_frame_rate(input.format.get(), input.format->streams[stream_index], nullptr);
  return rate.den > 0 ? std::max(0.0, av_q2d(rate)) : 0.0;
}

}  // namespace opensora::media
