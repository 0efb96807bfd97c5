// Weights of a model's blocks that come to the device a few blocks ahead of their use.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace opensora {

class WeightSource;

struct WeightStreamOptions {
  at::Device device = at::kCPU;
  std::optional<at::ScalarType> dtype = at::kFloat;  // in which the device's copies are; nullopt: as their source is
  // false: the device works on the source's own tensors (the CPU on a mapped file), and only their pages are read
  // ahead. true: groups are copied into memory of the device; a tensor that is fine as it is still is not, if
  // `keeps_views`.
  bool copies = true;
  bool keeps_views = false;
  int64_t ahead = 2;          // groups beyond the one in use
  bool gives_back = false;    // the file's pages are let go of when a group has been copied or used
  int64_t staging_bytes = 0;  // of a buffer between file and device, 0: none; pinned for an accelerator
  // Without copies: what is smaller in all is not worth a thread.
  int64_t smallest_read_ahead = int64_t{256} << 20;
};

// Groups of tensors, one a block, used in turn again and again. As many are on the device at once as `ahead` says and
// one more; they share a ring of buffers, and a tensor of a group has the same place in it always: a block is bound
// once. A thread of its own reads the file, and copies on a stream of its own; the two streams wait for each other by
// events, and the caller's thread only for what has not been read yet.
//
// On the meta device it takes the memory, and does nothing.
class WeightStream {
 public:
  WeightStream(std::shared_ptr<const WeightSource> source, const WeightStreamOptions& options);
  ~WeightStream();
  WeightStream(const WeightStream&) = delete;
  WeightStream& operator=(const WeightStream&) = delete;

  // Binding: begins a group; then add() gives for each of its tensors, as the source holds it, the one that holds the
  // data on the device while the group is in use (without data and, until finish(), without shape).
  void begin_group();
  at::Tensor add(const at::Tensor& host);
  // Takes the memory, and starts to read ahead. Throws OutOfMemoryError.
  void finish();

  int64_t groups() const;

  // Makes a group usable on the device's current stream, and that used before not. In turn is fast; a jump is allowed.
  // Throws what went wrong in reading.
  void use(int64_t group);

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace opensora
