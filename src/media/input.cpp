#include "media/input.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/file_kind.h"
#include "core/local_file.h"
#include "media/container_faults.h"
#include "media/ffmpeg_functions.h"
#include "opensora/error.h"
#include "opensora/video.h"

namespace opensora::media {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void throw_wrong_kind(const fs::path& path, const FileKind& kind) {
  const std::string advice = kind.advice.empty() ? "" : fmt::format("; {}", kind.advice);
  throw InputMediaError(fmt::format("{}: is {}; expected an image or a video{}", path.string(), kind.name, advice));
}

// What `open` returns, called with options by which FFmpeg reads through this protocol alone.
int open_through(const char* protocol, const std::function<int(AVDictionary** options)>& open) {
  AVDictionary* options = nullptr;
  av_dict_set(&options, "protocol_whitelist", protocol, 0);
  const int result = open(&options);
  av_dict_free(&options);
  return result;
}

// Refuses what FFmpeg would not know, or would take for something else (a text for subtitles).
void check_is_media(const fs::path& path) {
  const std::optional<FileKind> kind = file_kind(path);
  if (kind && kind->group != FileGroup::kPicture && kind->group != FileGroup::kVideo) throw_wrong_kind(path, *kind);
}

// Throws by what FFmpeg returned when it looked at the file.
void check_opened(int result, const Input& input, const fs::path& path) {
  input.interruption->check();
  if (result >= 0) return;
  const std::optional<FileKind> kind = file_kind(path);
  if (kind && kind->group == FileGroup::kPicture) throw_unreadable(path, input.tags, error_text(result));
  if (const std::string fault = container_fault(path); !fault.empty()) {
    throw InputMediaError(path.string() + ": " + fault);
  }
  if (result == AVERROR(EIO) || result == AVERROR_EOF) {  // no disk fails that way: the beginning was recognised
    throw InputMediaError(path.string() + ": incomplete: it was cut off before its first frame; copy it again");
  }
  if (kind) throw_unreadable(path, input.tags, error_text(result));
  check_input(result, path, "be read as an image or a video");
}

void open_format(Input& input, const fs::path& path) {
  AVFormatContext* format = not_null(avformat_alloc_context());
  format->pb = input.io.get();
  format->interrupt_callback = {Interruption::should_stop, input.interruption.get()};
  const std::string& name = input.heif ? input.heif->format : input.tags.format;
  const AVInputFormat* kind = name.empty() ? nullptr : av_find_input_format(name.c_str());  // null: as FFmpeg sees it
  const int opened = open_through("file", [&](AVDictionary** options) {
    return avformat_open_input(&format, nullptr, kind, options);  // frees the format on failure
  });
  check_opened(opened, input, path);
  input.format.reset(format);
}

void find_stream_info(const Input& input, const fs::path& path) {
  AVFormatContext& format = *input.format;
  // To learn a stream's parameters FFmpeg may decode a frame, which must not be an enormous one.
  std::vector<AVDictionary*> options(format.nb_streams);
  for (AVDictionary*& each : options) {
    av_dict_set_int(&each, "max_pixels", kMaxEdge * kMaxEdge, 0);
  }
  const int found = avformat_find_stream_info(&format, options.empty() ? nullptr : options.data());
  for (AVDictionary*& each : options) av_dict_free(&each);
  check_opened(found, input, path);
}

[[noreturn]] void throw_no_video(const Input& input, const fs::path& path) {
  const AVFormatContext& format = *input.format;
  if (const auto kind = file_kind(path); kind && kind->group == FileGroup::kPicture) {
    throw_unreadable(path, input.tags, fmt::format("it takes it for {}", format.iformat->long_name));
  }
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

// A Windows icon holds itself in several sizes.
int largest_stream(const AVFormatContext& format) {
  const auto pixels = [](const AVStream* stream) {
    return int64_t{stream->codecpar->width} * stream->codecpar->height;
  };
  AVStream** end = format.streams + format.nb_streams;
  return static_cast<int>(
      std::max_element(format.streams, end,
                       [&](const AVStream* a, const AVStream* b) { return pixels(a) < pixels(b); }) -
      format.streams);
}

// The stream that FFmpeg finds best, unless it is an album's cover.
int best_video_stream(AVFormatContext& format) {
  if (std::string_view(format.iformat->name) == "ico" && format.nb_streams > 0) return largest_stream(format);
  const int best = av_find_best_stream(&format, AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
  const auto is_cover = [&](int i) { return (format.streams[i]->disposition & AV_DISPOSITION_ATTACHED_PIC) != 0; };
  if (best < 0 || !is_cover(best)) return best;
  for (int i = 0; i < static_cast<int>(format.nb_streams); ++i) {
    if (format.streams[i]->codecpar->codec_type == AVMEDIA_TYPE_VIDEO && !is_cover(i)) return i;
  }
  return -1;
}

// FFmpeg before 7.0 does not open HEIC, and none turns what is stored on its side: we take the picture out of its
// boxes.
bool take_heif(const fs::path& path, Input& input) {
  const std::optional<FileKind> kind = file_kind(path);
  if (kind && kind->group == FileGroup::kPicture) input.heif = read_heif(bytes_of_file(path));
  if (!input.heif) return false;
  input.tags.orientation = input.heif->orientation;
  input.tags.icc = input.heif->icc;
  if (const auto& colours = input.heif->colours; colours && input.tags.icc.empty()) {
    input.tags.colours = cicp_colours(colours->primaries, colours->transfer);
  }
  return true;
}

// Moves the picture's stream into a URL that FFmpeg reads.
std::string take_stream(HeifPicture& heif) {
  constexpr std::string_view kStart = "data:application/octet-stream;base64,";
  const std::string stream = std::exchange(heif.stream, {});
  std::string url(kStart);
  url.resize(kStart.size() + (stream.size() + 2) / 3 * 4 + 1);
  not_null(av_base64_encode(url.data() + kStart.size(), static_cast<int>(url.size() - kStart.size()),
                            reinterpret_cast<const uint8_t*>(stream.data()), static_cast<int>(stream.size())));
  return url;
}

}  // namespace

int Interruption::should_stop(void* interruption) noexcept {
  auto& self = *static_cast<Interruption*>(interruption);
  try {
    self.check();
    return 0;
  } catch (...) {
    self.thrown_ = std::current_exception();
    return 1;
  }
}

void Interruption::check() {
  if (thrown_) std::rethrow_exception(thrown_);
  if (poll_) poll_();
}

void throw_unreadable(const fs::path& path, const ImageTags& tags, const std::string& error) {
  const std::optional<FileKind> kind = file_kind(path);
  const std::string name(kind ? kind->name : "a file");
  const bool is_video = kind && kind->group == FileGroup::kVideo;
  const std::string_view advice = kind && !kind->advice.empty() ? kind->advice
                                  : is_video                    ? "repair it, or encode it again as H.264"
                                                                : "convert it to PNG or JPEG";
  if (tags.is_damaged) {
    throw InputMediaError(
        fmt::format("{}: is {} that is damaged or truncated: {}", path.string(), name, tags.unreadable));
  }
  const std::string why = tags.unreadable.empty() ? fmt::format("{} that is damaged, or", name) : name;
  throw InputMediaError(fmt::format("{}: is {} of a kind that FFmpeg {} cannot read ({}); {}", path.string(), why,
                                    ffmpeg_version(), tags.unreadable.empty() ? error : tags.unreadable, advice));
}

bool is_still_format(const Input& input) {
  return input.heif.has_value() || std::string_view(input.format->iformat->name).ends_with("_pipe");
}

void check_regular_file(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  const std::string name = path.string();
  if (!fs::exists(status)) {
    if (is_remote_url(name)) throw InputMediaError(shorten_url(name) + ": " + remote_url_advice(name));
    throw InputMediaError(name +
                          ": cannot be read: " + (error ? error.message() : std::string("No such file or directory")));
  }
  if (fs::is_directory(status)) throw InputMediaError(name + ": is a folder; expected an image or a video file");
  if (!fs::is_regular_file(status)) {
    throw InputMediaError(name + ": is not a regular file; expected an image or a video file");
  }
  if (fs::file_size(path, error) == 0 && !error) throw InputMediaError(name + ": the file is empty");
}

Input open_input(const fs::path& given, PollCallback poll, bool describe) {
  init_logging();
  const fs::path path = local_file(given.string());
  check_regular_file(path);
  check_is_media(path);
  Input input;
  input.tags = read_image_tags(path);
  const std::string url = take_heif(path, input) ? take_stream(*input.heif) : file_url(path);
  // We open the file ourselves and do not pass its name: FFmpeg would take "%03d" in it for a sequence of images, and
  // trust its extension. What a playlist refers to must be a local file too.
  input.interruption = std::make_unique<Interruption>(std::move(poll));
  const AVIOInterruptCB interrupt = {Interruption::should_stop, input.interruption.get()};
  AVIOContext* io = nullptr;
  const int opened = open_through(input.heif ? "data" : "file", [&](AVDictionary** options) {
    return avio_open2(&io, url.c_str(), AVIO_FLAG_READ, &interrupt, options);
  });
  input.interruption->check();
  check_input(opened, path, "be read");
  input.io.reset(io);
  open_format(input, path);
  // For a still picture this would decode it, which the decoder is going to do anyway.
  if (describe || !is_still_format(input)) find_stream_info(input, path);
  return input;
}

int find_video_stream(const Input& input, const fs::path& path) {
  const int index = best_video_stream(*input.format);
  if (index < 0) throw_no_video(input, path);
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
