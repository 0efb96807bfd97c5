#include "support/simulated_device/memory.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>

#include "support/simulated_device/state.h"

namespace opensora::test::simulated {
namespace {

constexpr size_t kPage = 4096;

// Blocks by their begin, and those of them that are free, by stream and size. A free block is used again only for its
// own size: the steps of a run ask for the same sizes, so that CUDA's splitting of blocks would change no counter.
struct Memory {
  std::map<const std::byte*, Block> blocks;
  std::multimap<std::pair<int64_t, size_t>, Block*> cache;
  std::vector<Block*> waiting;  // freed, but used by other streams that recordStream() told of
};

Memory& memory() {
  static auto* const all = new Memory;
  return *all;
}

c10::CachingAllocator::Stat& total(c10::CachingAllocator::StatArray& stat) { return stat[0]; }

int64_t limit() {
  return static_cast<int64_t>(static_cast<double>(state().options.memory_bytes) * state().memory_fraction);
}

// The device's have addresses twice: those that tensors have, which are of no use, and behind them those for operators.
size_t mapped_bytes(const Block& block) { return block.is_pinned ? block.bytes : 2 * block.bytes; }

Block& map_block(size_t bytes, bool is_pinned) {
  Block block;
  block.bytes = bytes;
  block.is_pinned = is_pinned;
  void* pages = mmap(nullptr, mapped_bytes(block), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const bool is_mapped = pages != MAP_FAILED;
  block.begin = static_cast<std::byte*>(pages);
  std::byte* const opened = is_pinned ? block.begin : block.begin + bytes;
  TORCH_CHECK(is_mapped && mprotect(opened, bytes, PROT_READ | PROT_WRITE) == 0,
              "simulated device: the host has no memory for ", bytes, " bytes");
  return memory().blocks[block.begin] = block;
}

void unmap(Block& block) {
  std::byte* const begin = block.begin;
  munmap(begin, mapped_bytes(block));
  memory().blocks.erase(begin);
}

// Its uses are over for its stream, but not for another one that it is used in next.
void put_into_cache(Block& block) {
  block.uses.forget(state().hosts);
  block.used_streams.clear();
  memory().cache.emplace(std::pair(block.stream, block.bytes), &block);
}

// Those whose uses in other streams are over as far as the host knows.
void settle_waiting(bool all) {
  std::erase_if(memory().waiting, [&](Block* block) {
    const bool is_over = all || block->uses.unordered(state().hosts, /*writes=*/true) == nullptr;
    if (is_over) put_into_cache(*block);
    return is_over;
  });
}

void empty_cache() {
  settle_waiting(/*all=*/true);
  for (const auto& [key, block] : std::exchange(memory().cache, {})) {
    total(state().stats.reserved_bytes).decrease(block->bytes);
    ++state().stats.num_device_free;
    unmap(*block);
  }
}

Block* cached_block(size_t bytes) {
  settle_waiting(/*all=*/false);
  const auto found = memory().cache.find({current_stream(), bytes});
  return found == memory().cache.end() ? nullptr : memory().cache.extract(found).mapped();
}

[[noreturn]] void throw_out_of_memory(size_t bytes) {
  ++state().stats.num_ooms;
  TORCH_CHECK_WITH(OutOfMemoryError, false, "simulated device out of memory: ", bytes, " bytes wanted, ",
                   total(state().stats.allocated_bytes).current, " of ", limit(), " allocated");
}

Block& new_block(size_t bytes) {
  if (++state().counters.device_allocations == state().options.failing_allocation) throw_out_of_memory(bytes);
  const auto fits = [&] {
    return total(state().stats.reserved_bytes).current + static_cast<int64_t>(bytes) <= limit();
  };
  if (!fits()) {
    ++state().stats.num_alloc_retries;
    empty_cache();
  }
  if (!fits()) throw_out_of_memory(bytes);
  total(state().stats.reserved_bytes).increase(bytes);
  ++state().stats.num_device_alloc;
  watch_host();
  return map_block(bytes, /*is_pinned=*/false);
}

size_t whole_pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

std::byte* allocate(size_t bytes) {
  const std::lock_guard lock(state().mutex);
  if (bytes == 0) return nullptr;
  Block* block = cached_block(whole_pages(bytes));
  if (block == nullptr) block = &new_block(whole_pages(bytes));
  block->is_used = true;
  block->stream = current_stream();
  total(state().stats.allocated_bytes).increase(block->bytes);
  return block->begin;
}

// What the cache gives away again belongs to the stream that it was allocated in: all uses must be over for that stream
// or for the host, or be in a stream that recordStream() has told of. Any thread of the host will do: whoever frees
// memory is the last to hold it, so that the others were done with it before.
void release(void* begin) {
  const std::lock_guard lock(state().mutex);
  if (begin == nullptr) return;
  Block& block = *find_block(begin);
  Clock known = stream_clock(block.stream);
  known.join(state().hosts);
  for (const int64_t stream : block.used_streams) known.join(stream_clock(stream));
  if (const Use* use = block.uses.unordered(known, /*writes=*/true)) {
    found_race(fmt::format("the host, for stream {},", block.stream), "frees", *use, /*may_throw=*/false);
    block.uses = {};
  }
  total(state().stats.allocated_bytes).decrease(block.bytes);
  block.is_used = false;
  if (block.used_streams.empty()) {
    put_into_cache(block);
  } else {
    memory().waiting.push_back(&block);
  }
}

// Not kept: nothing that our code can notice depends on it. That a stream may still use it is an error here, though
// LibTorch's own allocator would wait for copies that it has seen.
void release_pinned(void* begin) {
  const std::lock_guard lock(state().mutex);
  if (begin == nullptr) return;
  Block& block = *find_block(begin);
  if (const Use* use = block.uses.unordered(state().hosts, /*writes=*/true)) {
    found_race("the host", "frees pinned", *use, /*may_throw=*/false);
  }
  state().pinned_bytes -= static_cast<int64_t>(block.bytes);
  unmap(block);
}

class Allocator final : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    std::byte* const begin = simulated::allocate(bytes);
    return {begin, begin, &release, device()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    const std::lock_guard lock(state().mutex);
    std::memcpy(worked_at(to), worked_at(from), bytes);
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t /*pool*/ = {0, 0}) override {
    const std::lock_guard lock(state().mutex);
    empty_cache();
  }
  void recordStream(const c10::DataPtr& data, c10::Stream stream) override {
    const std::lock_guard lock(state().mutex);
    if (Block* block = find_block(data.get())) block->used_streams.push_back(stream.id());
  }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex /*device*/) override {
    const std::lock_guard lock(state().mutex);
    return state().stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex /*device*/) override {
    const std::lock_guard lock(state().mutex);
    total(state().stats.allocated_bytes).reset_accumulated();
    total(state().stats.reserved_bytes).reset_accumulated();
  }
  void resetPeakStats(c10::DeviceIndex /*device*/) override {
    const std::lock_guard lock(state().mutex);
    total(state().stats.allocated_bytes).reset_peak();
    total(state().stats.reserved_bytes).reset_peak();
  }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex /*device*/) override {
    const std::lock_guard lock(state().mutex);
    const int64_t all = state().options.memory_bytes;
    return {static_cast<size_t>(std::max<int64_t>(0, all - total(state().stats.reserved_bytes).current)),
            static_cast<size_t>(all)};
  }
};

