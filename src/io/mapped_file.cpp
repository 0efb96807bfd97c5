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
#include <type_traits>
#include <utility>

#include "opensora/error.h"
#include "opensora/process.h"

namespace opensora::io {

// A member of a linked list, to whose front records are added. They are never taken out but reused, so that the signal
// handler can walk the list while other threads change it. There are as many as files were mapped at the same time.
struct MappingRecord {
  // For the handler. `end` is written last when a mapping comes and first when it goes; while it is 0 there is none.
  std::atomic<uintptr_t> begin = 0, end = 0;
  // The lines to print when an address in the mapping faults, "opensora: error: FILE: …" and
  // {"schema_version":1,"event":"fault","file":"…"}. They do not change while `end` is not 0.
  std::string text, json;
  MappingRecord* next = nullptr;  // set once

  // Guarded by the mutex.
  bool used = false;
  int fd = -1;
  uint64_t size = 0;
  std::filesystem::path path;

  bool holds(uintptr_t from, uintptr_t to) const { return used && from >= begin && to <= end; }
  // Takes over `opened`, which stays open: it tells the file's size even when the file has lost its name.
  void set(int opened, const void* address, uint64_t bytes, const std::filesystem::path& file);
  void clear();
};

namespace {

// Of the whole process. They are neither constructed nor destroyed, as a signal handler needs them at any time, and
// mappings may outlive static objects.
static_assert(std::is_trivially_destructible_v<std::mutex>);
constinit std::mutex records_mutex;
constinit std::atomic<MappingRecord*> first_record = nullptr;

// A free record, marked as used. The caller holds the mutex.
MappingRecord* take_record() {
  for (MappingRecord* record = first_record; record != nullptr; record = record->next) {
    if (!record->used) {
      record->used = true;
      return record;
    }
  }
  auto* record = new MappingRecord;  // lives as long as the process: see MappingRecord
  record->used = true;
  record->next = first_record;
  first_record = record;
  return record;
}

constexpr uintptr_t kPage = 4096;

bool is_mapped(uintptr_t from, uintptr_t to) {
  const std::lock_guard lock(records_mutex);
  const MappingRecord* record = first_record;
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

void MappingRecord::set(int opened, const void* address, uint64_t bytes, const std::filesystem::path& file) {
  fd = opened;
  size = bytes;
  path = file;
  text = "opensora: error: " + one_line(path.string()) + ": was truncated or its disk failed while in use\n";
  const nlohmann::ordered_json event = {{"schema_version", 1}, {"event", "fault"}, {"file", path.string()}};
  json = event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  begin = reinterpret_cast<uintptr_t>(address);
  end = reinterpret_cast<uintptr_t>(address) + size;
}

void MappingRecord::clear() {
  end = 0;
  begin = 0;
  ::close(fd);
  used = false;
}

MappedFile::MappedFile(const std::filesystem::path& path) {
  // O_NONBLOCK keeps the opening of a pipe from waiting for a writer; for regular files it means nothing.
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
  const std::lock_guard lock(records_mutex);
  record_ = take_record();
  record_->set(std::exchange(file.fd, -1), address_, size_, path);
}

MappedFile::~MappedFile() {
  {
    const std::lock_guard lock(records_mutex);
    record_->clear();
  }
  ::munmap(address_, size_);
}

void check_mapped_files() {
  const std::lock_guard lock(records_mutex);
  for (const MappingRecord* record = first_record; record != nullptr; record = record->next) {
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
  // The caller's tensor keeps the mapping alive meanwhile.
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

const MappingRecord* find_mapping(const void* address) noexcept {
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (const MappingRecord* record = first_record; record != nullptr; record = record->next) {
    const uintptr_t end = record->end, begin = record->begin;
    // The last page of a mapping is a whole one, whatever the file's size.
    if (end == 0 || at < begin || at >= (end + kPage - 1) / kPage * kPage) continue;
    return record;
  }
  return nullptr;
}

}  // namespace opensora::io

// The part of include/opensora/process.h that is about faults.
namespace opensora {
namespace {

constexpr int kNone = -1;

// Constructed before the program starts, as a signal handler needs them.
constinit std::array<std::atomic<int>, 8> fault_descriptors = {kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone};

void write_line(int fd, std::string_view line) noexcept {
  // In one write, so that the line stays whole in a file to which others append too. Nobody is left to hear of a
  // failure.
  [[maybe_unused]] const ssize_t written = ::write(fd, line.data(), line.size());
}

// Calls only what a signal handler may call.
void on_bus_error(int, siginfo_t* info, void*) {
  const bool is_fault = info->si_code > 0;  // not a signal from another process, which comes without an address
  const io::MappingRecord* mapping = is_fault ? io::find_mapping(info->si_addr) : nullptr;
  if (mapping == nullptr) {
    struct sigaction by_default {};
    by_default.sa_handler = SIG_DFL;
    ::sigaction(SIGBUS, &by_default, nullptr);
    ::raise(SIGBUS);  // it arrives when this handler returns
    return;
  }
  write_line(STDERR_FILENO, mapping->text);
  for (const std::atomic<int>& slot : fault_descriptors) {
    if (const int fd = slot; fd != kNone) write_line(fd, mapping->json);
  }
  ::_exit(static_cast<int>(ExitCode::kCheckpoint));
}

}  // namespace

void install_fault_handler() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

void add_fault_descriptor(int fd) {
  for (std::atomic<int>& slot : fault_descriptors) {
    int free = kNone;
    if (slot.compare_exchange_strong(free, fd)) return;
  }
}

void remove_fault_descriptor(int fd) {
  for (std::atomic<int>& slot : fault_descriptors) {
    int found = fd;
    if (slot.compare_exchange_strong(found, kNone)) return;
  }
}

}  // namespace opensora
