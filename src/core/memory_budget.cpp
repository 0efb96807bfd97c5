#include "core/memory_budget.h"

#include <ATen/DeviceAccelerator.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "core/device.h"
#include "core/machine.h"
#include "core/units.h"
#include "opensora/error.h"

namespace opensora {
namespace {

class Account {
 public:
  Account(int64_t limit, int64_t used) : limit_(limit), used_(used) {}

  void take(int64_t bytes) {
    const int64_t used = used_ += bytes;
    if (used > limit_) {
      used_ -= bytes;
      throw OutOfMemoryError(fmt::format("`max_memory` {}: {} are in use, and {} more are wanted", format_bytes(limit_),
                                         format_bytes(used - bytes), format_bytes(bytes)));
    }
  }
  void give_back(int64_t bytes) { used_ -= bytes; }

 private:
  int64_t limit_;
  std::atomic<int64_t> used_;
};

// Lies in front of a tensor's memory and holds what is needed to give it back. As wide as memory is aligned.
struct alignas(64) Header {
  Header(c10::DataPtr whole, std::shared_ptr<Account> payer, int64_t size)
      : memory(std::move(whole)), account(std::move(payer)), bytes(size) {}

  c10::DataPtr memory;  // this header and what follows it
  std::shared_ptr<Account> account;
  int64_t bytes;
};

void free_counted(void* data) {
  Header* const header = static_cast<Header*>(data) - 1;
  const c10::DataPtr memory = std::move(header->memory);
  const std::shared_ptr<Account> account = std::move(header->account);
  const int64_t bytes = header->bytes;
  header->~Header();
  account->give_back(bytes);
}

// Storages keep a pointer to the allocator that made them. So it lives as long as the process, while budgets come and
// go.
class CountingAllocator final : public c10::Allocator {
 public:
  void install(std::shared_ptr<Account> account) {
    inner_ = c10::GetAllocator(at::kCPU);
    account_ = std::move(account);
    c10::SetAllocator(at::kCPU, this);
  }
  void remove() { c10::SetAllocator(at::kCPU, inner_); }

  c10::DataPtr allocate(size_t size) override {
    const auto bytes = static_cast<int64_t>(size);
    account_->take(bytes);
    try {
      c10::DataPtr memory = inner_->allocate(size + sizeof(Header));
      void* const place = memory.get();
      void* const data = new (place) Header(std::move(memory), account_, bytes) + 1;
      return {data, data, &free_counted, at::kCPU};
    } catch (...) {
      account_->give_back(bytes);
      throw;
    }
  }
  // LibTorch's own kernels allocate by raw pointers too.
  c10::DeleterFnPtr raw_deleter() const override { return &free_counted; }
  void copy_data(void* to, const void* from, std::size_t count) const override { inner_->copy_data(to, from, count); }

 private:
  c10::Allocator* inner_ = nullptr;
  std::shared_ptr<Account> account_;  // the last budget's
};

CountingAllocator& counting_allocator() {
  static auto* const allocator = new CountingAllocator;
  return *allocator;
}

// A GPU's driver is asked, as the limit must be set before anything else starts the allocator.
int64_t memory_of(at::Device device) {
  if (!device.is_cuda()) return static_cast<int64_t>(at::accelerator::getMemoryInfo(device.index()).second);
  const GpuInfo* gpu = gpu_of(device);
  return gpu == nullptr ? 0 : gpu->memory_bytes;
}

// LibTorch's allocator takes its limit, a fraction of the device's memory, when it starts, and keeps it from then on.
void limit_accelerator(at::Device device, int64_t bytes) {
  const int64_t all = memory_of(device);
  if (all == 0) {
    throw DeviceError("`max_memory`: how much memory " + device.str() + " has cannot be told");
  }
  if (c10::getDeviceAllocator(device.type())->initialized()) {
    spdlog::warn("`max_memory`: {} is in use already, so that this limit is not kept", device.str());
  }
  const double part = std::min(1.0, static_cast<double>(bytes) / static_cast<double>(all));
  const std::string others = c10::CachingAllocator::getAllocatorSettings();  // which would be lost otherwise
  c10::CachingAllocator::setAllocatorSettings(
      fmt::format("{}{}per_process_memory_fraction:{:.6f}", others, others.empty() ? "" : ",", part));
}

}  // namespace

MemoryBudget::MemoryBudget(at::Device device, int64_t bytes) : counts_(device.is_cpu()) {
  if (!counts_) {
    limit_accelerator(device, bytes);
    return;
  }
  const int64_t used = anonymous_bytes();
  if (used >= bytes) {
    throw OutOfMemoryError(
        fmt::format("`max_memory` {}: the program itself takes {} before anything is computed; give more",
                    format_bytes(bytes), format_bytes(used)));
  }
  counting_allocator().install(std::make_shared<Account>(bytes, used));
}

MemoryBudget::~MemoryBudget() {
  if (counts_) counting_allocator().remove();
}

}  // namespace opensora
