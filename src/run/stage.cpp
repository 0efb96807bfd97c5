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

// A device's figure stands first, as it is the device that ran out.
std::string peaks_text(at::Device device) {
  const std::string resident = format_bytes(peak_resident_bytes()) + " resident";
  const int64_t on_device = peak_device_bytes(device);
  return on_device > 0 ? format_bytes(on_device) + " on the device, " + resident : resident;
}

}  // namespace

std::string flags_that_help(const std::string& stage, at::Device device) {
  const bool on_cpu = device.is_cpu(), samples = stage == "denoise" || stage == "image";
  const bool only_encodes = stage == "t5" || stage == "clip";  // stages of encode-text
  std::vector<std::string> flags;
  if (stage == "decode") flags.emplace_back("`vae_tiling`");
  if (samples && on_cpu) flags.emplace_back("`offload` model (the default)");
  if ((samples || stage == "text") && !on_cpu) flags.emplace_back("`offload` block");
  if (stage == "text") {
    flags.emplace_back(on_cpu ? "texts encoded before (`text_embeddings`)"
                              : "texts encoded by opensora encode-text with `device` cpu (`text_embeddings`)");
  } else if (!only_encodes) {
    flags.insert(flags.end(), {"a smaller size", "fewer frames"});
  }
  if (!computes_in_float32(at::kBFloat16, device)) flags.emplace_back("`dtype` bf16");
  flags.emplace_back(on_cpu ? "a machine with more memory" : "`device` cpu");
  const std::string last = flags.size() > 1 ? " or " + flags.back() : flags.back();
  flags.pop_back();
  return fmt::format("{}{}", fmt::join(flags, ", "), last);
}

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
    throw OutOfMemoryError(failure.message + ", in the stage \"" + stage + "\"; peak so far " + peaks_text(device) +
                           "; try " + flags_that_help(stage, device));
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
  if (!shares_device_) release_cached_memory(device_);
  const double seconds = seconds_since(start);
  running_since_.reset();
  seconds_.emplace_back(name, seconds);
  const int64_t on_device = peak_device_bytes(device_);
  spdlog::info("{}{}: {:.2f} s, peak memory {}{}", label_, name, seconds, format_bytes(peak_resident_bytes()),
               on_device > 0 ? ", on the device " + format_bytes(on_device) : "");
}

}  // namespace opensora::run
