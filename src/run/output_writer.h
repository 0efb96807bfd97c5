// Writes a video's frames, and the files that the request wants beside it, on a thread of its own.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/output_file.h"
#include "opensora/generate.h"
#include "run/job.h"
#include "run/stage.h"

namespace opensora::run {

// Checks the paths of these other files before anything is loaded. Throws UsageError, OutputError.
void check_extra_outputs(const GenerateRequest& request, int64_t frames);

// Encodes frames while the next ones are being decoded. All files appear together in finish(), the video last, so that
// a video that is there is complete in every respect. Without finish() none of them appears.
class OutputWriter {
 public:
  // Expects `count` frames: a video, or a PNG for a single frame.
  OutputWriter(const Job& job, int64_t count);
  // Waits for the thread. Once the process is to stop (opensora/process.h), it waits for half a second only, as a large
  // frame may keep an encoder busy for minutes; the thread is then abandoned, and the process must end soon.
  ~OutputWriter();
  OutputWriter(const OutputWriter&) = delete;
  OutputWriter& operator=(const OutputWriter&) = delete;

  // Takes the next frames, uint8 [t, H, W, 3], which must not change any more. Blocks while two pushes are queued, and
  // polls `clock` meanwhile. Rethrows what went wrong on the thread: OutputError, OutOfMemoryError.
  void push(const at::Tensor& frames, const StageClock& clock);

  // Call it when all frames have been pushed. Waits for them, and commits the files together with those of `more`.
  // Returns what is suspicious about the frames (SuspicionDetector). Throws like push(), and what `clock` throws; no
  // file appears then.
  std::string finish(const StageClock& clock, std::vector<StagedFile> more = {});

 private:
  struct State;
  std::shared_ptr<State> state_;
  std::thread thread_;
};

// Writes decoded `frames`, [1, 3, T, H, W] in [-1, 1], all at once. Returns and throws as OutputWriter::finish() does.
std::string write_output(const Job& job, const at::Tensor& frames, const StageClock& clock,
                         std::vector<StagedFile> more = {});

}  // namespace opensora::run
