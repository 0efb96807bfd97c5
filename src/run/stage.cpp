#include "run/stage.h"

#include <fmt/format.h>

#include <vector>

#include "core/cpu_features.h"
#include "core/device.h"
#include "core/failure.h"
#include "core/units.h"
#include "io/mapped_file.h"
#include "opensora/error.h"

namespace opensora::run {
namespace {

std::string flags_that_help(const std::string& stage, at::Device device) {
  std::vector<std::string> flags;
  if (stage == "decode") flags.emplace_back("`vae_tiling`");
  if (stage == "denoise" || stage == "image") {
    flags.emplace_back(device.is_cpu() ? "`offload` model (the default)" : "`offload` block");
  }
  if (stage == "text") {
    flags.emplace_back("texts encoded before (`text_embeddings`)");
  } else {
    flags.insert(flags.end(), {"a smaller size", "fewer frames"});
  }
  if (!computes_in_float32(at::kBFloat16, device)) flags.emplace_back("`dtype` bf16");
  if (!device.is_cpu()) flags.emplace_back("`device` cpu");
  const std::string last = flags.size() > 1 ? " or " + flags.back() : "";
  if (flags.size() > 1) flags.pop_back();
  return fmt::format("{}{}", fmt::join(flags, ", "), last);
}

}  // namespace

void rethrow_with_stage(const std::string& stage, at::Device device) {
  const Failure failure = describe_failure(std::current_exception());
  try {
    throw;
  } catch (const OutOfMemoryError&) {  // the budget's
    throw OutOfMemoryError(failure.message + ", in the stage \"" + stage + "\"; give more, or try " +
                           flags_that_help(stage, device));
  } catch (const Error&) {
    throw;
  } catch (const std::exception&) {
    if (failure.code == static_cast<int>(ExitCode::kInternal)) {
      spdlog::debug("{}", failure.detail);
      throw Error(ExitCode::kInternal, "stage \"" + stage + "\": " + failure.message);
    }
    if (failure.code == static_cast<int>(ExitCode::kDevice)) {
      spdlog::debug("{}", failure.detail);
      throw DeviceError("stage \"" + stage + "\": " + failure.message);
    }
    throw OutOfMemoryError(failure.message + ", in the stage \"" + stage + "\"; peak so far " +
                           format_bytes(peak_resident_bytes()) + " resident; try " + flags_that_help(stage, device));
  }
}

double StageClock::elapsed() const {
  double sum = lost_seconds_;
  for (const auto& [stage, seconds] : seconds_) sum += seconds;
  return sum + elapsed_in_stage();
}

double StageClock::elapsed_in_stage() const { return running_since_ ? seconds_since(*running_since_) : 0; }

StageClock::Clock::time_point StageClock::begin(const std::string& name) {
  io::check_mapped_files();
  running_since_ = Clock::now();
  report({name, 0, 0});
  return *running_since_;
}

void StageClock::end(const std::string& name, Clock::time_point start) {
  release_cached_memory(device_);
  const double seconds = seconds_since(start);
  running_since_.reset();
  seconds_.emplace_back(name, seconds);
  const int64_t on_device = peak_device_bytes(device_);
  spdlog::info("{}{}: {:.2f} s, peak memory {}{}", label_, name, seconds, format_bytes(peak_resident_bytes()),
               on_device > 0 ? ", on the device " + format_bytes(on_device) : "");
}

}  // namespace opensora::run
