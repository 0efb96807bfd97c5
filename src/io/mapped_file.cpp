#include "io/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "opensora/error.h"
#include "opensora/process.h"

namespace opensora::io {

// A linked list to whose front records are added. They are never taken out, only reused, so that the signal handler can
// walk it while other threads change it; there are as many as files were mapped at once.
struct MappedFile::Record {
  // The handler's. `end` is written last when a mapping comes and first when it goes: where it is 0 there is none.
  std::atomic<uintptr_t> begin = 0, end = 0;
  std::string text, json;  // not changed while `end` is not 0
  Record* next = nullptr;  // set once

  // Under the mutex.
  bool used = false;
  int fd = -1;
  uint64_t size = 0;
  std::filesystem::path path;

  bool holds(uintptr_t from, uintptr_t to) const { return used && from >= begin && to <= end; }
  // Takes over `opened`, which stays open: it tells the file's size also when it has lost its name.
  void set(int opened, const void* address, uint64_t bytes, const std::filesystem::path& file);
  void clear();
};

struct MappingTable {
  using Record = MappedFile::Record;

  std::mutex mutex;
  std::atomic<Record*> first = nullptr;

  // A free record, marked as used. The caller holds the mutex.
  Record* take() {
    for (Record* record = first; record != nullptr; record = record->next) {
      if (!record->used) {
        record->used = true;
        return record;
      }
    }
    auto* record = new Record;  // lives as long as the process: see Record
    record->used = true;
    record->next = first;
    first = record;
    return record;
  }
};

namespace {

// Never destroyed: mappings may outlive static objects.
MappingTable& table() {
  static auto* const all = new MappingTable;
  return *all;
}

constexpr uintptr_t kPage = 4096;

bool is_mapped(uintptr_t from, uintptr_t to) {
  const std::lock_guard lock(table().mutex);
  const MappingTable::Record* record = table().first;
  while (record != nullptr && !record->holds(from, to)) record = record->next;
  return record != nullptr;
}

// For kernels before 5.14, which lack MADV_POPULATE_READ.
void touch_pages(uintptr_t from, uintptr_t to) {
  ::madvise(reinterpret_cast<void*>(from), to - from, MADV_WILLNEED);
  for (uintptr_t page = from; page < to; page += kPage) *reinterpret_cast<const volatile char*>(page);
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', '?');
  return text;
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& problem) {
  throw CheckpointError(path.string() + ": " + problem);
}

}  // namespace

void MappedFile::Record::set(int opened, const void* address, uint64_t bytes, const std::filesystem::path& file) {
  fd = opened;
  size = bytes;
  path = file;
  text = "opensora: error: " + one_line(path.string()) + ": was truncated or its disk failed while in use\n";
  const nlohmann::ordered_json event = {{"schema_version", 1}, {"event", "fault"}, {"file", path.string()}};
  json = event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  begin = reinterpret_cast<uintptr_t>(address);
  end = reinterpret_cast<uintptr_t>(address) + size;
}

void MappedFile::Record::clear() {
  end = 0;
  begin = 0;
  ::close(fd);
  used = false;
}

MappedFile::MappedFile(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe must not wait for a writer; regular files do not care.
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat status {};
  if (file.fd < 0 || ::fstat(file.fd, &status) != 0) fail(path, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) fail(path, "is a folder, expected a file");
  if (!S_ISREG(status.st_mode)) fail(path, "is not a regular file");
  if (status.st_size == 0) fail(path, "is empty");
  size_ = static_cast<uint64_t>(status.st_size);
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (address == MAP_FAILED && errno == ENOMEM) {
    throw OutOfMemoryError("out of memory: " + path.string() +
                           " cannot be mapped: the address space has no room for it");
  }
  if (address == MAP_FAILED) fail(path, std::string("cannot be mapped: ") + std::strerror(errno));
  address_ = address;
  const std::lock_guard lock(table().mutex);
  record_ = table().take();
  record_->set(std::exchange(file.fd, -1), address_, size_, path);
}

MappedFile::~MappedFile() {
  {
    const std::lock_guard lock(table().mutex);
    record_->clear();
  }
  ::munmap(address_, size_);
}

void check_mapped_files() {
  const std::lock_guard lock(table().mutex);
  for (const MappingTable::Record* record = table().first; record != nullptr; record = record->next) {
    struct stat status {};
    if (!record->used || ::fstat(record->fd, &status) != 0) continue;
    const auto size = static_cast<uint64_t>(status.st_size);
    if (size >= record->size) continue;
    throw CheckpointError(record->path.string() + ": has shrunk from " + std::to_string(record->size) + " to " +
                          std::to_string(size) + " bytes while in use");
  }
}

void advise_mapped(const void* address, uint64_t bytes, PageAdvice advice) {
  const auto from = reinterpret_cast<uintptr_t>(address), to = from + bytes;
  // The caller's tensor keeps the mapping.
  if (bytes == 0 || !is_mapped(from, to)) return;
  const uintptr_t first = from / kPage * kPage, last = (to + kPage - 1) / kPage * kPage;
  auto* const pages = reinterpret_cast<void*>(first);
  if (advice == PageAdvice::kLetGo) {
    ::madvise(pages, last - first, MADV_DONTNEED);
    return;
  }
#ifdef MADV_POPULATE_READ
  if (::madvise(pages, last - first, MADV_POPULATE_READ) == 0 || errno != EINVAL) return;
#endif
  touch_pages(first, last);
}

FaultLines find_fault_lines(const void* address) noexcept {
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (const MappingTable::Record* record = table().first; record != nullptr; record = record->next) {
    const uintptr_t end = record->end, begin = record->begin;
    // The last page of a mapping is whole, whatever the file's size.
    if (end == 0 || at < begin || at >= (end + kPage - 1) / kPage * kPage) continue;
    return {record->text, record->json};
  }
  return {};
}

}  // namespace opensora::io

