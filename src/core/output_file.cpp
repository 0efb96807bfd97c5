#include "core/output_file.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <map>
#include <regex>
#include <string>
#include <system_error>
#include <utility>

#include "opensora/error.h"

namespace fs = std::filesystem;

namespace opensora {
namespace {

std::string errno_text(int error) { return std::generic_category().message(error); }

[[noreturn]] void throw_exists(const fs::path& path) {
  throw OutputError(path.string() + " exists; give --overwrite or another -o");
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : "."; }

void check_folder(const fs::path& path) {
  const fs::path folder = folder_of(path);
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (status.type() == fs::file_type::not_found) {
    throw OutputError(
        fmt::format("{}: there is no folder {}; create it or give another -o", path.string(), folder.string()));
  }
  if (!fs::status_known(status)) {
    throw OutputError(fmt::format("{}: cannot look into {}: {}", path.string(), folder.string(), error.message()));
  }
  if (!fs::is_directory(status)) {
    throw OutputError(fmt::format("{}: {} is not a folder; give another -o", path.string(), folder.string()));
  }
}

void check_target(const fs::path& path, bool overwrite) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status) || !path.has_filename()) {
    throw OutputError(path.string() + " is a folder; give -o a file name");
  }
  if (!fs::status_known(status)) throw OutputError(path.string() + ": cannot be used: " + error.message());
  // Renaming onto a device or a pipe would replace it by a file.
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw OutputError(path.string() + " is not a regular file; give another -o");
  }
  if (!overwrite && fs::exists(fs::symlink_status(path, error))) throw_exists(path);
}

// ".sea.mp4."
std::string temporary_prefix(const fs::path& path) {
  constexpr size_t kLongestName = 200;  // leaves room for the rest within the 255 bytes of a file name
  return fmt::format(".{}.", path.filename().string().substr(0, kLongestName));
}

// Creates an empty file beside `path` under a name that nobody uses. Process ids repeat (in a container it is often 1),
// so the leftovers of a killed run must not stop the next.
fs::path create_temporary(const fs::path& path) {
  constexpr int kAttempts = 100;
  const std::string stem = temporary_prefix(path) + std::to_string(::getpid());
  for (int attempt = 1;; ++attempt) {
    fs::path temporary = folder_of(path) / (stem + (attempt > 1 ? "-" + std::to_string(attempt) : "") + ".part");
    const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file >= 0) {
      ::close(file);
      return temporary;
    }
    if (errno != EEXIST || attempt == kAttempts) {
      throw OutputError(fmt::format("{}: cannot create a file in {}: {}; give another -o", path.string(),
                                    folder_of(path).string(), errno_text(errno)));
    }
  }
}

// Returns 0 or an errno.
int sync_to_disk(const fs::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return errno;
  const int error = ::fsync(file) == 0 ? 0 : errno;
  ::close(file);
  return error;
}

// Returns 0 or an errno.
int rename_over(const fs::path& from, const fs::path& to) {
  return ::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

// Renames unless `to` exists (EEXIST). Returns 0 or an errno.
int rename_exclusive(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  // Network and FUSE file systems may lack RENAME_NOREPLACE; a hard link does not replace a file either.
  if (::link(from.c_str(), to.c_str()) == 0) {
    ::unlink(from.c_str());
    return 0;
  }
  if (errno == EEXIST) return errno;
  // Nor need they have hard links: take the name with an empty file and rename over that.
  const int claim = ::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (claim < 0) return errno;
  ::close(claim);
  const int error = rename_over(from, to);
  if (error != 0) ::unlink(to.c_str());
  return error;
}

}  // namespace

OutputFile::OutputFile(fs::path path, bool overwrite) : path_(std::move(path)), overwrite_(overwrite) {
  check_folder(path_);
  check_target(path_, overwrite_);
  temporary_ = create_temporary(path_);
}

OutputFile::~OutputFile() {
  if (!committed_) ::unlink(temporary_.c_str());
}

void OutputFile::commit() {
  // The data first: a crash after the rename must not leave an empty file under the final name.
  if (const int error = sync_to_disk(temporary_); error != 0) {
    throw OutputError(path_.string() + ": cannot write: " + errno_text(error));
  }
  const int error = overwrite_ ? rename_over(temporary_, path_) : rename_exclusive(temporary_, path_);
  if (error == EEXIST) throw_exists(path_);
  if (error != 0) throw OutputError(path_.string() + ": cannot rename the finished file: " + errno_text(error));
  committed_ = true;
  sync_to_disk(folder_of(path_));  // the new name; not every file system can, and the file is there in any case
}

void check_output(const fs::path& path, bool overwrite) { OutputFile probe(path, overwrite); }

void remove_leftovers(const std::set<fs::path>& outputs) {
  std::map<fs::path, std::set<std::string>> prefixes;  // by folder
  for (const fs::path& output : outputs) prefixes[folder_of(output)].insert(temporary_prefix(output));
  const std::regex pattern(R"((\..+\.)\d+(-\d+)?\.part)");
  for (const auto& [folder, known] : prefixes) {
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
      const std::string name = entry.path().filename().string();
      std::smatch match;
      if (std::regex_match(name, match, pattern) && known.contains(match[1])) fs::remove(entry.path(), error);
    }
  }
}

}  // namespace opensora
