#include "core/memory_budget.h"

#include <c10/core/AllocatorConfig.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "core/device.h"
#include "core/machine.h"
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
      throw OutOfMemoryError(fmt::format("--max-memory {}: {} more were wanted while {} were in use",
                                         format_bytes(limit_), format_bytes(bytes), format_bytes(used - bytes)));
    }
  }
  void give_back(int64_t bytes) { used_ -= bytes; }

 private:
  int64_t limit_;
  std::atomic<int64_t> used_;
};

// What a tensor's storage owns: the memory, which counts until it goes.
struct Block {
  Block(std::shared_ptr<Account> payer, int64_t size) : account(std::move(payer)), bytes(size) { account->take(bytes); }
  ~Block() {
    memory.clear();
    account->give_back(bytes);
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  std::shared_ptr<Account> account;
  int64_t bytes;
  c10::DataPtr memory;
};

void free_block(void* context) { delete static_cast<Block*>(context); }

// Storages keep a pointer to the allocator that made them, so it lives as long as the process: budgets come and go.
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
    auto block = std::make_unique<Block>(account_, bytes);
    block->memory = inner_->allocate(size);
    void* const data = block->memory.get();
    const at::Device device = block->memory.device();
    return {data, block.release(), &free_block, device};
  }
  void copy_data(void* to, const void* from, std::size_t count) const override { inner_->copy_data(to, from, count); }

 private:
  c10::Allocator* inner_ = nullptr;
  std::shared_ptr<Account> account_;  // of the last budget
};

CountingAllocator& counting_allocator() {
  static auto* const allocator = new CountingAllocator;
  return *allocator;
}

// LibTorch's allocator takes its limit as a part of the device's memory, as it starts.
void limit_accelerator(at::Device device, int64_t bytes) {
  const std::vector<GpuInfo> gpus = nvidia_gpus();
  const auto index = static_cast<size_t>(std::max<int>(device.index(), 0));
  if (index >= gpus.size() || gpus[index].memory_bytes == 0) {
    throw DeviceError("--max-memory: how much memory " + device.str() + " has cannot be told");
  }
  const double part = std::min(1.0, static_cast<double>(bytes) / static_cast<double>(gpus[index].memory_bytes));
  c10::CachingAllocator::setAllocatorSettings(fmt::format("per_process_memory_fraction:{:.6f}", part));
}

}  // namespace

MemoryBudget::MemoryBudget(at::Device device, int64_t bytes) : counts_(device.is_cpu()) {
  if (!counts_) {
    limit_accelerator(device, bytes);
    return;
  }
  counting_allocator().install(std::make_shared<Account>(bytes, anonymous_bytes()));
}

MemoryBudget::~MemoryBudget() {
  if (counts_) counting_allocator().remove();
}

}  // namespace opensora
