// What all users of FFmpeg share: owners for its objects, errors in its own words, and its log.
//
// This header only names FFmpeg's types, so that headers which include it do not pull in the C headers.
#pragma once

#include <filesystem>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

struct AVCodecContext;
struct AVFormatContext;
struct AVFrame;
struct AVIOContext;
struct AVPacket;
struct AVSHA;
struct SwsContext;

namespace opensora::media {

void free_codec_context(AVCodecContext* context);
void free_frame(AVFrame* frame);
void free_io(AVIOContext* io);  // flushes and closes; errors are lost, see close_file()
void free_packet(AVPacket* packet);
void free_hash(AVSHA* hash);
void free_scaler(SwsContext* scaler);
// An AVFormatContext is freed in one way when it reads and in another when it writes.
void free_input(AVFormatContext* format);
void free_output(AVFormatContext* format);  // leaves format->pb alone: an IoPtr owns it

template <auto release>
struct AvDeleter {
  void operator()(auto* object) const { release(object); }
};

using CodecContextPtr = std::unique_ptr<AVCodecContext, AvDeleter<free_codec_context>>;
using FramePtr = std::unique_ptr<AVFrame, AvDeleter<free_frame>>;
using IoPtr = std::unique_ptr<AVIOContext, AvDeleter<free_io>>;
using PacketPtr = std::unique_ptr<AVPacket, AvDeleter<free_packet>>;
using HashPtr = std::unique_ptr<AVSHA, AvDeleter<free_hash>>;
using ScalerPtr = std::unique_ptr<SwsContext, AvDeleter<free_scaler>>;
using InputFormatPtr = std::unique_ptr<AVFormatContext, AvDeleter<free_input>>;
using OutputFormatPtr = std::unique_ptr<AVFormatContext, AvDeleter<free_output>>;

// FFmpeg's own words for an AVERROR code: "No space left on device".
std::string error_text(int error);

// Returns `result`, or throws OutputError "<path>: cannot <action>: <FFmpeg's text>" if it is an AVERROR code.
int check(int result, const std::filesystem::path& path, std::string_view action);

// The same for what is read: InputMediaError "<path>: cannot <action>: <FFmpeg's text>".
int check_input(int result, const std::filesystem::path& path, std::string_view action);

// Returns what an FFmpeg allocator returned; FFmpeg reports exhausted memory as a null pointer.
template <typename T>
T* not_null(T* pointer) {
  if (pointer == nullptr) throw std::bad_alloc();
  return pointer;
}

// `path` as a URL that FFmpeg always takes for a local file, also where its name has a colon in it.
std::string file_url(const std::filesystem::path& path);

// Opens `temporary` for writing, and closes it so that no error of a delayed write is lost. Both throw OutputError,
// which names `path`: the file that the user asked for.
IoPtr open_file(const std::filesystem::path& temporary, const std::filesystem::path& path);
void close_file(IoPtr io, const std::filesystem::path& path);

// "5.1.6-0+deb12u1": the release of the FFmpeg that is loaded.
std::string ffmpeg_version();

// Whether this FFmpeg has an encoder of that name: "libx264", "ffv1", …
bool has_encoder(const char* name);

// Sends what FFmpeg and its codecs log to spdlog (warnings and errors as debug messages: what matters comes back as a
// return code) and never to stderr. Cheap to call again; every user of FFmpeg calls it first.
void init_logging();

// What FFmpeg logs as errors while it reads one file. Its return codes do not tell everything: some codecs paint over
// what is damaged, and some formats take a cut for the end, and only say so in the log, as the program ffmpeg prints
// it. This collects them from all threads.
class FfmpegErrors {
 public:
  FfmpegErrors();
  ~FfmpegErrors();
  FfmpegErrors(const FfmpegErrors&) = delete;
  FfmpegErrors& operator=(const FfmpegErrors&) = delete;

  // `source`: an AVFormatContext, or the `opaque` of an AVCodecContext, which its threads share.
  void watch(const void* source);

  // The first message, without FFmpeg's prefix; empty if there is none.
  std::string first() const;

  // Called by the log's callback with the `source` that FFmpeg gives it.
  static void note(void* source, const std::string& message);

 private:
  std::vector<const void*> sources_;
  std::string first_;
};

}  // namespace opensora::media
