#include "core/device.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>

#include "core/cpu_features.h"
#include "core/cuda_plugin.h"
#include "core/failure.h"
#include "core/text.h"
#include "opensora/error.h"

namespace opensora {
namespace {

// The folder that libtorch_cpu.so was loaded from: libtorch_cuda.so lies beside it.
std::filesystem::path libtorch_dir() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&at::globalContext), &info) == 0 || info.dli_fname == nullptr) return {};
  return std::filesystem::path(info.dli_fname).parent_path();
}

// Opens LibTorch's CUDA half once. Returns dlerror's text if that fails, otherwise an empty string.
std::string open_libtorch_cuda() {
  static const std::string error = [] {
    const std::filesystem::path library = libtorch_dir() / "libtorch_cuda.so";
    if (dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr) {
      settle_cuda();
      load_cuda_plugin();
      return std::string();
    }
    const char* text = dlerror();
    return std::string(text != nullptr ? text : "unknown error");
  }();
  return error;
}

// LibTorch's allocator has no figures before the first tensor on a device.
bool has_memory_figures(at::Device device) {
  return !device.is_cpu() && c10::getDeviceAllocator(device.type())->initialized();
}

// LibTorch has a place for one backend that it does not know. Only its first device is asked for.
bool is_registered_backend(const std::string& name) {
  if (!c10::is_privateuse1_backend_registered()) return false;
  const std::string backend = c10::get_privateuse1_backend();
  return name == backend || name == backend + ":0";
}

int cuda_index(const std::string& name) {
  if (name == "cuda") return 0;
  const std::string digits = name.substr(5);
  if (digits.empty() || digits.size() > 3 || digits.find_first_not_of("0123456789") != std::string::npos) {
    throw UsageError("`device`: expected auto, cpu, cuda or cuda:N, found \"" + name + "\"");
  }
  return std::stoi(digits);
}

// Each text once in a process: a batch resolves its device for each video.
void warn_once(const std::string& text) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (said.insert(text).second) spdlog::warn("{}", text);
}

at::Device cuda_device(int index) {
  const std::string problem = gpu_problem(index);
  if (!problem.empty()) throw DeviceError(fmt::format("`device` cuda:{}: {}", index, problem));
  const std::string warning = gpu_warning(nvidia_gpus()[index], index);
  if (!warning.empty()) warn_once(warning);
  return {at::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

at::Device automatic_device() {
  if (nvidia_gpus().empty() && nvidia_driver().problem.empty()) return at::kCPU;
  try {
    return cuda_device(0);
  } catch (const DeviceError& error) {
    warn_once(fmt::format("a GPU is present but cannot be used, so the CPU is: {}", error.what()));
    return at::kCPU;
  }
}

std::string capability_text(int capability) { return fmt::format("{}.{}", capability / 10, capability % 10); }

// Of LibTorch's official builds for CUDA 13: what they ask of the driver, and the oldest GPUs that they have kernels
// for.
constexpr int kLeastCuda = 13000, kLeastCapability = 75;  // 13.0; Turing
constexpr int kAmpere = 80;

}  // namespace

at::Device find_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  if (name == "auto") return automatic_device();
  if (name == "cuda" || name.starts_with("cuda:")) return cuda_device(cuda_index(name));
  if (is_registered_backend(name)) return {at::kPrivateUse1, 0};
  throw UsageError("`device`: expected auto, cpu, cuda or cuda:N, found \"" + name + "\"");
}

at::Device resolve_device(const std::string& name) {
  const at::Device device = find_device(name);
  make_current(device);
  return device;
}

std::string driver_problem(const NvidiaDriver& driver, int index) {
  if (!driver.problem.empty()) {
    return "the NVIDIA driver does not start (" + driver.problem + "): see what nvidia-smi says, or use `device` cpu";
  }
  const auto count = static_cast<int>(driver.gpus.size());
  if (count == 0) return "no NVIDIA driver with a GPU was found; use `device` cpu";
  if (index >= count) return fmt::format("there are {} GPU(s), numbered from 0", count);
  if (driver.cuda_version < kLeastCuda) {
    return fmt::format("the NVIDIA driver serves CUDA {}, and LibTorch needs {}: update it, or use `device` cpu",
                       cuda_version_text(driver.cuda_version), cuda_version_text(kLeastCuda));
  }
  const GpuInfo& gpu = driver.gpus[index];
  if (gpu.capability == 0 || gpu.capability >= kLeastCapability) return {};
  return fmt::format("{} is of compute capability {}, and LibTorch has kernels from {} (Turing) on; use `device` cpu",
                     gpu.name, capability_text(gpu.capability), capability_text(kLeastCapability));
}

