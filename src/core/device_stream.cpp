#include "core/device_stream.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

namespace opensora {
namespace {

bool has_streams(at::Device device) { return !device.is_cpu() && !device.is_meta(); }

}  // namespace

DeviceStream::DeviceStream(at::Device device) {
  if (has_streams(device)) stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

void DeviceStream::finish() const {
  if (stream_) stream_->synchronize();
}

DeviceEvent::DeviceEvent(at::Device device) {
  if (!has_streams(device)) return;
  device_ = device;
  event_.emplace(device.type());
}

c10::Stream DeviceEvent::current() const { return c10::impl::VirtualGuardImpl(device_->type()).getStream(*device_); }

void DeviceEvent::record(const DeviceStream& stream) {
  if (event_) event_->record(*stream.stream());
}
void DeviceEvent::record_current() {
  if (event_) event_->record(current());
}
void DeviceEvent::block(const DeviceStream& stream) const {
  if (event_) event_->block(*stream.stream());
}
void DeviceEvent::block_current() const {
  if (event_) event_->block(current());
}
void DeviceEvent::wait() const {
  if (event_) event_->synchronize();
}

StagingRing::StagingRing(at::Device device, int64_t bytes) {
  constexpr size_t kBuffers = 3;  // one is filled, one read, one in between
  if (bytes == 0) return;
  buffers_.resize(kBuffers);
  for (Buffer& buffer : buffers_) {
    buffer.memory = at::empty({bytes}, at::TensorOptions(at::kByte).pinned_memory(has_streams(device)));
    buffer.read = DeviceEvent(device);
  }
}

void StagingRing::copy(const at::Tensor& from, const at::Tensor& to, const DeviceStream& stream) {
  const c10::OptionalStreamGuard guard(stream.stream());
  if (buffers_.empty()) {
    to.copy_(from);
    return;
  }
  const at::Tensor source = from.flatten(), target = to.flatten();
  const int64_t width = to.element_size(), piece = buffers_.front().memory.numel() / width;
  for (int64_t begin = 0; begin < source.numel(); begin += piece) {
    const int64_t end = std::min(source.numel(), begin + piece);
    Buffer& buffer = buffers_[next_++ % buffers_.size()];
    buffer.read.wait();  // this is the reading thread: nobody else waits
    const at::Tensor staged = buffer.memory.slice(0, 0, (end - begin) * width).view(to.scalar_type());
    staged.copy_(source.slice(0, begin, end));
    target.slice(0, begin, end).copy_(staged, /*non_blocking=*/true);
    buffer.read.record(stream);
  }
}

}  // namespace opensora
