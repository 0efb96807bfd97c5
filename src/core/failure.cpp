#include "core/failure.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <regex>
#include <system_error>

#include "core/machine.h"
#include "core/text.h"
#include "core/units.h"

namespace opensora {
namespace {

// The words of the C library, of FFmpeg and of the dynamic loader.
constexpr std::array<std::string_view, 4> kSystemWords = {
    "annot allocate memory", "failed to map segment", "cannot create shared object descriptor",
    "the address space has no room for it"};  // said of one file among several that were looked at
// Those of LibTorch's allocators, and the status of CUDA's libraries: CUBLAS_STATUS_ALLOC_FAILED,
// CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED, CUDA_ERROR_OUT_OF_MEMORY, NVRTC_ERROR_OUT_OF_MEMORY, …
constexpr std::array<std::string_view, 8> kLibraryWords = {
    "DefaultCPUAllocator", "alloc_cpu.cpp",      "out of memory",       "Out of memory",
    "_ALLOC_FAILED",       "_ALLOCATION_FAILED", "ERROR_OUT_OF_MEMORY", "cudaErrorMemoryAllocation"};
// Of LibTorch's other errors on a GPU.
constexpr std::array<std::string_view, 5> kDeviceWords = {"CUDA error", "CUDA driver error", "CUBLAS_STATUS",
                                                          "cuDNN error", "CUDNN_STATUS"};

// Segments that grow need the driver's virtual memory, which some virtual GPUs lack: then each allocation fails so.
constexpr std::string_view kNoVirtualMemory = "CUDA driver error: operation not supported";
constexpr const char* kWithoutIt =
    "; where the GPU has no virtual memory management, set PYTORCH_ALLOC_CONF=expandable_segments:False";

template <size_t N>
bool holds_any(std::string_view text, const std::array<std::string_view, N>& words) {
  return std::any_of(words.begin(), words.end(),
                     [&](std::string_view word) { return text.find(word) != std::string_view::npos; });
}

// "… ried to allocate 187444224 bytes. …" -> ": 179 MiB more were wanted". A GPU's allocator writes "2.00 GiB" itself.
std::string wanted_memory(const std::string& what) {
  std::smatch match;
  if (!std::regex_search(what, match, std::regex("ried to allocate ([0-9.]{1,18}) (\\w+)"))) return {};
  const std::string amount =
      match[2] == "bytes" ? format_bytes(std::stoll(match[1])) : match[1].str() + " " + match[2].str();
  return ": " + amount + " more were wanted";
}

Failure out_of_memory(const std::string& rest) {
  return {
      .code = static_cast<int>(ExitCode::kOutOfMemory), .message = "out of memory" + rest, .flags = {}, .detail = {}};
}

Failure internal(const std::string& what, const std::string& detail) {
  return {.code = static_cast<int>(ExitCode::kInternal),
          .message = "internal error: " + first_line(what),
          .flags = {},
          .detail = detail};
}

Failure device_failed(const std::string& what, const std::string& detail) {
  const bool lacks_virtual_memory = what.find(kNoVirtualMemory) != std::string::npos;
  return {.code = static_cast<int>(ExitCode::kDevice),
          .message = "the device failed: " + first_line(what) + (lacks_virtual_memory ? kWithoutIt : ""),
          .flags = {},
          .detail = detail};
}

// std::thread reports EAGAIN if the system has no room for its stack or allows no more threads.
bool is_out_of_memory(const std::system_error& error) {
  return error.code() == std::errc::not_enough_memory || error.code() == std::errc::resource_unavailable_try_again;
}

Failure describe(const Error& error) {
  const std::string what = error.what();
  const bool may_be_memory = error.code() != ExitCode::kUsage && error.code() != ExitCode::kPartlyFailed;
  const bool says_so = holds_any(what, kSystemWords);
  if (may_be_memory && says_so && what.starts_with("out of memory")) return out_of_memory(what.substr(13));
  if (may_be_memory && says_so) return out_of_memory(": " + what);
  return {.code = static_cast<int>(error.code()), .message = what, .flags = {}, .detail = {}};
}

}  // namespace

bool says_out_of_memory(std::string_view text) {
  return holds_any(text, kSystemWords) || holds_any(text, kLibraryWords);
}

Failure describe_failure(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const OutOfMemoryError& known) {
    return {.code = static_cast<int>(known.code()), .message = known.what(), .flags = known.flags, .detail = {}};
  } catch (const Error& known) {
    return describe(known);
  } catch (const std::bad_alloc&) {
    return out_of_memory("");
  } catch (const std::system_error& other) {
    return is_out_of_memory(other) ? out_of_memory(std::string(": ") + other.what())
                                   : internal(other.what(), other.what());
  } catch (const c10::Error& other) {
    const std::string what = other.what_without_backtrace();
    if (says_out_of_memory(what)) return out_of_memory(wanted_memory(what));
    if (address_space_was_full()) return out_of_memory(": " + first_line(what));
    return holds_any(what, kDeviceWords) ? device_failed(what, other.what()) : internal(what, other.what());
  } catch (const std::exception& other) {
    const std::string what = other.what();
    const bool lacks = says_out_of_memory(what) || address_space_was_full();
    return lacks ? out_of_memory(": " + first_line(what)) : internal(what, what);
  } catch (...) {
    return internal("an exception of no known kind", "");
  }
}

}  // namespace opensora
