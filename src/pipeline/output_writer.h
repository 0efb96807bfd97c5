// Writes a video's frames and what the request wants beside them, on a thread of its own.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/output_file.h"
#include "opensora/generate.h"
#include "pipeline/plan.h"
#include "pipeline/stage.h"

namespace opensora::pipeline {

// Frames are encoded while the next are made. Without finish(), none of the files appears. They appear together, the
// video last: where it is, all is done.
class OutputWriter {
 public:
  // For `count` frames: a video, or a PNG of a single frame.
  OutputWriter(const GenerateRequest& request, const Plan& plan, int64_t count);
  // Waits for the thread; once the process is to stop (opensora/stop.h), not longer than for half a second: a large
  // frame may keep an encoder for minutes. The thread is left alone then, and the process must not outlive that.
  ~OutputWriter();
  OutputWriter(const OutputWriter&) = delete;
  OutputWriter& operator=(const OutputWriter&) = delete;

  // The next frames, uint8 [t, H, W, 3], which must not change any more. Waits while two such are waiting, and looks at
  // `clock` meanwhile. Rethrows what went wrong on the thread: OutputError, OutOfMemoryError.
  void push(const at::Tensor& frames, const StageClock& clock);

  // When all have been pushed: waits for them, completes the files, and those of `more` with them. Returns what is
  // suspicious about the frames (SuspicionDetector). Throws likewise, and what `clock` throws; no file appears then.
  std::string finish(const StageClock& clock, std::vector<StagedFile> more = {});

 private:
  struct State;
  std::shared_ptr<State> state_;
  std::thread thread_;
};

// Decoded `frames` [1, 3, T, H, W] in [-1, 1] all at once. Returns and throws as OutputWriter::finish() does.
std::string write_output(const GenerateRequest& request, const Plan& plan, const at::Tensor& frames,
                         const StageClock& clock, std::vector<StagedFile> more = {});

}  // namespace opensora::pipeline
