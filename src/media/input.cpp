#include "media/input.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "media/container_faults.h"
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

// What FFmpeg returned when it looked at the file.
void check_opened(int result, const Input& input, const fs::path& path) {
  input.interruption->check();
  if (result >= 0) return;
  if (const std::string fault = container_fault(path); !fault.empty()) {
    throw InputMediaError(path.string() + ": " + fault);
  }
  if (result == AVERROR(EIO) || result == AVERROR_EOF) {  // no disk fails that way: the beginning was recognised
    throw InputMediaError(path.string() + ": incomplete: it was cut off before its first frame; copy it again");
  }
  check_input(result, path, "be read as an image or a video");
}

void open_format(Input& input, const fs::path& path) {
  Dictionary options;
  av_dict_set(&options.entries, "protocol_whitelist", "file", 0);
  AVFormatContext* format = not_null(avformat_alloc_context());
  format->pb = input.io.get();
  format->interrupt_callback = {Interruption::should_stop, input.interruption.get()};
  check_opened(avformat_open_input(&format, nullptr, nullptr, &options.entries), input, path);  // frees it on failure
  input.format.reset(format);
}

void find_stream_info(const Input& input, const fs::path& path) {
  AVFormatContext& format = *input.format;
  // To learn its parameters FFmpeg may decode a frame: not an enormous one.
  std::vector<AVDictionary*> options(format.nb_streams);
  for (AVDictionary*& each : options) {
    av_dict_set_int(&each, "max_pixels", int64_t{kMaxInputEdge} * kMaxInputEdge, 0);
  }
  const int found = avformat_find_stream_info(&format, options.empty() ? nullptr : options.data());
  for (AVDictionary*& each : options) av_dict_free(&each);
  check_opened(found, input, path);
}

[[noreturn]] void throw_no_video(const AVFormatContext& format, const fs::path& path) {
  bool has_sound = false, has_cover = false;
  for (unsigned i = 0; i < format.nb_streams; ++i) {
    has_sound |= format.streams[i]->codecpar->codec_type == AVMEDIA_TYPE_AUDIO;
    has_cover |= (format.streams[i]->disposition & AV_DISPOSITION_ATTACHED_PIC) != 0;
  }
  if (!has_sound) {
    if (const std::string fault = container_fault(path); !fault.empty()) {
      throw InputMediaError(path.string() + ": " + fault);
    }
  }
  const char* found = has_sound && has_cover ? "only sound and a cover picture"
                      : has_sound            ? "only sound"
                                             : "no stream";
  throw InputMediaError(fmt::format("{}: holds no image or video: it has no video stream, {} (its format is {})",
                                    path.string(), found, format.iformat->long_name));
}

// FFmpeg's best, but no album's cover.
int best_video_stream(AVFormatContext& format) {
  const int best = av_find_best_stream(&format, AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
  const auto is_cover = [&](int i) { return (format.streams[i]->disposition & AV_DISPOSITION_ATTACHED_PIC) != 0; };
  if (best < 0 || !is_cover(best)) return best;
  for (int i = 0; i < static_cast<int>(format.nb_streams); ++i) {
    if (format.streams[i]->codecpar->codec_type == AVMEDIA_TYPE_VIDEO && !is_cover(i)) return i;
  }
  return -1;
}

}  // namespace

Input open_input(const fs::path& path, PollCallback poll) {
  init_logging();
  check_regular_file(path);
  // We open the file and do not tell the name: or FFmpeg would take "%03d" in it for a sequence of images, and believe
  // its extension. What a playlist refers to must be a local file too.
  Dictionary options;
  av_dict_set(&options.entries, "protocol_whitelist", "file", 0);
  Input input;
  input.interruption = std::make_unique<Interruption>(std::move(poll));
  const AVIOInterruptCB interrupt = {Interruption::should_stop, input.interruption.get()};
  AVIOContext* io = nullptr;
  const int opened = avio_open2(&io, file_url(path).c_str(), AVIO_FLAG_READ, &interrupt, &options.entries);
  input.interruption->check();
  check_input(opened, path, "be read");
  input.io.reset(io);
  open_format(input, path);
  find_stream_info(input, path);
  return input;
}

int find_video_stream(const Input& input, const fs::path& path) {
  const int index = best_video_stream(*input.format);
  if (index < 0) throw_no_video(*input.format, path);
  const AVStream& stream = *input.format->streams[index];
  if (is_encrypted(stream.codecpar->codec_tag) ||
      av_stream_get_side_data(&stream, AV_PKT_DATA_ENCRYPTION_INIT_INFO, nullptr) != nullptr) {
    throw_encrypted(path);
  }
  return index;
}

double frame_rate(const Input& input, int stream_index) {
  const AVRational rate = av_guess_frame_rate(input.format.get(), input.format->streams[stream_index], nullptr);
  return rate.den > 0 ? std::max(0.0, av_q2d(rate)) : 0.0;
}

int64_t frame_ticks(const Input& input, int stream_index) {
  constexpr double kMax = 1e15;  // nonsense, but no overflow
  const double ticks = 1 / (frame_rate(input, stream_index) * av_q2d(input.format->streams[stream_index]->time_base));
  return ticks < kMax ? std::llround(ticks) : 0;
}

}  // namespace opensora::media
