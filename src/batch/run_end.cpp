#include "batch/run_end.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "core/failure.h"
#include "opensora/error.h"
#include "pipeline/suspicious.h"

namespace opensora {
namespace batch {

using nlohmann::ordered_json;

int exit_code_of(const BatchResult& result, const BatchOptions& options) {
  const bool is_single = options.output_dir.empty() && result.videos.size() == 1;
  if (is_single && result.videos.front().error) return describe_failure(result.videos.front().error).code;
  return result.exit_code(options.strict);
}

ordered_json RunEnd::fields_of(const BatchResult& result, int exit_code) {
  return {{"videos", result.videos.size()},
          {"done", result.count(BatchState::kDone)},
          {"skipped", result.count(BatchState::kSkipped)},
          {"failed", result.count(BatchState::kFailed)},
          {"not_run", result.count(BatchState::kNotRun)},
          {"seconds", result.seconds},
          {"exit_code", exit_code}};
}

void RunEnd::take_time() const {
  result_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void RunEnd::tell(int exit_code) const {
  take_time();
  try {
    events_.record("run_finished", fields_of(result_, exit_code));
  } catch (...) {
    tell_error(std::current_exception());
    throw;
  }
}

void RunEnd::tell_error(const std::exception_ptr& error) const {
  take_time();
  const Failure failure = describe_failure(error);
  ordered_json fields = fields_of(result_, failure.code);
  fields["error"] = failure.message;
  try {
    events_.record("run_finished", fields);
  } catch (const OutputError& unwritten) {
    spdlog::warn(unwritten.what());
    events_.tell("run_finished", fields);
  }
}

void tell_failed_start(EventSink& sink, const std::exception_ptr& error) {
  const Failure failure = describe_failure(error);
  ordered_json fields = RunEnd::fields_of({}, failure.code);
  fields["error"] = failure.message;
  Events(nullptr, &sink).tell("run_finished", fields);
}

void tell_failed_start(const std::string& target, const std::exception_ptr& error) noexcept {
  if (target.empty()) return;
  try {
    EventSink sink(target);
    tell_failed_start(sink, error);
  } catch (const std::exception& unwritten) {
    spdlog::warn(unwritten.what());
  }
}

}  // namespace batch

int64_t BatchResult::count(BatchState state) const {
  return std::count_if(videos.begin(), videos.end(), [&](const BatchVideo& video) { return video.state == state; });
}

int BatchResult::exit_code(bool strict) const {
  const bool all = count(BatchState::kFailed) == 0 && count(BatchState::kNotRun) == 0;
  if (!all) return static_cast<int>(ExitCode::kPartlyFailed);
  const bool suspicious = std::any_of(videos.begin(), videos.end(),
                                      [](const BatchVideo& video) { return !video.result.suspicious.empty(); });
  return static_cast<int>(strict && suspicious ? ExitCode::kSuspicious : ExitCode::kSuccess);
}

GenerateResult single_result(const BatchResult& result, bool strict) {
  const BatchVideo& video = result.videos.front();
  if (!video.flags.empty()) throw OutOfMemoryError(describe_failure(video.error).message, video.flags);
  if (video.error) std::rethrow_exception(video.error);
  if (strict && !video.result.suspicious.empty()) {
    throw SuspiciousError(pipeline::suspicion_text(video.result.suspicious, video.result.output));
  }
  return video.result;
}

}  // namespace opensora
