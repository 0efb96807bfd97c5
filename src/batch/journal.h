// The journal of a run: one line of JSON for each thing that happened, on disk before the next thing happens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace opensora::batch {

class Journal {
 public:
  enum class Start {
    kNew,      // the file must not exist, or be empty
    kResume,   // goes on with a file that may be there
    kReplace,  // empties it
  };

  // Creates or opens the file and locks it until this object goes. A last line that a crash cut off is removed.
  // Throws OutputError: it cannot be opened or written, another run holds it, it exists (kNew), or a line of it is not
  // a journal's.
  Journal(std::filesystem::path path, Start start);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // What earlier runs wrote, in order.
  const std::vector<nlohmann::json>& earlier() const { return earlier_; }

  // Sets disk space aside, so that what goes wrong can be written down when the disk is full. Where the file system
  // cannot, nothing happens.
  void reserve(int64_t bytes);

  // Appends `line` and a line feed, and waits until both are on disk. Throws OutputError.
  void append(std::string_view line);

  const std::filesystem::path& path() const { return path_; }
  int descriptor() const { return file_; }

 private:
  void read_earlier();

  std::filesystem::path path_;
  int file_ = -1;
  int64_t size_ = 0;  // bytes of whole lines
  std::vector<nlohmann::json> earlier_;
};

}  // namespace opensora::batch
