#include "pipeline/output_writer.h"

#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>

#include <utility>

#include "core/device_stream.h"
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

OutputWriter::OutputWriter(const GenerateRequest& request, const Plan& plan, int64_t count)
    : request_(request), plan_(plan), count_(count), thread_([this] { work(); }) {}

OutputWriter::~OutputWriter() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void OutputWriter::push(const at::Tensor& frames) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return ended_ || queue_.size() < kWaiting; });
  rethrow();
  queue_.push_back(frames);
  changed_.notify_all();
}

std::string OutputWriter::finish(const StageClock& clock) {
  std::unique_lock lock(mutex_);
  const auto report = [&](int64_t frames) {
    lock.unlock();
    clock.report({"write", frames, count_});
    lock.lock();
  };
  for (int64_t reported = 0; reported < count_ - 1;) {
    changed_.wait(lock, [&] { return ended_ || written_ > reported; });
    if (ended_) break;
    report(reported = written_);
  }
  if (!ended_) report(count_);  // the last chance to stop the run: from here on the file appears
  finishing_ = true;
  changed_.notify_all();
  lock.unlock();
  thread_.join();
  lock.lock();
  rethrow();
  return suspicious_;
}

void OutputWriter::rethrow() {
  if (error_) std::rethrow_exception(error_);
}

void OutputWriter::work() {
  const c10::InferenceMode inference;
  std::exception_ptr error;
  try {
    const DeviceStream own(plan_.device);  // the default one is the sampler's
    const c10::OptionalStreamGuard stream(own.stream());
    write_all();
  } catch (const Cancelled&) {  // nobody is left to be told
  } catch (...) {
    error = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  error_ = error;
  ended_ = true;
  changed_.notify_all();
}

void OutputWriter::write_all() {
  ExtraOutputs extras(request_, count_);
  const auto next = [&](int64_t /*t*/) {
    at::Tensor frame = next_frame();
    extras.add(to_host(frame));
    return frame;
  };
  write_frames(output_file(request_, plan_), count_, next, [&](int64_t written) {
    const std::lock_guard lock(mutex_);
    written_ = written;
    changed_.notify_all();
  });
  if (request_.sidecar) write_sidecar(plan_.output, plan_.metadata, request_.overwrite);
  suspicious_ = extras.finish();
}

std::string write_output(const GenerateRequest& request, const Plan& plan, const at::Tensor& frames,
                         const StageClock& clock) {
  OutputWriter writer(request, plan, frames.size(2));
  RgbFrames rgb({frames.size(2), frames.size(3), frames.size(4)}, "the video",
                [&](const at::Tensor& next) { writer.push(next); });
  rgb.add({frames, 0, 0, 0, {frames.size(2), frames.size(3), frames.size(4)}});
  return writer.finish(clock);
}

at::Tensor OutputWriter::next_frame() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return cancelled_ || (!queue_.empty() && (given_ < count_ - 1 || finishing_)); });
  if (cancelled_) throw Cancelled{};
  ++given_;
  at::Tensor frame = queue_.front()[taken_++];
  if (taken_ == queue_.front().size(0)) {
    taken_ = 0;
    queue_.pop_front();
    changed_.notify_all();
  }
  return frame;
}

}  // namespace opensora::pipeline
