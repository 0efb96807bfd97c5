// A second stream of work on a device, and how it and the first wait for each other. On the CPU, where calls have done
// their work when they return, all of it does nothing.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <optional>
#include <vector>

namespace opensora {

class DeviceStream {
 public:
  DeviceStream() = default;  // none: work goes to the device's current stream
  explicit DeviceStream(at::Device device);

  const std::optional<c10::Stream>& stream() const { return stream_; }
  // Waits, on the caller's thread, until all is done.
  void finish() const;

 private:
  std::optional<c10::Stream> stream_;
};

// A point in a stream that another stream can wait for.
class DeviceEvent {
 public:
  DeviceEvent() = default;
  explicit DeviceEvent(at::Device device);

  void record(const DeviceStream& stream);
  void record_current();                         // in the device's current stream of this thread
  void block(const DeviceStream& stream) const;  // what `stream` does from here on waits; not before a record: no wait
  void block_current() const;
  void wait() const;  // on the caller's thread

 private:
  c10::Stream current() const;

  std::optional<at::Device> device_;
  std::optional<c10::Event> event_;
};

// Copies tensors from the host's memory to a device's, by way of buffers that the device reads at full speed (pinned
// memory), converted to the dtype of the target on the way.
class StagingRing {
 public:
  StagingRing() = default;  // without buffers: copies directly
  // `bytes` of each of the buffers; 0: none.
  StagingRing(at::Device device, int64_t bytes);

  // Both contiguous and of the same shape. The work may go on in `stream` when this returns; `from` is not read any
  // more.
  void copy(const at::Tensor& from, const at::Tensor& to, const DeviceStream& stream);

 private:
  struct Buffer {
    at::Tensor memory;  // bytes
    DeviceEvent read;   // by the device
  };
  std::vector<Buffer> buffers_;
  size_t next_ = 0;
};

}  // namespace opensora
