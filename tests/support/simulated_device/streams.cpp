// Streams and events, and the device's registration with LibTorch.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <string>
#include <utility>

#include "core/device.h"
#include "support/simulated_device/memory.h"
#include "support/simulated_device/simulated_device.h"
#include "support/simulated_device/state.h"

namespace opensora::test::simulated {
namespace {

c10::Stream stream_of(int64_t id) { return c10::Stream(c10::Stream::UNSAFE, device(), id); }

// An event is a clock: what its stream knew to be done, and had done itself, when it was recorded.
Clock& clock_of(void* event) { return *static_cast<Clock*>(event); }

class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return kDeviceType; }
  c10::Device exchangeDevice(c10::Device /*device*/) const override { return device(); }
  c10::Device getDevice() const override { return device(); }
  void setDevice(c10::Device /*device*/) const override {}
  void uncheckedSetDevice(c10::Device /*device*/) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }

  c10::Stream getStream(c10::Device /*device*/) const override { return stream_of(current_stream()); }
  c10::Stream getDefaultStream(c10::Device /*device*/) const override { return stream_of(kDefaultStream); }
  c10::Stream getStreamFromGlobalPool(c10::Device /*device*/, bool /*has_priority*/) const override {
    const std::lock_guard lock(state().mutex);
    return stream_of(stream_from_pool());
  }
  c10::Stream getNewStream(c10::Device device, int /*priority*/) const override {
    return getStreamFromGlobalPool(device, false);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return stream_of(std::exchange(current_stream(), stream.id()));
  }
  bool queryStream(const c10::Stream& stream) const override {
    synchronizeStream(stream);
    return true;
  }
  void synchronizeStream(const c10::Stream& stream) const override {
    const std::lock_guard lock(state().mutex);
    if (is_kept_wait()) host_waits_for(stream_clock(stream.id()));
  }
  void synchronizeDevice(const c10::DeviceIndex /*device*/) const override {
    const std::lock_guard lock(state().mutex);
    Clock all;
    for (const Clock& clock : state().streams) all.join(clock);
    host_waits_for(all);
  }

  void record(void** event, const c10::Stream& stream, const c10::DeviceIndex /*device*/,
              const c10::EventFlag /*flag*/) const override {
    const std::lock_guard lock(state().mutex);
    if (*event == nullptr) *event = new Clock;
    launch(stream.id());
    clock_of(*event) = stream_clock(stream.id());
  }
  void block(void* event, const c10::Stream& stream) const override {
    const std::lock_guard lock(state().mutex);
    if (event != nullptr && is_kept_wait()) stream_clock(stream.id()).join(clock_of(event));
  }
  bool queryEvent(void* event) const override {
    synchronizeEvent(event);
    return true;
  }
  void synchronizeEvent(void* event) const override {
    const std::lock_guard lock(state().mutex);
    if (event != nullptr && is_kept_wait()) host_waits_for(clock_of(event));
  }
  void destroyEvent(void* event, const c10::DeviceIndex /*device*/) const noexcept override {
    delete static_cast<Clock*>(event);
  }
  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
    device_allocator().recordStream(data, stream);
  }
};

class Hooks final : public at::PrivateUse1HooksInterface {
 public:
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex /*device*/) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex /*device*/) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex /*device*/) const override { return 0; }
  at::Device getDeviceFromPtr(void* /*data*/) const override { return device(); }
  // What at::manual_seed() seeds for each device. Operators draw from the CPU's.
  const at::Generator& getDefaultGenerator(c10::DeviceIndex /*device*/) const override {
    static const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>();
    return generator;
  }
  bool isPinnedPtr(const void* data) const override {
    const std::lock_guard lock(state().mutex);
    const Block* block = find_block(data);
    return block != nullptr && block->is_pinned;
  }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator(); }
};

// As CUDA's allocator: a limit that is a part of the device's memory. Where there is a driver, LibTorch's CUDA half may
// come and claim the name of the setting, which must be free then.
void take_memory_fraction() {
  using Config = c10::CachingAllocator::AcceleratorAllocatorConfig;
  static const std::string kName = "per_process_memory_fraction";
  if (nvidia_gpu_count() == 0) Config::getMutableKeys().insert(kName);
  Config::getConfigParserHook() = [former = Config::getConfigParserHook()](const std::string& settings) {
    if (former) former(settings);
    const size_t found = settings.rfind(kName + ':');
    if (found == std::string::npos) return;
    const std::lock_guard lock(state().mutex);
    state().memory_fraction = std::strtod(settings.c_str() + found + kName.size() + 1, nullptr);
  };
}

void register_once() {
  static const bool done = [] {
    static const Guard guard;
    const c10::impl::DeviceGuardImplRegistrar registrar(kDeviceType, &guard);
    c10::SetAllocator(kDeviceType, &device_allocator(), /*priority=*/1);
    at::RegisterPrivateUse1HooksInterface(new Hooks);
    c10::register_privateuse1_backend("sim");
    take_memory_fraction();
    return true;
  }();
  static_cast<void>(done);
}

}  // namespace

at::Device device() { return {kDeviceType, 0}; }

void start(const Options& options) {
  register_once();
  const std::lock_guard lock(state().mutex);
  Guard().synchronizeDevice(0);
  device_allocator().emptyCache();
  device_allocator().resetPeakStats(0);
  state().options = options;
  state().memory_fraction = 1;
  state().counters = {};
  ++state().starts;
  state().races.clear();
  state().race_is_untold = false;
}

Counters counters() {
  const std::lock_guard lock(state().mutex);
  Counters counters = state().counters;
  counters.thread_synchronizations = synchronizations_of_thread();
  return counters;
}

int64_t allocated_bytes() {
  const std::lock_guard lock(state().mutex);
  return state().stats.allocated_bytes[0].current;
}

int64_t peak_allocated_bytes() {
  const std::lock_guard lock(state().mutex);
  return state().stats.allocated_bytes[0].peak;
}

int64_t reserved_bytes() {
  const std::lock_guard lock(state().mutex);
  return state().stats.reserved_bytes[0].current;
}

int64_t pinned_bytes() {
  const std::lock_guard lock(state().mutex);
  return state().pinned_bytes;
}

void ignore_wait(int64_t nth) {
  const std::lock_guard lock(state().mutex);
  state().options.ignored_wait = state().counters.waits + nth;
}

std::vector<std::string> take_races() {
  const std::lock_guard lock(state().mutex);
  return std::exchange(state().races, {});
}

}  // namespace opensora::test::simulated
