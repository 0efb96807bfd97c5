// What the engines share: calls become transfers between pairs of ranks.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/communicator.h"
#include "parallel/abort_notice.h"

namespace opensora {

// An engine has to implement start(), and may have better ways for the other calls. This class checks arguments, counts
// what goes to other ranks, and copies what stays with this one.
//
// Bytes sent by a rank: of all_to_all(), what is not its own; of all_gather(), its tensor size() - 1 times, and of
// broadcast() the root's as often, whichever way an engine takes; of start_exchange(), what is for others. A call
// counts on every rank; barrier() and split() do not.
class PairwiseCommunicator : public Communicator {
 public:
  int rank() const final { return rank_; }
  int size() const final { return size_; }
  at::Device device() const final { return device_; }

  void all_to_all(std::span<const at::Tensor> out, std::span<const at::Tensor> in) final;
  void all_gather(std::span<const at::Tensor> out, const at::Tensor& in) final;
  void broadcast(const at::Tensor& tensor, int root) final;
  std::unique_ptr<PendingExchange> start_exchange(std::span<const Transfer> sends,
                                                  std::span<const Transfer> receives) final;
  void barrier() override;
  void abort(const std::string& reason) override { notice_->raise(reason); }
  Traffic traffic() const final { return {calls_, bytes_}; }

 protected:
  PairwiseCommunicator(int rank, int size, at::Device device, std::shared_ptr<AbortNotice> notice);

  // Starts the transfers of one call with other ranks. Tensors may be empty. The call's name is for messages.
  virtual std::unique_ptr<PendingExchange> start(const char* call, std::span<const Transfer> sends,
                                                 std::span<const Transfer> receives) = 0;
  // broadcast() in a group of several.
  virtual void send_to_all(const at::Tensor& tensor, int root);

  // Collective: the ranks of this group that gave the same colour as this one, in ascending order.
  std::vector<int> ranks_of_colour(int colour);

  AbortNotice& notice() const { return *notice_; }
  const std::shared_ptr<AbortNotice>& shared_notice() const { return notice_; }

 private:
  void count(int64_t bytes);
  void check_tensor(const at::Tensor& tensor) const;
  std::unique_ptr<PendingExchange> start_with_others(std::span<const Transfer> sends,
                                                     std::span<const Transfer> receives);

  const int rank_, size_;
  const at::Device device_;
  const std::shared_ptr<AbortNotice> notice_;
  std::atomic<int64_t> calls_ = 0, bytes_ = 0;
};

// All bytes of a contiguous tensor, as a view of one dimension.
at::Tensor bytes_of(const at::Tensor& tensor);

}  // namespace opensora
