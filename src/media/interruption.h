// Lets the reading of a file be stopped from outside.
#pragma once

#include <exception>
#include <functional>
#include <utility>

namespace opensora::media {

// Called often while a file is read, for each packet and each piece of the file; what it throws ends the reading.
using PollCallback = std::function<void()>;

// A PollCallback that FFmpeg can call, through which nothing may be thrown. FFmpeg keeps its address.
class Interruption {
 public:
  explicit Interruption(PollCallback poll) : poll_(std::move(poll)) {}
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  // For AVIOInterruptCB: 1 to stop what FFmpeg does.
  static int should_stop(void* interruption) noexcept;

  // Between FFmpeg's calls: throws what the callback throws, now or when FFmpeg called it.
  void check();

 private:
  PollCallback poll_;
  std::exception_ptr thrown_;
};

}  // namespace opensora::media
