// Weights of a model's blocks that come to the device a few blocks ahead of their use.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace opensora {

class WeightSource;

struct WeightStreamOptions {
  at::Device device = at::kCPU;
  // false: the device works on the source's own tensors (the CPU on a mapped file), and only their pages are read
  // ahead. true: groups are copied into memory of the device; a tensor that is fine as it is still is not, if
  // `keeps_views`.
  bool copies = true;
  bool keeps_views = false;
  bool keeps_all = false;     // all groups stay on the device: finish() brings them there, and waits until they are
  int64_t ahead = 2;          // groups beyond the one in use; of copies, so many of the largest
  bool gives_back = false;    // the file's pages are let go of when a group has been copied or used
  int64_t staging_bytes = 0;  // of a buffer between file and device, 0: none; pinned for an accelerator
  // Without copies: what is smaller in all is not worth a thread.
  int64_t smallest_read_ahead = int64_t{256} << 20;
};

// Groups of tensors, one a block, used in turn again and again. They lie one behind the other in a ring of bytes on the
// device, which has room for `ahead` of the largest beside the one in use: of smaller ones, more are there. A tensor is
// bound once; use() tells it where its data lie. A thread of its own copies on a stream of its own, and another one
// reads the file before it where the copies are staged; the two streams wait for each other by events, and the
// caller's thread only for what has not been read yet.
//
// On the meta device it takes the memory, and does nothing.
class WeightStream {
 public:
  WeightStream(std::shared_ptr<const WeightSource> source, const WeightStreamOptions& options);
  ~WeightStream();
  WeightStream(const WeightStream&) = delete;
  WeightStream& operator=(const WeightStream&) = delete;

  // Binding: begins a group; then add() gives for each of its tensors, as the source holds it, the one that holds the
  // data on the device in `dtype` while the group is in use (without data, and unless `keeps_all` without shape until
  // finish()).
  void begin_group();
  at::Tensor add(const at::Tensor& host, at::ScalarType dtype);
  // Takes the memory, and starts to read ahead. Throws OutOfMemoryError; with `keeps_all` also what went wrong in
  // reading, and when the run is to stop.
  void finish();

  int64_t groups() const;
  // All groups are on the device from finish() on: use() has nothing to do.
  bool keeps_all() const;

  // Makes a group usable on the device's current stream, and that used before not. In turn is fast; a jump is allowed.
  // Throws what went wrong in reading, once: the next call has it read again.
  void use(int64_t group);

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace opensora