std::string gpu_problem(int index) {
  std::string problem = driver_problem(nvidia_driver(), index);
  if (!problem.empty()) return problem;
  const std::string error = open_libtorch_cuda();
  if (says_out_of_memory(error)) throw OutOfMemoryError("out of memory: LibTorch's CUDA libraries: " + error);
  if (!error.empty()) {
    return "LibTorch's CUDA libraries cannot be opened (" + error + "); run scripts/setup.sh --cuda";
  }
  const int usable = at::detail::getCUDAHooks().deviceCount();
  if (index < usable) return {};
  return fmt::format("the NVIDIA driver reports {} GPU(s), but LibTorch can use {}: see what nvidia-smi says",
                     nvidia_gpus().size(), usable);
}

std::string gpu_warning(const GpuInfo& gpu, int index) {
  if (gpu.capability < kLeastCapability || gpu.capability >= kAmpere) return {};
  return fmt::format(
      "cuda:{} ({}, compute capability {}) has neither bfloat16 nor LibTorch's flash attention: its default `dtype` is "
      "fp16, and it is slower than its figures",
      index, gpu.name, capability_text(gpu.capability));
}

const GpuInfo* gpu_of(at::Device device) {
  const size_t index = device.has_index() ? device.index() : 0;
  return device.is_cuda() && index < nvidia_gpus().size() ? &nvidia_gpus()[index] : nullptr;
}

bool has_bfloat16(at::Device device) {
  const GpuInfo* gpu = gpu_of(device);
  return gpu == nullptr || gpu->capability == 0 || gpu->capability >= kAmpere;
}

std::string launch_problem(at::Device device) {
  constexpr int64_t kCount = 1000;
  try {
    make_current(device);
    const auto sum = at::arange(kCount, at::TensorOptions(device)).sum().item<int64_t>();
    return sum == kCount * (kCount - 1) / 2 ? "" : fmt::format("a sum came out as {}", sum);
  } catch (const c10::Error& error) {
    return first_line(error.what_without_backtrace());
  }
}

at::ScalarType resolve_dtype(const std::string& name, at::Device device) {
  if (name == "fp32") return at::kFloat;
  if (name == "bf16") return at::kBFloat16;
  if (name == "fp16") return at::kHalf;
  if (!name.empty()) throw UsageError("`dtype`: expected fp32, bf16 or fp16, found \"" + name + "\"");
  if (device.is_cpu()) return default_dtype(cpu_features());
  return has_bfloat16(device) ? at::kBFloat16 : at::kHalf;
}

std::string dtype_name(at::ScalarType dtype) {
  return dtype == at::kFloat ? "fp32" : dtype == at::kBFloat16 ? "bf16" : dtype == at::kHalf ? "fp16" : toString(dtype);
}

int nvidia_gpu_count() { return static_cast<int>(nvidia_gpus().size()); }

std::string cuda_state() {
  const int count = nvidia_gpu_count();
  std::string state = "no NVIDIA GPU found";
  if (count > 0 || !nvidia_driver().problem.empty()) {
    const std::string problem = gpu_problem(0);
    state = problem.empty() ? "libraries loaded" : "cannot be used: " + problem;
    if (count > 0) state = fmt::format("{} GPU(s) found, {}", count, state);
  }
  return state + "; plug-in: " + cuda_plugin_state();
}

std::vector<CudaLibrary> cuda_libraries() {
  const std::filesystem::path folder = libtorch_dir();
  const std::filesystem::path nvidia = folder.parent_path().parent_path() / "nvidia/cu13/lib";
  const std::filesystem::path cudnn = folder.parent_path().parent_path() / "nvidia/cudnn/lib";
  std::vector<CudaLibrary> libraries;
  for (const char* name : {"libtorch_cuda.so", "libcudart.so.13", "libcublas.so.13", "libcudnn.so.9"}) {
    CudaLibrary library{name, {}, "not in " + folder.string() + " or the nvidia folder beside it"};
    std::error_code unreadable;
    for (const auto& place : {folder, nvidia, cudnn}) {
      if (library.path.empty() && std::filesystem::exists(place / name, unreadable)) library.path = place / name;
    }
    libraries.push_back(std::move(library));
  }
  const std::string error = libraries.front().path.empty() ? "" : open_libtorch_cuda();
  if (!error.empty()) libraries.front() = {libraries.front().name, {}, "cannot be opened: " + error};
  return libraries;
}

void settle_cuda() {
  namespace allocator = c10::CachingAllocator;
  const std::string settings = allocator::getAllocatorSettings();
  if (settings.find("expandable_segments") == std::string::npos) {
    allocator::setAllocatorSettings(settings + (settings.empty() ? "" : ",") + "expandable_segments:True");
  }
  at::Context& context = at::globalContext();
  context.setBenchmarkCuDNN(false);
  // Not setFloat32Precision(): LibTorch throws if a setting made by its new name is read by its old one.
  context.setAllowTF32CuDNN(false);
  context.setAllowTF32CuBLAS(false);
}

