// The table of a zip archive, as far as PyTorch's files need it: where each stored record lies.
//
// It is ours because LibTorch's reader unpacks records whose sizes it believes, into memory: a file of a few hundred
// bytes could ask for terabytes. This one allocates for names alone and hands out ranges of the file.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace opensora::io {

// what() is one line without a file's name.
struct ZipError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Bytes from the start of the file: from where to one past the last.
struct ByteRange {
  uint64_t begin = 0, end = 0;
  uint64_t size() const { return end - begin; }
};

class ZipArchive {
 public:
  // `file` is the whole file, and must outlive this. Reads the table at its end. Throws ZipError: no such table (cut
  // short), or one that does not fit the file.
  explicit ZipArchive(std::string_view file);

  bool contains(const std::string& name) const { return entries_.contains(name); }
  // Of all records; of equal names the first.
  std::vector<std::string> names() const;
  // Where the record's bytes are. Throws ZipError: no such record, compressed or encrypted, beyond the file's end.
  ByteRange range(const std::string& name) const;

 private:
  struct Entry {
    uint64_t header = 0, size = 0, packed_size = 0;  // `header`: where its local header is
    uint16_t flags = 0, method = 0;
  };

  void read_entries(ByteRange table);
  Entry read_entry(uint64_t at, std::string_view extra) const;

  std::string_view file_;
  std::map<std::string, Entry> entries_;
};

}  // namespace opensora::io
