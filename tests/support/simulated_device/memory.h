// The device's memory and pinned memory of the host, which the host's threads can touch only when they may.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "support/simulated_device/clocks.h"

namespace opensora::test::simulated {

enum class Access { kNone, kRead, kAll };

// Pages of their own. The device's are never open to the host at their address: operators reach the same bytes at
// another one, see worked_at().
struct Block {
  std::byte* begin = nullptr;
  size_t bytes = 0;  // whole pages
  bool is_pinned = false;
  bool is_used = true;                // false: in the cache
  int64_t stream = 0;                 // that it was allocated in
  Access host = Access::kAll;         // of pinned memory: what the host may do to it; beyond that a signal is raised
  Uses uses;                          // that nobody has waited for
  std::vector<int64_t> used_streams;  // of recordStream()
};

// The block that an address lies in, also one in the cache; nullptr for other memory of the host.
Block* find_block(const void* address);

// Where operators find what is at this address of the device's memory.
std::byte* worked_at(const void* address);

// Changes what the host may do to pinned memory.
void protect(Block& block, Access host);

c10::DeviceAllocator& device_allocator();
c10::Allocator& pinned_allocator();

// Has the host's touching of protected memory seen: that of pinned memory is compared with the device's use of it, that
// of the device's ends the process, with a line on stderr. Must be called again where handlers of signals may have been
// replaced.
void watch_host();

}  // namespace opensora::test::simulated
