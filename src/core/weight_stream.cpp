#include "core/weight_stream.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <omp.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "core/byte_ring.h"
#include "core/device.h"
#include "core/weights.h"
#include "opensora/process.h"

namespace opensora {
namespace {

constexpr int64_t kNone = -1;
constexpr int64_t kAlignment = 64;  // bytes, of each tensor in the ring; suits vector registers and GPUs

struct Entry {
  at::Tensor host;
  at::ScalarType dtype;  // on the device
  at::Tensor device;     // what the model holds; undefined if that is the host's own
  at::Tensor place;      // where the data go: in the ring, of the group's next use
};

struct Group {
  std::vector<Entry> entries;
  DeviceEvent copied, used;
};

int64_t padded_bytes(const at::Tensor& tensor, at::ScalarType dtype) {
  const auto bytes = static_cast<int64_t>(tensor.numel() * c10::elementSize(dtype));
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// The calling thread's share of the processors, for LibTorch's operators.
void share_of_threads(int count) {
  at::internal::lazy_init_num_threads();
  omp_set_num_threads(std::min(count, omp_get_num_procs()));
}

// Reads the pages of a group's tensors, some of them at a time: a drive is fast only if it is asked for much at once.
void read_pages(const WeightSource& source, const Group& group) {
  constexpr int64_t kPieceBytes = int64_t{8} << 20;
  std::vector<at::Tensor> pieces;
  for (const Entry& entry : group.entries) {
    const std::vector<at::Tensor> parts = entry.host.flatten().split(kPieceBytes / entry.host.element_size());
    pieces.insert(pieces.end(), parts.begin(), parts.end());
  }
  at::parallel_for(0, static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) source.advise(pieces[i], PageAdvice::kRead);
  });
}

}  // namespace

// A turn is one use of a group, counted from the start: turn t uses group t % groups. One thread fetches turns in
// order; where copies are staged, another one has read a turn's pages before.
class WeightStream::Implementation {
 public:
  Implementation(std::shared_ptr<const WeightSource> source, const WeightStreamOptions& options)
      : source_(std::move(source)), options_(options) {}
  ~Implementation();

  void begin_group() { groups_.emplace_back(); }
  at::Tensor add(const at::Tensor& host, at::ScalarType dtype);
  void finish();
  int64_t groups() const { return static_cast<int64_t>(groups_.size()); }
  bool keeps_all() const { return options_.keeps_all; }
  void use(int64_t group);

 private:
  Group& group_of(int64_t turn) { return groups_[turn % groups()]; }
  bool copies(const at::Tensor& host, at::ScalarType dtype) const {
    return options_.copies && !(options_.keeps_views && host.scalar_type() == dtype);
  }
  bool has_ring() const { return memory_.defined(); }
  bool has_copies() const { return has_ring() || options_.keeps_all; }
  // Reading and copying do not take turns.
  bool reads_apart() const { return has_copies() && options_.staging_bytes > 0; }

  int64_t host_bytes() const;
  int64_t ring_bytes(const Group& group) const;
  void make_ring();
  void give_places(Group& group, int64_t begin);
  void start();
  void wait_for_all();
  void stop();
  bool may_fetch();
  bool may_read() const;
  void jump_to(int64_t group, std::unique_lock<std::mutex>& lock);
  void fetch_ahead();
  void read_ahead();
  void fetch(int64_t turn);
  void let_go(int64_t turn);

  std::shared_ptr<const WeightSource> source_;
  WeightStreamOptions options_;
  std::vector<Group> groups_;
  at::Tensor memory_;  // the ring's
  ByteRing ring_;
  std::optional<c10::Stream> copying_;  // nullopt: copies go to the current one
  StagingRing staging_;

  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t turn_ = kNone;  // the one in use
  int64_t next_ = 0;      // the next to be fetched; those before it are there
  int64_t read_ = 0;      // the next whose pages are to be read by a thread of their own
  int64_t let_go_ = 0;    // the first turn whose pages have not been let go of
  bool fetching_ = false, stopping_ = false;
  std::exception_ptr failure_;
  std::thread fetcher_, reader_;
};

at::Tensor WeightStream::Implementation::add(const at::Tensor& host, at::ScalarType dtype) {
  Entry& entry = groups_.back().entries.emplace_back(Entry{host, dtype, {}, {}});
  if (!copies(host, dtype)) return host;
  const at::TensorOptions options = at::TensorOptions(dtype).device(options_.device);
  entry.device = options_.keeps_all ? at::empty(host.sizes(), options) : at::empty({0}, options);
  if (options_.keeps_all) entry.place = entry.device;
  return entry.device;
}

