// Files mapped into memory, read-only: so that one that shrinks under a run is noticed, and a fault in one says which
// it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "core/weights.h"

namespace opensora::io {

struct MappingRecord;

// Maps a whole file and unmaps it when destroyed. Mapping reads nothing: a page is read when it is first touched. Any
// thread may make one.
class MappedFile {
 public:
  // Throws CheckpointError that names the file: missing, not a regular file, empty, not readable.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return static_cast<const std::byte*>(address_); }
  uint64_t size() const { return size_; }
  // The caller keeps offset + length within size().
  std::string_view text(uint64_t offset, uint64_t length) const {
    return {static_cast<const char*>(address_) + offset, length};
  }

 private:
  void* address_ = nullptr;
  uint64_t size_ = 0;
  MappingRecord* record_ = nullptr;  // among those of all mappings
};

// Throws CheckpointError "FILE: has shrunk from X to Y bytes while in use" for the first mapped file that is shorter
// than when it was mapped: reading it beyond its end would end the process. A file that was deleted or replaced stays
// as it was for those who have it mapped. Cheap: one fstat a file.
void check_mapped_files();

// Of a range within one mapped file; nothing happens to other memory. Best effort: what the system refuses is left.
void advise_mapped(const void* address, uint64_t bytes, PageAdvice advice);

// The mapping that holds an address, or nullptr: without memory allocation or locks, for a signal handler.
const MappingRecord* find_mapping(const void* address) noexcept;

}  // namespace opensora::io
