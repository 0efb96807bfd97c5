// An operator at work.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <mutex>
#include <string_view>
#include <vector>

#include "support/simulated_device/memory.h"
#include "support/simulated_device/state.h"

namespace opensora::test::simulated {

bool is_here(const at::Tensor& tensor);  // on the simulated device

// Puts an operator into this thread's current stream, and gives LibTorch's kernels for the CPU the memory of the
// tensors that the operator has named.
class Operation {
 public:
  // `name` must live for ever.
  explicit Operation(std::string_view name);
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  // The same data as a tensor of the CPU, for as long as this object lives. Its use is noted, and compared with former
  // ones. Throws c10::Error for a race, if such throw, and for memory that was freed.
  at::Tensor use(const at::Tensor& tensor, bool writes);

  // The host waits until the stream is done with this operator, and with what it stands behind. That holds for all of
  // its threads as far as this operator's tensors go.
  void wait();
  // The host does not wait, so that it must leave the operator's pinned memory alone until it has.
  void go_on();

 private:
  struct Opened {
    Block* block = nullptr;
    bool writes = false;
    bool races = false;
  };

  void note_use(Block& block, bool writes, const Range& range);

  std::lock_guard<std::recursive_mutex> lock_;
  std::string_view name_;
  int64_t stream_ = current_stream();
  int64_t time_ = 0;
  std::vector<Opened> opened_;
};

}  // namespace opensora::test::simulated