int64_t WeightStream::Implementation::host_bytes() const {
  int64_t bytes = 0;
  for (const Group& group : groups_) {
    for (const Entry& entry : group.entries) bytes += static_cast<int64_t>(entry.host.nbytes());
  }
  return bytes;
}

int64_t WeightStream::Implementation::ring_bytes(const Group& group) const {
  int64_t bytes = 0;
  for (const Entry& entry : group.entries) {
    bytes += entry.device.defined() ? padded_bytes(entry.host, entry.dtype) : 0;
  }
  return bytes;
}

void WeightStream::Implementation::make_ring() {
  int64_t largest = 0, all = 0;
  for (const Group& group : groups_) {
    largest = std::max(largest, ring_bytes(group));
    all += ring_bytes(group);
  }
  if (largest == 0) return;
  ring_ = ByteRing(std::min((options_.ahead + 1) * largest, all));
  memory_ = at::empty({ring_.size()}, at::TensorOptions(at::kByte).device(options_.device));
  use_huge_pages(memory_);
  for (Group& group : groups_) {
    group.copied = DeviceEvent(options_.device);
    group.used = DeviceEvent(options_.device);
    give_places(group, 0);
    for (Entry& entry : group.entries) {
      if (entry.device.defined()) entry.device.set_(entry.place);  // for its shape
    }
  }
}

void WeightStream::Implementation::give_places(Group& group, int64_t begin) {
  for (Entry& entry : group.entries) {
    if (!entry.device.defined()) continue;
    const int64_t end = begin + static_cast<int64_t>(entry.host.numel() * c10::elementSize(entry.dtype));
    entry.place = memory_.slice(0, begin, end).view(entry.dtype).view(entry.host.sizes());
    begin += padded_bytes(entry.host, entry.dtype);
  }
}

void WeightStream::Implementation::finish() {
  const c10::InferenceMode inference;
  if (groups_.empty() || fetcher_.joinable()) return;
  if (!has_copies()) make_ring();
  if (options_.device.is_meta()) return;
  if (!has_copies() && host_bytes() < options_.smallest_read_ahead) return;
  start();
  if (options_.keeps_all) wait_for_all();
}

void WeightStream::Implementation::start() {
  if (has_copies()) {
    copying_ = second_stream(options_.device);
    staging_ = StagingRing(options_.device, options_.staging_bytes);
    DeviceEvent taken(options_.device);  // by when nobody else uses the memory that we have taken
    taken.record_current();
    taken.block(copying_);
  }
  fetcher_ = std::thread([this] { fetch_ahead(); });
  if (reads_apart()) reader_ = std::thread([this] { read_ahead(); });
}

void WeightStream::Implementation::wait_for_all() {
  constexpr std::chrono::milliseconds kPatience(100);
  for (bool done = false; !done;) {
    throw_if_stopped();
    std::unique_lock lock(mutex_);
    done = changed_.wait_for(lock, kPatience, [&] { return next_ == groups() || failure_; });
  }
  stop();
  if (failure_) std::rethrow_exception(failure_);
  staging_ = {};
}

void WeightStream::Implementation::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  fetcher_.join();
  if (reader_.joinable()) reader_.join();
  if (copying_) copying_->synchronize();
}

WeightStream::Implementation::~Implementation() {
  if (!fetcher_.joinable()) return;
  try {
    stop();                            // or buffers would be freed while they are written
  } catch (const c10::Error& error) {  // the device has failed, as its next user will learn
    spdlog::debug("streaming weights: {}", error.what_without_backtrace());
  }
}

void WeightStream::Implementation::use(int64_t group) {
  if (!fetcher_.joinable()) return;
  std::unique_lock lock(mutex_);
  if (turn_ != kNone && has_ring()) group_of(turn_).used.record_current();
  const bool has_failed = has_ring() && next_ <= turn_;  // the last call threw: what comes next is read anew
  if (has_failed || group != (turn_ + 1) % groups()) jump_to(group, lock);
  ++turn_;
  changed_.notify_all();
  if (!has_ring()) return;  // what has not been read ahead is read when it is touched
  changed_.wait(lock, [&] { return next_ > turn_ || failure_; });
  if (next_ <= turn_) std::rethrow_exception(failure_);  // what was read before the failure is good
  const c10::InferenceMode inference;
  const Group& now = group_of(turn_);
  now.copied.block_current();
  for (const Entry& entry : now.entries) {
    if (entry.device.defined()) at::Tensor(entry.device).set_(entry.place);  // the model holds copies of the tensor
  }
}

