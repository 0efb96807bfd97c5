#include "run/output_writer.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "core/device.h"
#include "core/output_file.h"
#include "core/threads.h"
#include "media/picture.h"
#include "media/png.h"
#include "opensora/error.h"
#include "opensora/generate.h"
#include "opensora/process.h"
#include "run/frames.h"
#include "run/metadata.h"
#include "run/suspicious.h"

namespace opensora::run {
namespace {

namespace fs = std::filesystem;

// "frame-00001.png" is the first.
std::string frame_name(int64_t t) { return fmt::format("frame-{:05}.png", t + 1); }

// The folder is made where it is missing, and frames of an earlier run are not replaced unasked.
void check_frames_folder(const GenerateRequest& request, int64_t frames) {
  const fs::path& folder = request.save_frames;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw OutputError(fmt::format("`save_frames` {}: the folder cannot be made: {}", folder.string(), error.message()));
  }
  for (int64_t t = 0; t < frames; ++t) {
    const fs::path file = folder / frame_name(t);
    if (t == 0 || fs::exists(file, error)) check_output(file, request.overwrite);
  }
}

// The files beside the video. They get their names by commit_together(), or are removed with this object.
class ExtraOutputs {
 public:
  // `request` must outlive this object.
  ExtraOutputs(const GenerateRequest& request, int64_t frames) : request_(request), frames_(frames) {}
  ExtraOutputs(const ExtraOutputs&) = delete;
  ExtraOutputs& operator=(const ExtraOutputs&) = delete;

  // The next frame, uint8 [H, W, 3] on the CPU; with save_frames it is written. Throws OutputError.
  void add(const at::Tensor& rgb);

  // After the last frame: writes the contact sheet. Returns what SuspicionDetector found. Throws OutputError.
  std::string finish();
  // After finish().
  std::vector<StagedFile> staged() const;

 private:
  const GenerateRequest& request_;
  int64_t frames_, next_ = 0;
  std::optional<OutputFolder> saved_;  // the frames as pictures
  std::optional<media::ContactSheet> sheet_;
  std::optional<OutputFile> sheet_file_;
  SuspicionDetector detector_;
};

void ExtraOutputs::add(const at::Tensor& rgb) {
  const int64_t t = next_++;
  const auto* pixels = rgb.const_data_ptr<uint8_t>();
  detector_.add(pixels, rgb.size(1), rgb.size(0));
  if (!request_.save_frames.empty()) {
    if (!saved_) saved_.emplace(request_.save_frames, request_.overwrite);
    const StagedFile& file = saved_->add(frame_name(t));
    write_content(file, encode_picture(file.path, rgb));
  }
  if (request_.contact_sheet.empty()) return;
  if (!sheet_) {
    sheet_.emplace(frames_, media::Size{static_cast<int>(rgb.size(1)), static_cast<int>(rgb.size(0))});
  }
  sheet_->add(t, pixels);
}

std::string ExtraOutputs::finish() {
  if (sheet_) {
    const media::Picture& sheet = sheet_->picture();
    sheet_file_.emplace(request_.contact_sheet, request_.overwrite);
    write_content(sheet_file_->staged(),
                  media::encode_png(request_.contact_sheet, sheet.rgb.data(), sheet.width, sheet.height));
  }
  return detector_.finding();
}

std::vector<StagedFile> ExtraOutputs::staged() const {
  std::vector<StagedFile> files;
  if (saved_) files = saved_->staged();
  if (sheet_file_) files.push_back(sheet_file_->staged());
  return files;
}

FrameFile output_file(const GenerateRequest& request, const std::filesystem::path& output,
                      const std::string& metadata) {
  const PixelSize scaled = request.output_size.value_or(PixelSize{});
  return {.path = output,
          .video = {.output_width = static_cast<int>(scaled.width),
                    .output_height = static_cast<int>(scaled.height),
                    .fps = request.config.fps_save,
                    .codec = request.codec,
                    .pixel_format = request.pix_fmt,
                    .crf = request.crf,
                    .threads = request.threads,
                    .comment = request.metadata ? metadata : ""},
          .overwrite = request.overwrite};
}

}  // namespace

