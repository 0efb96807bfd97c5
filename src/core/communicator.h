// Exchange of tensors between processes, or threads, that work on the same videos: ranks.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace opensora {

// What a rank has sent to others since its communicator was made; what stays with it does not count.
struct Traffic {
  int64_t calls = 0;
  int64_t bytes = 0;
};

// A tensor that goes to, or comes from, another rank.
struct Transfer {
  at::Tensor tensor;
  int rank = 0;
};

// What has been started and not waited for.
class PendingExchange {
 public:
  virtual ~PendingExchange() = default;  // waits, where nobody has
  // What the current stream does from here on waits for it; on the CPU the caller does.
  virtual void wait() = 0;
};

// A group of ranks. All of them make the same calls in the same order, from one thread each; another thread takes a
// communicator of its own (split()). Tensors are contiguous and on the device of the group. A call takes its place in
// the order of the device's current stream, as LibTorch's operators do: what it reads is what was queued there before,
// and what is queued there afterwards finds the result; on the CPU it returns when that is there. Sender and receiver
// know shape and dtype; tensors may be empty.
//
// Throws RankError where a rank has failed, has ended or has not come within the time limit; every call after that
// throws it, too.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual at::Device device() const = 0;
  virtual std::string engine() const = 0;  // "nccl", "mpi", "gloo", …

  // out[i] becomes what rank i has as in[rank()]. Both have size() tensors; those of one call may differ in size.
  virtual void all_to_all(std::span<const at::Tensor> out, std::span<const at::Tensor> in) = 0;
  // out[i] becomes what rank i has as `in`, which may be out[rank()] itself. Sizes may differ.
  virtual void all_gather(std::span<const at::Tensor> out, const at::Tensor& in) = 0;
  // `tensor` becomes what rank `root` has.
  virtual void broadcast(const at::Tensor& tensor, int root) = 0;
  // All of them at the same time, in any order of ranks. Several between two ranks pair up in their order. What is sent
  // must not be changed, and what is received not be read, before wait(), and no other call may come in between.
  virtual std::unique_ptr<PendingExchange> start_exchange(std::span<const Transfer> sends,
                                                          std::span<const Transfer> receives) = 0;
  // Returns when all ranks have called it, and what they had queued before is done.
  virtual void barrier() = 0;

  // Collective: the group of those that gave the same colour (0 or more), in the order of their ranks here. With a
  // negative one: nullptr.
  virtual std::shared_ptr<Communicator> split(int colour) = 0;

  // From any thread: pending calls and later ones of all ranks throw, as soon as they learn of it. `reason` is what
  // their errors say.
  virtual void abort(const std::string& reason) = 0;

  virtual Traffic traffic() const = 0;
};

}  // namespace opensora