class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const std::lock_guard lock(state().mutex);
    if (bytes == 0) return {nullptr, at::Device(c10::kCPU)};
    const Block& block = map_block(whole_pages(bytes), /*is_pinned=*/true);
    state().pinned_bytes += static_cast<int64_t>(block.bytes);
    return {block.begin, block.begin, &release_pinned, c10::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release_pinned; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }
};

}  // namespace

Block* find_block(const void* address) {
  auto& blocks = memory().blocks;
  const auto after = blocks.upper_bound(static_cast<const std::byte*>(address));
  if (after == blocks.begin()) return nullptr;
  Block& block = std::prev(after)->second;
  return address < block.begin + block.bytes ? &block : nullptr;
}

std::byte* worked_at(const void* address) {
  const Block* const block = find_block(address);
  if (block == nullptr) return nullptr;
  return block->begin + block->bytes + (static_cast<const std::byte*>(address) - block->begin);
}

void protect(Block& block, Access host) {
  if (block.host == host) return;
  const int pages = host == Access::kNone ? PROT_NONE : host == Access::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
  TORCH_CHECK(mprotect(block.begin, block.bytes, pages) == 0, "simulated device: mprotect: ", std::strerror(errno));
  block.host = host;
}

c10::DeviceAllocator& device_allocator() {
  static auto* const allocator = new Allocator;
  return *allocator;
}

c10::Allocator& pinned_allocator() {
  static auto* const allocator = new PinnedAllocator;
  return *allocator;
}

}  // namespace opensora::test::simulated
