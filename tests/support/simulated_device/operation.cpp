#include "support/simulated_device/operation.h"

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>
#include <c10/core/TensorImpl.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace opensora::test::simulated {
namespace {

at::Tensor as_cpu(const at::Tensor& tensor) {
  const c10::Storage& own = tensor.storage();
  c10::Storage storage(c10::Storage::use_byte_size_t(), own.nbytes(), c10::DataPtr(worked_at(own.data()), at::kCPU),
                       /*allocator=*/nullptr, /*resizable=*/false);
  at::Tensor result = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
  result.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  return result;
}

// From the first byte of the tensor's elements to behind the last, whatever lies between them.
Range range_in(const Block& block, const at::Tensor& tensor) {
  int64_t last = 0;
  for (int64_t i = 0; i < tensor.dim(); ++i) last += (tensor.size(i) - 1) * tensor.stride(i);
  const int64_t begin = static_cast<const std::byte*>(tensor.const_data_ptr()) - block.begin;
  return {begin, begin + (last + 1) * static_cast<int64_t>(tensor.element_size())};
}

}  // namespace

bool is_here(const at::Tensor& tensor) { return tensor.defined() && tensor.device().type() == kDeviceType; }

Operation::Operation(std::string_view name) : lock_(state().mutex), name_(name) {
  throw_untold_race();
  time_ = launch(stream_);
}

at::Tensor Operation::use(const at::Tensor& tensor, bool writes) {
  if (tensor.numel() > 0) {
    Block* const block = find_block(tensor.storage().data());
    TORCH_CHECK(block != nullptr || !is_here(tensor), name_, ": a tensor of the device without its memory");
    if (block != nullptr) note_use(*block, writes, range_in(*block, tensor));
  }
  return is_here(tensor) ? as_cpu(tensor) : tensor;
}

// What an operator reads and writes at once makes one race.
void Operation::note_use(Block& block, bool writes, const Range& range) {
  TORCH_CHECK(block.is_used, name_, ": device memory that was freed");
  const Use* const former = block.uses.unordered(stream_clock(stream_), writes, range);
  const bool races = former != nullptr;
  const bool is_told =
      std::any_of(opened_.begin(), opened_.end(), [&](const Opened& o) { return o.block == &block && o.races; });
  const Use unordered = races ? *former : Use{};
  block.uses.add({stream_, time_, name_, writes, range});
  if (block.is_pinned) protect(block, Access::kAll);
  opened_.push_back({&block, writes, races});
  if (!races || is_told) return;
  found_race(fmt::format("{} in stream {}", name_, stream_), writes ? "writes" : "reads", unordered,
             /*may_throw=*/true);
}

void Operation::wait() {
  const Clock& done = stream_clock(stream_);
  host_waits_for(done);
  for (const Opened& opened : opened_) opened.block->uses.forget(done);
}

void Operation::go_on() {
  watch_host();
  for (const Opened& opened : opened_) {
    if (opened.block->is_pinned) protect(*opened.block, opened.writes ? Access::kNone : Access::kRead);
  }
}

}  // namespace opensora::test::simulated
