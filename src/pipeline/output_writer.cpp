#include "pipeline/output_writer.h"

#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>

#include "core/device_stream.h"
#include "core/patient_wait.h"
#include "opensora/stop.h"
#include "pipeline/extra_outputs.h"
#include "pipeline/frames.h"
#include "pipeline/metadata.h"
#include "pipeline/rgb_frames.h"

namespace opensora::pipeline {
namespace {

struct Cancelled {};

FrameFile output_file(const GenerateRequest& request, const Plan& plan) {
  const PixelSize scaled = request.output_size.value_or(PixelSize{});
  return {.path = plan.output,
          .video = {.output_width = static_cast<int>(scaled.width),
                    .output_height = static_cast<int>(scaled.height),
                    .fps = request.config.fps_save,
                    .codec = request.codec,
                    .pixel_format = request.pix_fmt,
                    .crf = request.crf,
                    .threads = request.threads,
                    .comment = request.metadata ? plan.metadata : ""},
          .overwrite = request.overwrite};
}

}  // namespace

// What the thread works on: its own, for the case that it is left alone.
struct OutputWriter::State {
  State(const GenerateRequest& its_request, const Plan& its_plan, int64_t frames)
      : request(its_request), plan(its_plan), count(frames) {}
  void work();
  void write_all();
  at::Tensor next_frame();
  void rethrow() const {  // with the mutex held
    if (error) std::rethrow_exception(error);
  }

  static constexpr size_t kWaiting = 2;
  GenerateRequest request;
  Plan plan;
  int64_t count;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<at::Tensor> queue;
  int64_t taken = 0;    // frames of the queue's first
  int64_t given = 0;    // frames to the thread, in all
  int64_t written = 0;  // frames in all
  bool cancelled = false, ended = false;
  bool finishing = false;  // the last frame, and with it the file, waits for this
  std::vector<StagedFile> more;
  std::exception_ptr error;
  std::string suspicious;
};

OutputWriter::OutputWriter(const GenerateRequest& request, const Plan& plan, int64_t count)
    : state_(std::make_shared<State>(request, plan, count)), thread_([state = state_] { state->work(); }) {}

OutputWriter::~OutputWriter() {
  if (!thread_.joinable()) return;
  constexpr std::chrono::milliseconds kPatience(500);
  std::unique_lock lock(state_->mutex);
  state_->cancelled = true;
  state_->changed.notify_all();
  const bool ended = state_->changed.wait_for(lock, kPatience, [&] { return state_->ended; });
  lock.unlock();
  if (!ended && stop_signal() != 0) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void OutputWriter::push(const at::Tensor& frames, const StageClock& clock) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  wait_looking(
      state.changed, lock, [&] { return state.ended || state.queue.size() < State::kWaiting; }, [&] { clock.look(); });
  state.rethrow();
  state.queue.push_back(frames);
  state.changed.notify_all();
}

std::string OutputWriter::finish(const StageClock& clock, std::vector<StagedFile> more) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  state.more = std::move(more);
  const auto report = [&](int64_t frames) {
    lock.unlock();
    clock.report({"write", frames, state.count});
    lock.lock();
  };
  for (int64_t reported = 0; reported < state.count - 1;) {
    wait_looking(
        state.changed, lock, [&] { return state.ended || state.written > reported; }, [&] { clock.look(); });
    if (state.ended) break;
    report(reported = state.written);
  }
  if (!state.ended) report(state.count);  // the last chance to stop the run: from here on the files appear
  state.finishing = true;
  state.changed.notify_all();
  lock.unlock();
  thread_.join();
  lock.lock();
  state.rethrow();
  return state.suspicious;
}

void OutputWriter::State::work() {
  const c10::InferenceMode inference;
  std::exception_ptr problem;
  try {
    const DeviceStream own(plan.device);  // the default one is the sampler's
    const c10::OptionalStreamGuard stream(own.stream());
    write_all();
  } catch (const Cancelled&) {  // nobody is left to be told
  } catch (...) {
    problem = std::current_exception();
  }
  const std::lock_guard lock(mutex);
  error = problem;
  ended = true;
  changed.notify_all();
}

void OutputWriter::State::write_all() {
  ExtraOutputs extras(request, count);
  std::optional<OutputFile> sidecar;
  const auto next = [&](int64_t /*t*/) {
    at::Tensor frame = next_frame();
    extras.add(to_host(frame));
    return frame;
  };
  const auto note_written = [&](int64_t frames) {
    const std::lock_guard lock(mutex);
    written = frames;
    changed.notify_all();
  };
  write_frames(output_file(request, plan), count, next, note_written, [&](const StagedFile& video) {
    suspicious = extras.finish();
    std::vector<StagedFile> files = extras.staged();
    if (request.sidecar) {
      sidecar.emplace(sidecar_file(plan.output), request.overwrite);
      write_content(sidecar->staged(), plan.metadata + '\n');
      files.push_back(sidecar->staged());
    }
    files.insert(files.end(), more.begin(), more.end());
    files.push_back(video);
    commit_together(files);
  });
}

at::Tensor OutputWriter::State::next_frame() {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return cancelled || (!queue.empty() && (given < count - 1 || finishing)); });
  if (cancelled) throw Cancelled{};
  ++given;
  at::Tensor frame = queue.front()[taken++];
  if (taken == queue.front().size(0)) {
    taken = 0;
    queue.pop_front();
    changed.notify_all();
  }
  return frame;
}

std::string write_output(const GenerateRequest& request, const Plan& plan, const at::Tensor& frames,
                         const StageClock& clock, std::vector<StagedFile> more) {
  OutputWriter writer(request, plan, frames.size(2));
  RgbFrames rgb({frames.size(2), frames.size(3), frames.size(4)}, "the video",
                [&](const at::Tensor& next) { writer.push(next, clock); });
  rgb.add({frames, 0, 0, 0, {frames.size(2), frames.size(3), frames.size(4)}});
  return writer.finish(clock, std::move(more));
}

}  // namespace opensora::pipeline