// Makes it look as if the group before this one had been used last.
void WeightStream::Implementation::jump_to(int64_t group, std::unique_lock<std::mutex>& lock) {
  changed_.wait(lock, [&] { return !fetching_; });
  // What comes next is placed without regard to what was used where.
  for (const int64_t turn : ring_.clear()) group_of(turn).used.block(copying_);
  turn_ = groups() * (turn_ / groups() + 2) + group - 1;
  next_ = read_ = let_go_ = turn_ + 1;
  failure_ = nullptr;  // of a group that may not be wanted now
}

bool WeightStream::Implementation::may_fetch() {
  if (failure_) return false;
  if (reads_apart() && read_ <= next_) return false;
  if (options_.keeps_all) return next_ < groups();
  if (!has_ring()) return next_ <= turn_ + options_.ahead;
  return ring_.newest_in_the_way(ring_bytes(group_of(next_))) < std::max<int64_t>(turn_, 0);
}

// One group beyond that which is being copied.
bool WeightStream::Implementation::may_read() const {
  return !failure_ && read_ < next_ + 2 && (!options_.keeps_all || read_ < groups());
}

void WeightStream::Implementation::fetch_ahead() {
  const c10::InferenceMode inference;
  bool has_device = false;
  // The CPU's cores belong to the model. If that runs elsewhere, some of them are needed to keep up with the bus.
  constexpr int kCopyingThreads = 8;
  share_of_threads(options_.device.is_cpu() ? 1 : kCopyingThreads);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || may_fetch(); });
    if (stopping_) return;
    if (!has_copies()) next_ = std::max(next_, turn_);  // what the model has passed need not be read ahead
    const int64_t turn = next_, passed = turn_;
    fetching_ = true;
    lock.unlock();
    std::exception_ptr failure;
    try {
      if (!has_device) make_current(options_.device);
      has_device = true;
      if (options_.gives_back && !has_copies()) {
        for (; let_go_ < passed; ++let_go_) let_go(let_go_);
      }
      fetch(turn);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    fetching_ = false;
    if (failure) {
      failure_ = failure;
    } else {
      ++next_;
    }
    changed_.notify_all();
  }
}

// Runs without the lock: nobody else touches the place of a group that is not there yet.
void WeightStream::Implementation::fetch(int64_t turn) {
  Group& group = group_of(turn);
  if (has_ring()) {
    std::vector<int64_t> overwritten;
    give_places(group, ring_.take(turn, ring_bytes(group), overwritten));
    for (const int64_t other : overwritten) group_of(other).used.block(copying_);
  }
  for (const Entry& entry : group.entries) {
    if (!reads_apart()) source_->advise(entry.host, PageAdvice::kRead);
    if (!entry.device.defined()) continue;
    staging_.copy(entry.host, entry.place, copying_);
    if (options_.gives_back) source_->advise(entry.host, PageAdvice::kLetGo);
  }
  if (has_ring()) group.copied.record(copying_);
}

void WeightStream::Implementation::read_ahead() {
  const c10::InferenceMode inference;
  constexpr int kReadingThreads = 4;
  share_of_threads(options_.device.is_cpu() ? 1 : kReadingThreads);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || may_read(); });
    if (stopping_) return;
    const int64_t turn = read_;
    lock.unlock();
    std::exception_ptr failure;
    try {
      read_pages(*source_, group_of(turn));
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    if (failure) {
      changed_.wait(lock, [&] { return stopping_ || next_ >= turn; });  // what was read before it is good
    }
    if (read_ == turn) {  // otherwise there has been a jump
      failure_ = failure;
      if (!failure) ++read_;
    }
    changed_.notify_all();
  }
}

void WeightStream::Implementation::let_go(int64_t turn) {
  for (const Entry& entry : group_of(turn).entries) source_->advise(entry.host, PageAdvice::kLetGo);
}

WeightStream::WeightStream(std::shared_ptr<const WeightSource> source, const WeightStreamOptions& options)
    : implementation_(std::make_unique<Implementation>(std::move(source), options)) {}
WeightStream::~WeightStream() = default;
void WeightStream::begin_group() { implementation_->begin_group(); }
at::Tensor WeightStream::add(const at::Tensor& host, at::ScalarType dtype) { return implementation_->add(host, dtype); }
void WeightStream::finish() { implementation_->finish(); }
int64_t WeightStream::groups() const { return implementation_->groups(); }
bool WeightStream::keeps_all() const { return implementation_->keeps_all(); }
void WeightStream::use(int64_t group) { implementation_->use(group); }

}  // namespace opensora
