// Copies between the device and the host, and within the device.
#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>

#include "support/simulated_device/memory.h"
#include "support/simulated_device/operation.h"
#include "support/simulated_device/state.h"

namespace opensora::test::simulated {
namespace {

// Whether the host need not wait: LibTorch copies by way of temporary tensors what is not just bytes.
bool may_go_on(const at::Tensor& from, const at::Tensor& to) {
  const at::Tensor& host = is_here(from) ? to : from;
  const Block* block = host.numel() > 0 ? find_block(host.storage().data()) : nullptr;
  return block != nullptr && block->is_pinned && from.scalar_type() == to.scalar_type() && from.is_contiguous() &&
         to.is_contiguous();
}

void count_transfer(int64_t& sum, size_t bytes) {
  const bool fails = ++state().counters.copies == state().options.failing_copy;
  TORCH_CHECK(!fails, "CUDA error: unspecified launch failure");
  sum += static_cast<int64_t>(bytes);
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  Operation operation("aten::copy_");
  Counters& counters = state().counters;
  const bool is_transfer = is_here(from) != is_here(to);
  if (is_transfer) {
    count_transfer(is_here(from) ? counters.bytes_to_host : counters.bytes_to_device, to.nbytes());
  } else {
    ++counters.kernels;
  }
  const at::Tensor source = operation.use(from, /*writes=*/false);
  operation.use(to, /*writes=*/true).copy_(source);
  if (is_transfer && non_blocking && may_go_on(from, to)) {
    operation.go_on();
  } else if (is_transfer) {
    operation.wait();
  }
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, /*non_blocking=*/false);
}

at::Scalar local_scalar(const at::Tensor& tensor) {
  Operation operation("aten::item");
  count_transfer(state().counters.bytes_to_host, tensor.element_size());
  const at::Scalar value = operation.use(tensor, /*writes=*/false).item();
  operation.wait();
  return value;
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_local_scalar_dense", &local_scalar);
}

}  // namespace
}  // namespace opensora::test::simulated