void check_extra_outputs(const GenerateRequest& request, int64_t frames) {
  if (request.preview_every < 0) {
    throw UsageError(fmt::format("`preview_every`: expected 0 (none) or more steps, found {}", request.preview_every));
  }
  if (!request.contact_sheet.empty()) {
    if (request.contact_sheet.extension() != ".png") {
      throw UsageError(fmt::format("`contact_sheet` {}: is written as .png, found \"{}\"",
                                   request.contact_sheet.string(), request.contact_sheet.extension().string()));
    }
    check_output(request.contact_sheet, request.overwrite);
  }
  if (!request.save_frames.empty()) check_frames_folder(request, frames);
}

// What the thread works on. Both share it, as the thread may be left to itself.
struct OutputWriter::State {
  State(const Job& job, int64_t frames)
      : request(job.request), output(job.output), metadata(job.metadata), device(job.device), count(frames) {}
  void work();
  void write_all();
  void let_go_of_frames(const std::optional<c10::Stream>& stream);
  at::Tensor next_frame();
  void rethrow() const {  // with the mutex held
    if (error) std::rethrow_exception(error);
  }

  struct Pushed {
    at::Tensor frames;
    DeviceEvent made;  // in the stream of whoever pushed them
  };

  static constexpr size_t kWaiting = 2;
  GenerateRequest request;
  std::filesystem::path output;
  std::string metadata;
  at::Device device;
  int64_t count;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Pushed> queue;
  at::Tensor reading;   // the frames that the last one was of: the thread's
  int64_t taken = 0;    // frames of the queue's first
  int64_t given = 0;    // frames to the thread, in all
  int64_t written = 0;  // frames in all
  bool cancelled = false, ended = false;
  bool finishing = false;  // the last frame, and with it the file, waits for this
  std::vector<StagedFile> more;
  std::exception_ptr error;
  std::string suspicious;
};

OutputWriter::OutputWriter(const Job& job, int64_t count)
    : state_(std::make_shared<State>(job, count)), thread_([state = state_] { state->work(); }) {}

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
  State::Pushed& pushed = state.queue.emplace_back(State::Pushed{frames, DeviceEvent(frames.device())});
  pushed.made.record_current();
  state.changed.notify_all();
}

std::string OutputWriter::finish(const StageClock& clock, std::vector<StagedFile> more) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  state.more = std::move(more);
  const auto report = [&](int64_t frames) {
    lock.unlock();
    clock.report({"write", frames, state.count});
    clock.look();
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
  const std::optional<c10::Stream> own = second_stream(device);  // the default one is the sampler's
  try {
    const c10::OptionalStreamGuard guard(own);
    write_all();
  } catch (const Cancelled&) {
  } catch (...) {
    problem = std::current_exception();
  }
  let_go_of_frames(own);
  const std::lock_guard lock(mutex);
  error = problem;
  ended = true;
  changed.notify_all();
}

// The stream may still be reading frames if their copy to the host has failed half-way.
void OutputWriter::State::let_go_of_frames(const std::optional<c10::Stream>& stream) {
  try {
    if (stream) stream->synchronize();
  } catch (const c10::Error& failure) {  // the device has failed, as its next user will learn
    spdlog::debug("writing frames: {}", failure.what_without_backtrace());
  }
  reading = at::Tensor();
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
  write_frames(output_file(request, output, metadata), count, next, note_written, [&](const StagedFile& video) {
    suspicious = extras.finish();
    std::vector<StagedFile> files = extras.staged();
    if (request.sidecar) {
      sidecar.emplace(sidecar_file(output), request.overwrite);
      write_content(sidecar->staged(), metadata + '\n');
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
  const Pushed& next = queue.front();
  next.made.block_current();
  reading = next.frames;
  at::Tensor frame = reading[taken++];
  if (taken == next.frames.size(0)) {
    taken = 0;
    queue.pop_front();
    changed.notify_all();
  }
  return frame;
}

std::string write_output(const Job& job, const at::Tensor& frames, const StageClock& clock,
                         std::vector<StagedFile> more) {
  OutputWriter writer(job, frames.size(2));
  RgbFrames rgb(frames.size(2), {frames.size(4), frames.size(3)}, "the video",
                [&](const at::Tensor& next) { writer.push(next, clock); });
  rgb.add({frames, 0, 0, 0, {frames.size(2), frames.size(3), frames.size(4)}});
  return writer.finish(clock, std::move(more));
}

}  // namespace opensora::run
