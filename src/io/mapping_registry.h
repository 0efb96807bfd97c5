// The files that are mapped into memory now: so that one that shrinks under a run is noticed, and a fault in one says
// which it was.
#pragma once

#include <cstdint>
#include <filesystem>

#include "core/weights.h"

namespace opensora::io {

// Registers a mapping for as long as it lives. Any thread.
class MappingEntry {
 public:
  // Takes over `fd`, which stays open: it tells the file's size also when it has lost its name.
  MappingEntry(int fd, const void* address, uint64_t size, const std::filesystem::path& path);
  ~MappingEntry();
  MappingEntry(const MappingEntry&) = delete;
  MappingEntry& operator=(const MappingEntry&) = delete;

 private:
  struct Record;
  friend struct MappingTable;
  Record* record_;
};

// Throws CheckpointError "FILE: has shrunk from X to Y bytes while in use" for the first mapped file that is shorter
// than when it was mapped: reading it beyond its end would end the process. A file that was deleted or replaced stays
// as it was for those who have it mapped. Cheap: one fstat a file.
void check_mapped_files();

// Of a range within one mapped file; nothing happens to other memory. Best effort: what the system refuses is left.
void advise_mapped(const void* address, uint64_t bytes, PageAdvice advice);

// The lines to print when an address faults: without memory allocation or locks, for a signal handler. They end in
// newlines and live as long as the mapping.
struct FaultLines {
  const char* text = nullptr;  // "opensora: error: FILE: ..."; nullptr: no mapping holds the address
  uint64_t text_bytes = 0;
  const char* json = nullptr;  // {"schema_version":1,"event":"fault","file":"..."}
  uint64_t json_bytes = 0;
};
FaultLines find_fault_lines(const void* address) noexcept;

}  // namespace opensora::io
