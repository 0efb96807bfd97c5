#include "io/mapping_registry.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "opensora/error.h"

namespace opensora::io {

// A linked list to whose front records are added. They are never taken out, only reused, so that the signal handler can
// walk it while other threads change it; there are as many as files were mapped at once.
struct MappingEntry::Record {
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
};

struct MappingTable {
  using Record = MappingEntry::Record;

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

}  // namespace

MappingEntry::MappingEntry(int fd, const void* address, uint64_t size, const std::filesystem::path& path) {
  const std::lock_guard lock(table().mutex);
  record_ = table().take();
  record_->fd = fd;
  record_->size = size;
  record_->path = path;
  record_->text = "opensora: error: " + one_line(path.string()) + ": was truncated or its disk failed while in use\n";
  const nlohmann::ordered_json event = {{"schema_version", 1}, {"event", "fault"}, {"file", path.string()}};
  record_->json = event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  record_->begin = reinterpret_cast<uintptr_t>(address);
  record_->end = reinterpret_cast<uintptr_t>(address) + size;
}

MappingEntry::~MappingEntry() {
  const std::lock_guard lock(table().mutex);
  record_->end = 0;
  record_->begin = 0;
  ::close(record_->fd);
  record_->used = false;
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
    return {record->text.data(), record->text.size(), record->json.data(), record->json.size()};
  }
  return {};
}

}  // namespace opensora::io
