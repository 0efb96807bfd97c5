#include "pipeline/stage.h"

#include <c10/util/Exception.h>

#include <new>
#include <regex>

#include "core/byte_size.h"
#include "core/device.h"
#include "io/mapping_registry.h"
#include "opensora/error.h"

namespace opensora::pipeline {
namespace {

std::string flags_that_help(const std::string& stage) {
  if (stage == "decode") return "--vae-tiling, a smaller size, fewer frames or --dtype bf16";
  if (stage == "text") return "--dtype bf16, or --device cpu";
  const char* offload = stage == "denoise" || stage == "image" ? "--offload block, " : "";
  return std::string(offload) + "a smaller size, fewer frames, --dtype bf16, or --device cpu";
}

// LibTorch's CPU allocator throws a plain c10::Error; its text is the only mark.
bool is_out_of_memory(const std::string& what) {
  return what.find("DefaultCPUAllocator") != std::string::npos || what.find("out of memory") != std::string::npos;
}

// "… ried to allocate 187444224 bytes. …" -> ": 179 MiB more were wanted"; a GPU's allocator says "2.00 GiB" itself.
std::string wanted_memory(const std::string& what) {
  std::smatch match;
  if (!std::regex_search(what, match, std::regex("ried to allocate ([0-9.]+) (\\w+)"))) return {};
  const std::string amount =
      match[2] == "bytes" ? format_bytes(std::stoll(match[1])) : match[1].str() + " " + match[2].str();
  return ": " + amount + " more were wanted";
}

[[noreturn]] void throw_out_of_memory(const std::string& stage, const std::string& what) {
  throw OutOfMemoryError("out of memory in the stage \"" + stage + "\"" + wanted_memory(what) + "; peak so far " +
                         format_bytes(peak_resident_bytes()) + " resident; try " + flags_that_help(stage));
}

}  // namespace

void rethrow_with_stage(const std::string& stage) {
  try {
    throw;
  } catch (const OutOfMemoryError& error) {  // the budget's
    throw OutOfMemoryError(std::string(error.what()) + ", in the stage \"" + stage + "\"; give more, or try " +
                           flags_that_help(stage));
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw_out_of_memory(stage, "");
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    if (is_out_of_memory(what)) throw_out_of_memory(stage, what);
    throw Error(ExitCode::kInternal, "stage \"" + stage + "\": " + what.substr(0, what.find('\n')));
  }
}

double StageClock::elapsed() const {
  double sum = 0;
  for (const auto& [stage, seconds] : seconds_) sum += seconds;
  if (running_since_) sum += std::chrono::duration<double>(Clock::now() - *running_since_).count();
  return sum;
}

StageClock::Clock::time_point StageClock::begin(const std::string& name) {
  io::check_mapped_files();
  running_since_ = Clock::now();
  report({name, 0, 0});
  return *running_since_;
}

void StageClock::end(const std::string& name, Clock::time_point start) {
  release_cached_memory(device_);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  running_since_.reset();
  seconds_.emplace_back(name, seconds);
  const int64_t on_device = peak_device_bytes(device_);
  spdlog::info("{}{}: {:.2f} s, peak memory {}{}", label_, name, seconds, format_bytes(peak_resident_bytes()),
               on_device > 0 ? ", on the device " + format_bytes(on_device) : "");
}

}  // namespace opensora::pipeline
