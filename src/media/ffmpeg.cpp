#include "media/ffmpeg.h"

#include <dlfcn.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdarg>
#include <mutex>
#include <string_view>
#include <utility>

#include "core/failure.h"
#include "core/machine.h"
#include "media/ffmpeg_functions.h"
#include "opensora/error.h"

namespace opensora::media {
namespace {

std::string_view without_newline(std::string_view line) {
  while (line.ends_with('\n')) line.remove_suffix(1);
  return line;
}

// FFmpeg calls this from any thread, and a line may come in pieces; one message for each piece is good enough for
// debugging.
void log_callback(void* source, int level, const char* format, va_list arguments) {
  if (level > AV_LOG_WARNING) return;
  char line[1024];
  int print_prefix = 0;
  va_list again;
  va_copy(again, arguments);
  av_log_format_line2(source, level, format, again, line, sizeof line, &print_prefix);
  va_end(again);
  if (level <= AV_LOG_ERROR) FfmpegErrors::note(source, std::string(without_newline(line)));
  print_prefix = 1;
  av_log_format_line2(source, level, format, arguments, line, sizeof line, &print_prefix);
  const std::string_view text = without_newline(line);
  spdlog::log(level <= AV_LOG_PANIC ? spdlog::level::err : spdlog::level::debug, "FFmpeg: {}", text);
}

// FFmpeg says "generic error in an external library" where zlib or an encoder had no memory: whether it was that shows
// when as much as an encoder of small pictures takes is asked for.
bool lacks_memory(int result) {
  constexpr size_t kBytes = 1 << 20;
  if (result != AVERROR_EXTERNAL) return result == AVERROR(ENOMEM);
  void* memory = av_malloc(kBytes);
  av_free(memory);
  return memory == nullptr || address_space_was_full();
}

void check_memory(int result, const std::filesystem::path& path, std::string_view action) {
  if (!lacks_memory(result)) return;
  throw OutOfMemoryError(fmt::format("out of memory: {}: cannot {}", path.string(), action));
}

// FFmpeg has one callback for all that it does, so what listens to it is known to the whole process.
std::mutex listeners_mutex;
std::vector<FfmpegErrors*> listeners;

const void* owner_of(void* source) {
  const AVClass* type = *static_cast<const AVClass* const*>(source);
  const bool is_codec = type != nullptr && std::string_view(type->class_name) == "AVCodecContext";
  return is_codec ? static_cast<const AVCodecContext*>(source)->opaque : source;
}

}  // namespace

void* ffmpeg_function(const char* library, const char* name) {
  void* opened = dlopen(library, RTLD_NOW | RTLD_LOCAL);  // FFmpeg stays loaded: opening it again only counts
  void* function = opened == nullptr ? nullptr : dlsym(opened, name);
  if (function == nullptr) {
    const char* text = dlerror();
    const std::string error = text != nullptr ? text : name;
    if (says_out_of_memory(error)) throw OutOfMemoryError("out of memory: FFmpeg cannot be loaded: " + error);
    throw OutputError("FFmpeg cannot be used: " + error + "; install its libraries (libavformat, libswscale)");
  }
  return function;
}

void free_codec_context(AVCodecContext* context) { avcodec_free_context(&context); }
void free_frame(AVFrame* frame) { av_frame_free(&frame); }
void free_io(AVIOContext* io) { avio_closep(&io); }
void free_packet(AVPacket* packet) { av_packet_free(&packet); }
void free_hash(AVSHA* hash) { av_free(hash); }
void free_scaler(SwsContext* scaler) { sws_freeContext(scaler); }
void free_input(AVFormatContext* format) { avformat_close_input(&format); }
void free_output(AVFormatContext* format) { avformat_free_context(format); }

std::string error_text(int error) {
  char text[AV_ERROR_MAX_STRING_SIZE];
  av_strerror(error, text, sizeof text);
  return text;
}

int check(int result, const std::filesystem::path& path, std::string_view action) {
  check_memory(result, path, action);
  if (result < 0) {
    throw OutputError(fmt::format("{}: cannot {}: {}", path.string(), action, error_text(result)));
  }
  return result;
}

int check_input(int result, const std::filesystem::path& path, std::string_view action) {
  check_memory(result, path, action);
  if (result < 0) {
    throw InputMediaError(fmt::format("{}: cannot {}: {}", path.string(), action, error_text(result)));
  }
  return result;
}

std::string file_url(const std::filesystem::path& path) { return "file:" + path.string(); }

IoPtr open_file(const std::filesystem::path& temporary, const std::filesystem::path& path) {
  AVIOContext* io = nullptr;
  check(avio_open(&io, file_url(temporary).c_str(), AVIO_FLAG_WRITE), path, "open the file for writing");
  return IoPtr(io);
}

void close_file(IoPtr io, const std::filesystem::path& path) {
  AVIOContext* closing = io.release();
  check(avio_closep(&closing), path, "write");  // this or any earlier write: an AVIOContext remembers its error
}

std::string ffmpeg_version() { return av_version_info(); }

bool has_encoder(const char* name) { return avcodec_find_encoder_by_name(name) != nullptr; }

void init_logging() {
  static std::once_flag once;
  std::call_once(once, [] { av_log_set_callback(log_callback); });
}

FfmpegErrors::FfmpegErrors() {
  const std::lock_guard lock(listeners_mutex);
  listeners.push_back(this);
}

FfmpegErrors::~FfmpegErrors() {
  const std::lock_guard lock(listeners_mutex);
  std::erase(listeners, this);
}

void FfmpegErrors::watch(const void* source) {
  const std::lock_guard lock(listeners_mutex);
  sources_.push_back(source);
}

std::string FfmpegErrors::first() const {
  const std::lock_guard lock(listeners_mutex);
  return first_;
}

void FfmpegErrors::note(void* source, const std::string& message) {
  if (source == nullptr) return;
  const void* owner = owner_of(source);
  const std::lock_guard lock(listeners_mutex);
  for (FfmpegErrors* listener : listeners) {
    const bool concerns =
        std::find(listener->sources_.begin(), listener->sources_.end(), owner) != listener->sources_.end();
    if (concerns && listener->first_.empty()) listener->first_ = message;
  }
}

}  // namespace opensora::media
