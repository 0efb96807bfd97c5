#include "support/thread_ranks.h"

#include <ATen/ThreadLocalState.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "core/text.h"
#include "opensora/error.h"
#include "parallel/pairwise.h"

namespace opensora::test {
namespace {

// A net for ranks that wait for each other in different groups.
constexpr std::chrono::minutes kHang{5};

// What all groups of a run_ranks() share.
struct World {
  std::shared_ptr<AbortNotice> notice = std::make_shared<AbortNotice>();
  std::mutex mutex;
  std::condition_variable changed;
  std::set<int> ended;  // ranks whose work has returned
};

// What a rank brings to a meeting.
struct Post {
  std::string call;
  std::vector<Transfer> sends, receives;
};

class Group {
 public:
  Group(std::shared_ptr<World> world, std::vector<int> members)
      : world_(std::move(world)), members_(std::move(members)), posts_(members_.size()), has_come_(members_.size()) {}

  World& world() { return *world_; }
  int size() const { return static_cast<int>(members_.size()); }
  const Post& post_of(int rank) const { return posts_[rank]; }

  // Returns when all have brought theirs.
  void meet(int rank, Post post) {
    posts_[rank] = std::move(post);
    meet(rank);
  }
  void meet(int rank) {
    std::unique_lock lock(world_->mutex);
    const int64_t meeting = meeting_;
    has_come_[rank] = true;
    if (++come_ == size()) {
      come_ = 0;
      has_come_.assign(has_come_.size(), false);
      ++meeting_;
      world_->changed.notify_all();
      return;
    }
    const auto is_over = [&] { return meeting_ != meeting || world_->notice->is_raised() || missing() >= 0; };
    const bool came = world_->changed.wait_for(lock, kHang, is_over);
    if (meeting_ != meeting) return;
    world_->notice->check();
    const std::string call = posts_[rank].call;
    throw RankError(came ? fmt::format("rank {} has ended, and rank {} waits for it in {}", missing(), rank, call)
                         : fmt::format("rank {} waits in {} for ranks that are elsewhere", rank, call));
  }

  // The same object for all of its members; `number` tells the splits of this group apart.
  std::shared_ptr<Group> subgroup(int64_t number, const std::vector<int>& ranks) {
    const std::lock_guard lock(world_->mutex);
    std::shared_ptr<Group>& group = subgroups_[{number, ranks.front()}];
    if (!group) {
      std::vector<int> members;
      for (const int rank : ranks) members.push_back(members_[rank]);
      group = std::make_shared<Group>(world_, members);
    }
    return group;
  }

 private:
  // A rank that is waited for and has ended; -1: none.
  int missing() const {
    for (int rank = 0; rank < size(); ++rank) {
      if (!has_come_[rank] && world_->ended.contains(members_[rank])) return rank;
    }
    return -1;
  }

  const std::shared_ptr<World> world_;
  const std::vector<int> members_;  // ranks of the world
  std::vector<Post> posts_;         // each written by its rank before a meeting, and read by others after it
  std::vector<bool> has_come_;
  int come_ = 0;
  int64_t meeting_ = 0;
  std::map<std::pair<int64_t, int>, std::shared_ptr<Group>> subgroups_;
};

std::vector<at::Tensor> between(const std::vector<Transfer>& transfers, int rank) {
  std::vector<at::Tensor> tensors;
  for (const Transfer& transfer : transfers) {
    if (transfer.rank == rank) tensors.push_back(transfer.tensor);
  }
  return tensors;
}

std::string listed(const std::vector<at::Tensor>& tensors) {
  std::string list;
  for (const at::Tensor& tensor : tensors) {
    list += fmt::format("{}{}[{}]", list.empty() ? "" : ", ", toString(tensor.scalar_type()),
                        fmt::join(tensor.sizes().vec(), ", "));
  }
  return list.empty() ? "nothing" : list;
}

class ThreadCommunicator;

class ThreadExchange final : public PendingExchange {
 public:
  ThreadExchange(ThreadCommunicator& ranks, Post post);
  ~ThreadExchange() override;
  void wait() override;

 private:
  void take() const;

