// Writes a video's frames and what the request wants beside them, on a thread of its own.
#pragma once

#include <ATen/ATen.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

#include "opensora/generate.h"
#include "pipeline/plan.h"
#include "pipeline/stage.h"

namespace opensora::pipeline {

// Frames are encoded while the next are made. Without finish(), the plan's output does not appear.
class OutputWriter {
 public:
  // For `count` frames: a video, or a PNG of a single frame. `request` and `plan` must outlive this object.
  OutputWriter(const GenerateRequest& request, const Plan& plan, int64_t count);
  ~OutputWriter();
  OutputWriter(const OutputWriter&) = delete;
  OutputWriter& operator=(const OutputWriter&) = delete;

  // The next frames, uint8 [t, H, W, 3], which must not change any more. Waits while two such are waiting.
  // Rethrows what went wrong on the thread: OutputError.
  void push(const at::Tensor& frames);

  // When all have been pushed: waits for them, completes the files. Returns what is suspicious about the frames
  // (SuspicionDetector). Throws OutputError, and what `clock` throws at a report; no file appears then.
  std::string finish(const StageClock& clock);

 private:
  void work();
  void write_all();
  at::Tensor next_frame();
  void rethrow();  // with mutex_ held

  static constexpr size_t kWaiting = 2;
  const GenerateRequest& request_;
  const Plan& plan_;
  int64_t count_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<at::Tensor> queue_;
  int64_t taken_ = 0;    // frames of the queue's first
  int64_t given_ = 0;    // frames to the thread, in all
  int64_t written_ = 0;  // frames in all
  bool cancelled_ = false, ended_ = false;
  bool finishing_ = false;  // the last frame, and with it the file, waits for this
  std::exception_ptr error_;
  std::string suspicious_;
  std::thread thread_;
};

// Decoded `frames` [1, 3, T, H, W] in [-1, 1] all at once. Returns and throws as OutputWriter::finish() does.
std::string write_output(const GenerateRequest& request, const Plan& plan, const at::Tensor& frames,
                         const StageClock& clock);

}  // namespace opensora::pipeline
