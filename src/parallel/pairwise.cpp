#include "parallel/pairwise.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

#include "core/device.h"

namespace opensora {
namespace {

void copy_own(const at::Tensor& out, const at::Tensor& in) {
  TORCH_CHECK(out.nbytes() == in.nbytes(), "what a rank keeps for itself has another size");
  if (out.nbytes() > 0 && out.const_data_ptr() != in.const_data_ptr()) bytes_of(out).copy_(bytes_of(in));
}

std::vector<Transfer> of_others(std::span<const Transfer> transfers, int rank) {
  std::vector<Transfer> others;
  std::copy_if(transfers.begin(), transfers.end(), std::back_inserter(others),
               [&](const Transfer& transfer) { return transfer.rank != rank; });
  return others;
}

std::vector<at::Tensor> of_rank(std::span<const Transfer> transfers, int rank) {
  std::vector<at::Tensor> tensors;
  for (const Transfer& transfer : transfers) {
    if (transfer.rank == rank) tensors.push_back(transfer.tensor);
  }
  return tensors;
}

int64_t total_bytes(std::span<const Transfer> transfers) {
  int64_t bytes = 0;
  for (const Transfer& transfer : transfers) bytes += static_cast<int64_t>(transfer.tensor.nbytes());
  return bytes;
}

// One for each rank but `rank` itself.
std::vector<Transfer> with_others(std::span<const at::Tensor> tensors, int rank) {
  std::vector<Transfer> transfers;
  for (int other = 0; other < static_cast<int>(tensors.size()); ++other) {
    if (other != rank) transfers.push_back({tensors[other], other});
  }
  return transfers;
}

}  // namespace

at::Tensor bytes_of(const at::Tensor& tensor) { return tensor.view({tensor.numel()}).view(at::kByte); }

PairwiseCommunicator::PairwiseCommunicator(int rank, int size, at::Device device, std::shared_ptr<AbortNotice> notice)
    : rank_(rank), size_(size), device_(device), notice_(std::move(notice)) {
  TORCH_CHECK(rank >= 0 && rank < size, "rank ", rank, " of ", size);
}

void PairwiseCommunicator::count(int64_t bytes) {
  ++calls_;
  bytes_ += bytes;
}

void PairwiseCommunicator::check_tensor(const at::Tensor& tensor) const {
  TORCH_CHECK(tensor.is_contiguous() && tensor.device() == device_, "a group of ranks on ", device_,
              " wants contiguous tensors there, and was given one of ", tensor.sizes(), " on ", tensor.device());
}

void PairwiseCommunicator::all_to_all(std::span<const at::Tensor> out, std::span<const at::Tensor> in) {
  notice_->check();
  TORCH_CHECK(std::ssize(out) == size_ && std::ssize(in) == size_, "all_to_all takes ", size_, " tensors, one a rank");
  for (int other = 0; other < size_; ++other) {
    check_tensor(out[other]);
    check_tensor(in[other]);
  }
  const std::vector<Transfer> sends = with_others(in, rank_), receives = with_others(out, rank_);
  const auto pending = size_ > 1 ? start("all_to_all", sends, receives) : nullptr;
  copy_own(out[rank_], in[rank_]);
  if (pending) pending->wait();
  count(total_bytes(sends));
}

void PairwiseCommunicator::all_gather(std::span<const at::Tensor> out, const at::Tensor& in) {
  notice_->check();
  TORCH_CHECK(std::ssize(out) == size_, "all_gather takes ", size_, " tensors, one a rank");
  check_tensor(in);
  for (const at::Tensor& tensor : out) check_tensor(tensor);
  const std::vector<Transfer> sends = with_others(std::vector<at::Tensor>(size_, in), rank_);
  const auto pending = size_ > 1 ? start("all_gather", sends, with_others(out, rank_)) : nullptr;
  copy_own(out[rank_], in);
  if (pending) pending->wait();
  count(total_bytes(sends));
}

void PairwiseCommunicator::broadcast(const at::Tensor& tensor, int root) {
  notice_->check();
  TORCH_CHECK(root >= 0 && root < size_, "there is no rank ", root, " among ", size_);
  check_tensor(tensor);
  if (size_ > 1) send_to_all(tensor, root);
  count(rank_ == root ? static_cast<int64_t>(tensor.nbytes()) * (size_ - 1) : 0);
}

void PairwiseCommunicator::send_to_all(const at::Tensor& tensor, int root) {
  const std::vector<Transfer> to_all = with_others(std::vector<at::Tensor>(size_, tensor), root);
  const std::vector<Transfer> from_root = {{tensor, root}};
  using Transfers = std::span<const Transfer>;
  start("broadcast", rank_ == root ? Transfers(to_all) : Transfers(), rank_ == root ? Transfers() : from_root)->wait();
}

std::unique_ptr<PendingExchange> PairwiseCommunicator::start_with_others(std::span<const Transfer> sends,
                                                                         std::span<const Transfer> receives) {
  const std::vector<at::Tensor> kept = of_rank(sends, rank_), own = of_rank(receives, rank_);
  TORCH_CHECK(kept.size() == own.size(), "a rank sends itself ", kept.size(), " tensors, and takes ", own.size());
  const std::vector<Transfer> others = of_others(sends, rank_);
  auto pending = start("an exchange", others, of_others(receives, rank_));
  for (size_t i = 0; i < kept.size(); ++i) copy_own(own[i], kept[i]);
  count(total_bytes(others));
  return pending;
}

std::unique_ptr<PendingExchange> PairwiseCommunicator::start_exchange(std::span<const Transfer> sends,
                                                                      std::span<const Transfer> receives) {
  notice_->check();
  for (const std::span<const Transfer> transfers : {sends, receives}) {
    for (const Transfer& transfer : transfers) {
      TORCH_CHECK(transfer.rank >= 0 && transfer.rank < size_, "there is no rank ", transfer.rank, " among ", size_);
      check_tensor(transfer.tensor);
    }
  }
  return start_with_others(sends, receives);
}

// In round k, each rank hears of the 2^k ranks before it and of all that those have heard of.
void PairwiseCommunicator::barrier() {
  notice_->check();
  synchronize(device_);
  const at::Tensor sent = at::zeros({1}, at::TensorOptions(at::kByte).device(device_));
  const at::Tensor received = at::empty_like(sent);
  for (int step = 1; step < size_; step *= 2) {
    const Transfer to{sent, (rank_ + step) % size_}, from{received, (rank_ - step + size_) % size_};
    start("a barrier", {&to, 1}, {&from, 1})->wait();
  }
  synchronize(device_);
}

std::vector<int> PairwiseCommunicator::ranks_of_colour(int colour) {
  notice_->check();
  const auto options = at::TensorOptions(at::kInt).device(device_);
  const at::Tensor colours = at::full({size_, 1}, colour, options), own = at::full({1}, colour, options);
  if (size_ > 1) {
    const std::vector<at::Tensor> rows = colours.unbind();
    start("a split", with_others(std::vector<at::Tensor>(size_, own), rank_), with_others(rows, rank_))->wait();
  }
  const at::Tensor on_host = colours.cpu();
  std::vector<int> ranks;
  for (int other = 0; other < size_; ++other) {
    if (on_host.const_data_ptr<int>()[other] == colour) ranks.push_back(other);
  }
  return ranks;
}

}  // namespace opensora
