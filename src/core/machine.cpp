#include "core/machine.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

namespace opensora {
namespace {

// Reads a file with lines such as "MemTotal:  24 kB", which is 24576.
std::optional<int64_t> kilobytes_field(const char* file, const std::string& name) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name + ":")) continue;
    int64_t value = 0;
    if (std::istringstream(line.substr(name.size() + 1)) >> value) return value * 1024;
  }
  return std::nullopt;
}

std::optional<int64_t> number_in(const std::string& file) {
  std::ifstream stream(file);
  int64_t value = 0;
  if (stream >> value) return value;
  return std::nullopt;  // missing, or "max"
}

// The driver's own library, libcuda.so.1, by the functions that are of use here.
class DriverLibrary {
 public:
  DriverLibrary() : library_(dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL)) {}

  bool is_there() const { return library_ != nullptr; }

  // Calls a function of the driver's. False if it has none of that name, or reports an error.
  template <typename... Arguments>
  bool call(const char* name, Arguments... arguments) const {
    return result_of(name, arguments...) == 0;
  }

  // The driver's number of an error, 0 for success, -1 where there is no such function.
  template <typename... Arguments>
  int result_of(const char* name, Arguments... arguments) const {
    const auto function = reinterpret_cast<int (*)(Arguments...)>(dlsym(library_, name));
    return function == nullptr ? -1 : function(arguments...);
  }

 private:
  void* library_;
};

GpuInfo ask_for_gpu(const DriverLibrary& driver, int index) {
  constexpr int kMajor = 75, kMinor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…
  GpuInfo gpu;
  int device = 0, major = 0, minor = 0;
  char name[256] = "";
  size_t bytes = 0;
  if (!driver.call("cuDeviceGet", &device, index)) return gpu;
  if (driver.call("cuDeviceGetName", static_cast<char*>(name), int{sizeof name}, device)) gpu.name = name;
  if (driver.call("cuDeviceTotalMem_v2", &bytes, device)) gpu.memory_bytes = static_cast<int64_t>(bytes);
  const bool tells = driver.call("cuDeviceGetAttribute", &major, int{kMajor}, device) &&
                     driver.call("cuDeviceGetAttribute", &minor, int{kMinor}, device);
  if (tells) gpu.capability = 10 * major + minor;
  return gpu;
}

NvidiaDriver ask_driver() {
  constexpr int kNoDevice = 100;  // CUDA_ERROR_NO_DEVICE
  NvidiaDriver found;
  const DriverLibrary driver;
  if (!driver.is_there()) return found;
  const int error = driver.result_of("cuInit", 0U);
  if (error == kNoDevice) return found;
  if (error != 0) {
    const char* name = nullptr;
    const bool has_name = driver.call("cuGetErrorName", error, &name) && name != nullptr;
    found.problem = "cuInit: " + (has_name ? std::string(name) : "error " + std::to_string(error));
    return found;
  }
  driver.call("cuDriverGetVersion", &found.cuda_version);
  int count = 0;
  driver.call("cuDeviceGetCount", &count);
  for (int i = 0; i < count; ++i) found.gpus.push_back(ask_for_gpu(driver, i));
  return found;
}

}  // namespace

MemoryInfo memory_info() {
  MemoryInfo info{kilobytes_field("/proc/meminfo", "MemTotal"), kilobytes_field("/proc/meminfo", "MemAvailable"), {}};
  // The control group, as a container sees its own: that of version 2 or, without a limit there, of version 1.
  const std::string v2 = "/sys/fs/cgroup/", v1 = v2 + "memory/";
  std::optional<int64_t> limit = number_in(v2 + "memory.max"), used = number_in(v2 + "memory.current");
  if (!limit) {
    limit = number_in(v1 + "memory.limit_in_bytes");
    used = number_in(v1 + "memory.usage_in_bytes");
  }
  constexpr int64_t kNoLimit = int64_t{1} << 60;  // version 1 writes a huge number
  if (!limit || *limit >= kNoLimit) return info;
  info.cgroup_limit = limit;
  const int64_t left = std::max<int64_t>(0, *limit - used.value_or(0));
  info.available = std::min(info.available.value_or(left), left);
  return info;
}

int64_t resident_bytes() { return kilobytes_field("/proc/self/status", "VmRSS").value_or(0); }

int64_t anonymous_bytes() { return kilobytes_field("/proc/self/status", "RssAnon").value_or(0); }

bool address_space_was_full() {
  constexpr uint64_t kNearly = 64 << 10;  // KiB
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return false;
  char text[1024];
  const int file = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  const ssize_t length = ::read(file, text, sizeof text - 1);
  ::close(file);
  if (length <= 0) return false;
  text[length] = '\0';
  const char* at = std::strstr(text, "VmPeak:");
  if (at == nullptr) return false;
  uint64_t peak = 0;  // KiB
  for (at += std::strlen("VmPeak:"); *at == ' ' || *at == '\t'; ++at) {
  }
  for (; *at >= '0' && *at <= '9'; ++at) peak = 10 * peak + static_cast<uint64_t>(*at - '0');
  return peak + kNearly >= limit.rlim_cur / 1024;
}

CpuInfo cpu_info() {
  CpuInfo info;
  std::ifstream lines("/proc/cpuinfo");
  for (std::string line; std::getline(lines, line) && !line.empty();) {  // only the first processor's block
    const size_t colon = line.find(':');
    if (colon == std::string::npos || colon + 2 > line.size()) continue;
    const std::string value = line.substr(colon + 2);
    if (line.starts_with("model name")) info.model = value;
    if (line.starts_with("flags") || line.starts_with("Features")) {
      std::istringstream words(value);
      for (std::string word; words >> word;) info.flags.push_back(word);
    }
  }
  cpu_set_t set;
  info.cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                           : static_cast<int>(std::thread::hardware_concurrency());
  return info;
}

const NvidiaDriver& nvidia_driver() {
  static const NvidiaDriver driver = ask_driver();
  return driver;
}

const std::vector<GpuInfo>& nvidia_gpus() { return nvidia_driver().gpus; }

std::string nvidia_driver_cuda_version() {
  const int version = nvidia_driver().cuda_version;
  return version == 0 ? "" : cuda_version_text(version);
}

std::string cuda_version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace opensora