void make_current(at::Device device) {
  if (device.is_cpu() || device.is_meta() || at::accelerator::getDeviceIndex() == device.index()) return;
  at::accelerator::setDeviceIndex(device.index());
}

void release_cached_memory(at::Device device) {
  if (!device.is_cpu()) at::accelerator::emptyCache();
}

int64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

int64_t peak_device_bytes(at::Device device) {
  if (!has_memory_figures(device)) return 0;
  constexpr size_t kAggregate = 0;
  return at::accelerator::getDeviceStats(device.index()).allocated_bytes[kAggregate].peak;
}

DeviceMemory device_memory(at::Device device) {
  DeviceMemory memory{.free = static_cast<int64_t>(at::accelerator::getMemoryInfo(device.index()).first)};
  if (!has_memory_figures(device)) return memory;
  constexpr size_t kAggregate = 0;
  const auto stats = at::accelerator::getDeviceStats(device.index());
  memory.allocated = stats.allocated_bytes[kAggregate].current;
  memory.cached = stats.reserved_bytes[kAggregate].current - memory.allocated;
  return memory;
}

void reset_peak_bytes(at::Device device) {
  std::ofstream("/proc/self/clear_refs") << "5";  // proc(5): resets the peak resident set size and nothing else
  if (has_memory_figures(device)) at::accelerator::resetPeakStats(device.index());
}

void synchronize(at::Device device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
}

namespace {

bool has_streams(at::Device device) { return !device.is_cpu() && !device.is_meta(); }

}  // namespace

std::optional<c10::Stream> second_stream(at::Device device) {
  if (!has_streams(device)) return std::nullopt;
  return c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

DeviceEvent::DeviceEvent(at::Device device) {
  if (!has_streams(device)) return;
  device_ = device;
  event_.emplace(device.type());
}

c10::Stream DeviceEvent::current() const { return c10::impl::VirtualGuardImpl(device_->type()).getStream(*device_); }

void DeviceEvent::record(const std::optional<c10::Stream>& stream) {
  if (event_) event_->record(*stream);
}
void DeviceEvent::record_current() {
  if (event_) event_->record(current());
}
void DeviceEvent::block(const std::optional<c10::Stream>& stream) const {
  if (event_) event_->block(*stream);
}
void DeviceEvent::block_current() const {
  if (event_) event_->block(current());
}
void DeviceEvent::wait() const {
  if (event_) event_->synchronize();
}

StagingRing::StagingRing(at::Device device, int64_t bytes) {
  constexpr size_t kBuffers = 3;  // one is being filled, one is being read, and one lies in between
  if (bytes == 0) return;
  buffers_.resize(kBuffers);
  for (Buffer& buffer : buffers_) {
    buffer.memory = at::empty({bytes}, at::TensorOptions(at::kByte).pinned_memory(has_streams(device)));
    buffer.read = DeviceEvent(device);
  }
}

void StagingRing::copy(const at::Tensor& from, const at::Tensor& to, const std::optional<c10::Stream>& stream) {
  const c10::OptionalStreamGuard guard(stream);
  if (buffers_.empty()) {
    to.copy_(from);
    return;
  }
  const at::Tensor source = from.flatten(), target = to.flatten();
  const int64_t width = to.element_size(), piece = buffers_.front().memory.numel() / width;
  for (int64_t begin = 0; begin < source.numel(); begin += piece) {
    const int64_t end = std::min(source.numel(), begin + piece);
    Buffer& buffer = buffers_[next_++ % buffers_.size()];
    buffer.read.wait();  // only this thread, which reads the file, is held up
    const at::Tensor staged = buffer.memory.slice(0, 0, (end - begin) * width).view(to.scalar_type());
    staged.copy_(source.slice(0, begin, end));
    target.slice(0, begin, end).copy_(staged, /*non_blocking=*/true);
    stream ? buffer.read.record(stream) : buffer.read.record_current();
  }
}

StagingRing::~StagingRing() {
  try {
    for (const Buffer& buffer : buffers_) buffer.read.wait();
  } catch (const c10::Error& error) {  // the device has failed, as its next user will learn
    spdlog::debug("staged copies: {}", error.what_without_backtrace());
  }
}

void use_huge_pages(const at::Tensor& tensor) {
  constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
  if (!tensor.is_cpu() || tensor.nbytes() < 2 * kHugePage) return;
  const auto begin = reinterpret_cast<uintptr_t>(tensor.const_data_ptr()), end = begin + tensor.nbytes();
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage, last = end / kHugePage * kHugePage;
  ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

}  // namespace opensora