// The faults of include/opensora/process.h.
namespace opensora {
namespace {

constexpr int kNone = -1;

struct Descriptors {
  std::array<std::atomic<int>, 8> slots;
  Descriptors() {
    for (std::atomic<int>& slot : slots) slot = kNone;
  }
};

// Made by install_fault_handler() or the first descriptor, before a handler can look; never destroyed.
Descriptors& descriptors() {
  static auto* const all = new Descriptors;
  return *all;
}

void write_line(int fd, std::string_view line) noexcept {
  // One write: a line in a file that others append to stays whole. There is nobody left to tell of a failure.
  [[maybe_unused]] const ssize_t written = ::write(fd, line.data(), line.size());
}

// Calls only what a signal handler may.
void on_bus_error(int, siginfo_t* info, void*) {
  const bool is_fault = info->si_code > 0;  // and not sent by another process, which has no address
  const io::FaultLines lines = is_fault ? io::find_fault_lines(info->si_addr) : io::FaultLines{};
  if (lines.text.empty()) {
    struct sigaction by_default {};
    by_default.sa_handler = SIG_DFL;
    ::sigaction(SIGBUS, &by_default, nullptr);
    ::raise(SIGBUS);  // taken when this handler returns
    return;
  }
  write_line(STDERR_FILENO, lines.text);
  for (const std::atomic<int>& slot : descriptors().slots) {
    if (const int fd = slot; fd != kNone) write_line(fd, lines.json);
  }
  ::_exit(static_cast<int>(ExitCode::kCheckpoint));
}

}  // namespace

void install_fault_handler() {
  descriptors();                  // made here, as a handler must not
  io::find_fault_lines(nullptr);  // likewise
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

void add_fault_descriptor(int fd) {
  for (std::atomic<int>& slot : descriptors().slots) {
    int free = kNone;
    if (slot.compare_exchange_strong(free, fd)) return;
  }
}

void remove_fault_descriptor(int fd) {
  for (std::atomic<int>& slot : descriptors().slots) {
    int found = fd;
    if (slot.compare_exchange_strong(found, kNone)) return;
  }
}

}  // namespace opensora
