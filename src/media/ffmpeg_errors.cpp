#include "media/ffmpeg_errors.h"

#include <algorithm>
#include <mutex>
#include <string_view>

#include "media/ffmpeg_functions.h"

namespace opensora::media {
namespace {

// FFmpeg has one callback for all that it does, so what listens to it is known to the whole process.
struct Listeners {
  std::mutex mutex;
  std::vector<FfmpegErrors*> all;
};

Listeners& listeners() {
  static Listeners instance;
  return instance;
}

const void* owner_of(void* source) {
  const AVClass* type = *static_cast<const AVClass* const*>(source);
  const bool is_codec = type != nullptr && std::string_view(type->class_name) == "AVCodecContext";
  return is_codec ? static_cast<const AVCodecContext*>(source)->opaque : source;
}

}  // namespace

FfmpegErrors::FfmpegErrors() {
  const std::lock_guard lock(listeners().mutex);
  listeners().all.push_back(this);
}

FfmpegErrors::~FfmpegErrors() {
  const std::lock_guard lock(listeners().mutex);
  std::erase(listeners().all, this);
}

void FfmpegErrors::watch(const void* source) {
  const std::lock_guard lock(listeners().mutex);
  sources_.push_back(source);
}

std::string FfmpegErrors::first() const {
  const std::lock_guard lock(listeners().mutex);
  return first_;
}

void FfmpegErrors::note(void* source, const std::string& message) {
  if (source == nullptr) return;
  const void* owner = owner_of(source);
  const std::lock_guard lock(listeners().mutex);
  for (FfmpegErrors* listener : listeners().all) {
    const bool concerns =
        std::find(listener->sources_.begin(), listener->sources_.end(), owner) != listener->sources_.end();
    if (concerns && listener->first_.empty()) listener->first_ = message;
  }
}

}  // namespace opensora::media
