// A file mapped into memory, read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

#include "io/mapping_registry.h"

namespace opensora::io {

// Maps a whole file and unmaps it when destroyed. Mapping reads nothing: a page is read when it is first touched.
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
  std::optional<MappingEntry> entry_;  // for check_mapped_files() and the fault handler
};

}  // namespace opensora::io
