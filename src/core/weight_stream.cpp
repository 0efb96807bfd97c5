#include "core/weight_stream.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <omp.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "core/device.h"
#include "core/weights.h"

namespace opensora {
namespace {

constexpr int64_t kNone = -1;
constexpr int64_t kAlignment = 64;  // bytes, of each tensor in a buffer; suits vector registers and GPUs

struct Entry {
  at::Tensor host;
  at::Tensor device;  // undefined if the host's own is used
};

using Group = std::vector<Entry>;

// A place on the device for one group at a time.
struct Slot {
  at::Tensor memory;      // bytes
  int64_t holds = kNone;  // the turn whose group is in it or is being copied into it
  DeviceEvent copied, used;
};

int64_t padded_bytes(const at::Tensor& tensor, at::ScalarType dtype) {
  const auto bytes = static_cast<int64_t>(tensor.numel() * c10::elementSize(dtype));
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

// A turn is one use of a group, counted from the start: turn t uses group t % groups.
class WeightStream::Implementation {
 public:
  Implementation(std::shared_ptr<const WeightSource> source, const WeightStreamOptions& options)
      : source_(std::move(source)), options_(options) {}
  ~Implementation();

  void begin_group() { groups_.emplace_back(); }
  at::Tensor add(const at::Tensor& host);
  void finish();
  int64_t groups() const { return static_cast<int64_t>(groups_.size()); }
  void use(int64_t group);

 private:
  Group& group_of(int64_t turn) { return groups_[turn % groups()]; }
  Slot& slot_of(int64_t turn) { return slots_[turn % groups() % static_cast<int64_t>(slots_.size())]; }
  bool copies(const at::Tensor& host) const {
    return options_.copies && !(options_.keeps_views && host.scalar_type() == dtype_of(host));
  }
  at::ScalarType dtype_of(const at::Tensor& host) const { return options_.dtype.value_or(host.scalar_type()); }

  int64_t host_bytes() const;
  int64_t device_bytes(const Group& group) const;
  void make_slots();
  void give_places(Group& group, const at::Tensor& memory);
  bool may_fetch() const;
  void jump_to(int64_t group, std::unique_lock<std::mutex>& lock);
  void read_ahead();
  void fetch(int64_t turn);
  void copy(const Entry& entry);
  void let_go(int64_t turn);

  std::shared_ptr<const WeightSource> source_;
  WeightStreamOptions options_;
  std::vector<Group> groups_;
  std::vector<Slot> slots_;
  std::optional<c10::Stream> copying_;  // nullopt: copies go to the current one
  StagingRing staging_;

  std::mutex mutex_;
  std::condition_variable wanted_, fetched_;
  int64_t turn_ = kNone;  // the one in use
  int64_t next_ = 0;      // the next to be fetched; those before it are there
  int64_t let_go_ = 0;    // the first turn whose pages have not been let go of
  bool fetching_ = false, stopping_ = false;
  std::exception_ptr failure_;
  std::thread reader_;
};

at::Tensor WeightStream::Implementation::add(const at::Tensor& host) {
  Group& group = groups_.back();
  group.push_back({host, {}});
  if (!copies(host)) return host;
  group.back().device = at::empty({0}, at::TensorOptions(dtype_of(host)).device(options_.device));
  return group.back().device;
}

int64_t WeightStream::Implementation::host_bytes() const {
  int64_t bytes = 0;
  for (const Group& group : groups_) {
    for (const Entry& entry : group) bytes += static_cast<int64_t>(entry.host.nbytes());
  }
  return bytes;
}

int64_t WeightStream::Implementation::device_bytes(const Group& group) const {
  int64_t bytes = 0;
  for (const Entry& entry : group) bytes += entry.device.defined() ? padded_bytes(entry.host, dtype_of(entry.host)) : 0;
  return bytes;
}

void WeightStream::Implementation::make_slots() {
  int64_t largest = 0;
  for (const Group& group : groups_) largest = std::max(largest, device_bytes(group));
  if (largest == 0) return;
  slots_.resize(std::min(options_.ahead + 1, groups()));
  for (Slot& slot : slots_) {
    slot.memory = at::empty({largest}, at::TensorOptions(at::kByte).device(options_.device));
    use_huge_pages(slot.memory);
    slot.copied = DeviceEvent(options_.device);
    slot.used = DeviceEvent(options_.device);
    slot.used.record_current();  // by whoever used this memory before
  }
  for (int64_t i = 0; i < groups(); ++i) give_places(groups_[i], slot_of(i).memory);
}

// Sets the tensors in place, since the model holds copies of them.
void WeightStream::Implementation::give_places(Group& group, const at::Tensor& memory) {
  int64_t offset = 0;
  for (Entry& entry : group) {
    if (!entry.device.defined()) continue;
    const at::ScalarType dtype = dtype_of(entry.host);
    const int64_t end = offset + static_cast<int64_t>(entry.host.numel() * c10::elementSize(dtype));
    const at::Tensor place = memory.slice(0, offset, end).view(dtype).view(entry.host.sizes());
    entry.device.set_(place);
    offset += padded_bytes(entry.host, dtype);
  }
}

void WeightStream::Implementation::finish() {
  const c10::InferenceMode inference;
  if (slots_.empty()) make_slots();
  if (options_.device.is_meta() || groups_.empty() || reader_.joinable()) return;
  if (slots_.empty() && host_bytes() < options_.smallest_read_ahead) return;
  if (!slots_.empty()) {
    copying_ = second_stream(options_.device);
    staging_ = StagingRing(options_.device, options_.staging_bytes);
  }
  reader_ = std::thread([this] { read_ahead(); });
}

WeightStream::Implementation::~Implementation() {
  if (!reader_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wanted_.notify_all();
  reader_.join();
  try {
    if (copying_) copying_->synchronize();  // or buffers would be freed while they are written
  } catch (const c10::Error& error) {       // the device has failed, as its next user will learn
    spdlog::debug("streaming weights: {}", error.what_without_backtrace());
  }
}

void WeightStream::Implementation::use(int64_t group) {
  if (!reader_.joinable()) return;
  std::unique_lock lock(mutex_);
  if (turn_ != kNone && !slots_.empty()) slot_of(turn_).used.record_current();
  if (group != (turn_ + 1) % groups()) jump_to(group, lock);
  ++turn_;
  wanted_.notify_all();
  if (slots_.empty()) return;  // what has not been read ahead is read when it is touched
  fetched_.wait(lock, [&] { return next_ > turn_ || failure_; });
  if (next_ <= turn_) std::rethrow_exception(failure_);  // what was read before the failure is good
  slot_of(turn_).copied.block_current();
}

// Makes it look as if the group before this one had been used last.
void WeightStream::Implementation::jump_to(int64_t group, std::unique_lock<std::mutex>& lock) {
  fetched_.wait(lock, [&] { return !fetching_; });
  turn_ = groups() * (turn_ / groups() + 2) + group - 1;
  next_ = let_go_ = turn_ + 1;
  for (Slot& slot : slots_) slot.holds = kNone;
}

bool WeightStream::Implementation::may_fetch() const {
  if (failure_ || next_ > turn_ + options_.ahead) return false;
  if (slots_.empty()) return true;
  const auto slot = static_cast<size_t>(next_ % groups() % static_cast<int64_t>(slots_.size()));
  return slots_[slot].holds < std::max<int64_t>(turn_, 0);
}

void WeightStream::Implementation::read_ahead() {
  const c10::InferenceMode inference;
  make_current(options_.device);
  // The CPU's cores belong to the model. If that runs elsewhere, a few of them are needed to keep up with the bus.
  constexpr int kCopyingThreads = 4;
  at::internal::lazy_init_num_threads();
  omp_set_num_threads(options_.device.is_cpu() ? 1 : std::min(kCopyingThreads, omp_get_num_procs()));
  std::unique_lock lock(mutex_);
  while (true) {
    wanted_.wait(lock, [&] { return stopping_ || may_fetch(); });
    if (stopping_) return;
    if (slots_.empty()) next_ = std::max(next_, turn_);  // what the model has passed need not be read ahead
    const int64_t turn = next_, passed = turn_;
    if (!slots_.empty()) slot_of(turn).holds = turn;
    fetching_ = true;
    lock.unlock();
    std::exception_ptr failure;
    try {
      if (options_.gives_back && slots_.empty()) {
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
    fetched_.notify_all();
  }
}

// Runs without the lock: nobody else touches the slot of a group that is not there yet.
void WeightStream::Implementation::fetch(int64_t turn) {
  const Group& group = group_of(turn);
  if (!slots_.empty()) slot_of(turn).used.block(copying_);
  for (const Entry& entry : group) {
    source_->advise(entry.host, PageAdvice::kRead);
    if (!entry.device.defined()) continue;
    staging_.copy(entry.host, entry.device, copying_);
    if (options_.gives_back) source_->advise(entry.host, PageAdvice::kLetGo);
  }
  if (!slots_.empty()) slot_of(turn).copied.record(copying_);
}

void WeightStream::Implementation::let_go(int64_t turn) {
  for (const Entry& entry : group_of(turn)) source_->advise(entry.host, PageAdvice::kLetGo);
}

WeightStream::WeightStream(std::shared_ptr<const WeightSource> source, const WeightStreamOptions& options)
    : implementation_(std::make_unique<Implementation>(std::move(source), options)) {}
WeightStream::~WeightStream() = default;
void WeightStream::begin_group() { implementation_->begin_group(); }
at::Tensor WeightStream::add(const at::Tensor& host) { return implementation_->add(host); }
void WeightStream::finish() { implementation_->finish(); }
int64_t WeightStream::groups() const { return implementation_->groups(); }
void WeightStream::use(int64_t group) { implementation_->use(group); }

}  // namespace opensora