  ThreadCommunicator& ranks_;
  Post post_;
  std::vector<at::Tensor> as_sent_;
  bool is_pending_ = true;
};

class ThreadCommunicator final : public PairwiseCommunicator {
 public:
  ThreadCommunicator(int rank, std::shared_ptr<Group> members)
      : PairwiseCommunicator(rank, members->size(), at::kCPU, members->world().notice), group(std::move(members)) {}

  std::string engine() const override { return "threads"; }

  std::shared_ptr<Communicator> split(int colour) override {
    const std::vector<int> ranks = ranks_of_colour(colour);
    const int64_t number = splits_++;
    if (colour < 0) return nullptr;
    const auto place = std::find(ranks.begin(), ranks.end(), rank()) - ranks.begin();
    return std::make_shared<ThreadCommunicator>(static_cast<int>(place), group->subgroup(number, ranks));
  }

  const std::shared_ptr<Group> group;
  bool has_pending = false;

 protected:
  std::unique_ptr<PendingExchange> start(const char* call, std::span<const Transfer> sends,
                                         std::span<const Transfer> receives) override {
    if (has_pending) throw std::logic_error(std::string(call) + " was begun while an exchange was not waited for");
    has_pending = true;
    return std::make_unique<ThreadExchange>(
        *this, Post{call, {sends.begin(), sends.end()}, {receives.begin(), receives.end()}});
  }

 private:
  int64_t splits_ = 0;
};

ThreadExchange::ThreadExchange(ThreadCommunicator& ranks, Post post) : ranks_(ranks), post_(std::move(post)) {
  for (const Transfer& send : post_.sends) as_sent_.push_back(bytes_of(send.tensor).clone());
  for (const Transfer& receive : post_.receives) bytes_of(receive.tensor).fill_(0xFF);
}

ThreadExchange::~ThreadExchange() {
  try {
    wait();
  } catch (const std::exception&) {  // as with the engines, the next call throws
  }
}

void ThreadExchange::take() const {
  for (int other = 0; other < ranks_.size(); ++other) {
    const Post& theirs = ranks_.group->post_of(other);
    if (theirs.call != post_.call) {
      throw std::logic_error(
          fmt::format("rank {} is in {}, and rank {} in {}", ranks_.rank(), post_.call, other, theirs.call));
    }
    const std::vector<at::Tensor> sent = between(theirs.sends, ranks_.rank()), taken = between(post_.receives, other);
    if (listed(sent) != listed(taken)) {
      throw std::logic_error(fmt::format("in {}, rank {} sends {}, and rank {} takes {}", post_.call, other,
                                         listed(sent), ranks_.rank(), listed(taken)));
    }
    for (size_t i = 0; i < sent.size(); ++i) taken[i].copy_(sent[i]);
  }
}

void ThreadExchange::wait() {
  if (!std::exchange(is_pending_, false)) return;
  ranks_.has_pending = false;
  ranks_.group->meet(ranks_.rank(), post_);
  take();
  ranks_.group->meet(ranks_.rank());  // all have taken theirs
  for (size_t i = 0; i < as_sent_.size(); ++i) {
    if (at::equal(bytes_of(post_.sends[i].tensor), as_sent_[i])) continue;
    throw std::logic_error("in " + post_.call + ", what was sent was changed before it was waited for");
  }
}

}  // namespace

void run_ranks(int count, const std::function<void(Communicator& ranks)>& work) {
  const auto world = std::make_shared<World>();
  world->notice->listen([state = world.get()] {
    const std::lock_guard lock(state->mutex);
    state->changed.notify_all();
  });
  std::vector<int> members;
  for (int rank = 0; rank < count; ++rank) members.push_back(rank);
  const auto group = std::make_shared<Group>(world, members);
  std::exception_ptr first_error;
  const at::ThreadLocalState caller;
  const auto be_rank = [&](int rank) {
    const at::ThreadLocalStateGuard settings(caller);
    try {
      ThreadCommunicator ranks(rank, group);
      work(ranks);
    } catch (const std::exception& error) {
      {
        const std::lock_guard lock(world->mutex);
        if (!first_error) first_error = std::current_exception();
      }
      world->notice->raise(fmt::format("rank {}: {}", rank, first_line(error.what())));
    }
    const std::lock_guard lock(world->mutex);
    world->ended.insert(rank);
    world->changed.notify_all();
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < count; ++rank) threads.emplace_back(be_rank, rank);
  for (std::thread& thread : threads) thread.join();
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace opensora::test
