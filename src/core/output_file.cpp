#include "core/output_file.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/local_file.h"
#include "core/temporary.h"
#include "core/text.h"
#include "opensora/error.h"

namespace fs = std::filesystem;

namespace opensora {
namespace {

std::string errno_text(int error) { return std::generic_category().message(error); }

[[noreturn]] void throw_exists(const fs::path& path) {
  throw OutputError(path.string() + " exists; give `overwrite` or another `output`");
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : "."; }

size_t longest_name(const fs::path& folder) {
  const long longest = ::pathconf(folder.c_str(), _PC_NAME_MAX);
  return longest > 0 ? static_cast<size_t>(longest) : NAME_MAX;
}

void check_folder(const fs::path& path) {
  const fs::path folder = folder_of(path);
  if (path.is_relative() && working_folder_is_removed()) {
    throw OutputError(path.string() + ": the current folder was removed; give an absolute path");
  }
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (status.type() == fs::file_type::not_found) {
    throw OutputError(
        fmt::format("{}: there is no folder {}; create it or give another `output`", path.string(), folder.string()));
  }
  if (!fs::status_known(status)) {
    throw OutputError(fmt::format("{}: cannot look into {}: {}", path.string(), folder.string(), error.message()));
  }
  if (!fs::is_directory(status)) {
    throw OutputError(fmt::format("{}: {} is not a folder; give another `output`", path.string(), folder.string()));
  }
}

void check_target(const fs::path& path, bool overwrite) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status) || !path.has_filename()) {
    throw OutputError(path.string() + " is a folder; give `output` a file name");
  }
  if (error.value() == ENAMETOOLONG) {
    const size_t size = path.filename().native().size(), longest = longest_name(folder_of(path));
    const std::string found = size > longest
                                  ? fmt::format("a name of {} bytes, where at most {} are possible", size, longest)
                                  : fmt::format("a path of {} bytes", path.native().size());
    throw OutputError(fmt::format("{}: File name too long: {}; give another `output`", path.string(), found));
  }
  if (!fs::status_known(status)) throw OutputError(path.string() + ": cannot be used: " + error.message());
  // Renaming a file to the name of a device or a pipe would replace it.
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw OutputError(path.string() + " is not a regular file; give another `output`");
  }
  if (!overwrite && fs::exists(fs::symlink_status(path, error))) throw_exists(path);
}

Temporary create_beside(const fs::path& path) {
  try {
    return create_temporary_file(folder_of(path));
  } catch (const std::system_error& error) {
    throw OutputError(fmt::format("{}: cannot create a file in {}: {}; give another `output`", path.string(),
                                  folder_of(path).string(), error.code().message()));
  }
}

// Both return 0 or an errno.
int sync_to_disk(const fs::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return errno;
  const int error = ::fsync(file) == 0 ? 0 : errno;
  ::close(file);
  return error;
}

int rename_over(const fs::path& from, const fs::path& to) {
  return ::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

// Renames unless `to` exists. Returns 0 or an errno, EEXIST if it does.
int rename_exclusive(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  // Network and FUSE file systems may lack RENAME_NOREPLACE. A hard link does not replace a file either.
  if (::link(from.c_str(), to.c_str()) == 0) {
    ::unlink(from.c_str());
    return 0;
  }
  if (errno == EEXIST) return errno;
  // They may lack hard links too. Then an empty file takes the name, and the rename replaces that.
  const int claim = ::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (claim < 0) return errno;
  ::close(claim);
  const int error = rename_over(from, to);
  if (error != 0) ::unlink(to.c_str());
  return error;
}

void give_name(const StagedFile& file) {
  const int error =
      file.overwrite ? rename_over(file.temporary, file.path) : rename_exclusive(file.temporary, file.path);
  if (error == EEXIST) throw_exists(file.path);
  if (error != 0) throw OutputError(file.path.string() + ": cannot rename the finished file: " + errno_text(error));
}

// FNV-1a, which is the same everywhere, unlike std::hash.
uint32_t hash_of(std::string_view text) {
  uint32_t hash = 2166136261U;
  for (const unsigned char byte : text) hash = (hash ^ byte) * 16777619U;
  return hash;
}

}  // namespace

void commit_together(std::span<const StagedFile> files) {
  // The data comes first: a crash after the renaming must not leave an empty file under the final name.
  for (const StagedFile& file : files) {
    if (const int error = sync_to_disk(file.temporary); error != 0) {
      throw OutputError(file.path.string() + ": cannot write: " + errno_text(error));
    }
  }
  size_t named = 0;
  try {
    for (; named < files.size(); ++named) give_name(files[named]);
  } catch (...) {
    for (const StagedFile& file : files.first(named)) {
      if (!file.overwrite) ::unlink(file.path.c_str());
    }
    throw;
  }
  std::set<fs::path> folders;
  for (const StagedFile& file : files) folders.insert(folder_of(file.path));
  // Now the new names. Not every file system can sync a folder, and the files are there in any case.
  for (const fs::path& folder : folders) sync_to_disk(folder);
}

void write_content(const StagedFile& file, std::string_view content) {
  const auto fail = [&] { throw OutputError(file.path.string() + ": cannot write: " + errno_text(errno)); };
  const int descriptor = ::open(file.temporary.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) fail();
  while (!content.empty()) {
    const ssize_t written = ::write(descriptor, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int error = std::exchange(errno, 0);
      ::close(descriptor);
      errno = error;
      fail();
    }
    content.remove_prefix(static_cast<size_t>(written));
  }
  if (::close(descriptor) != 0) fail();
}

OutputFile::OutputFile(fs::path path, bool overwrite) : path_(std::move(path)), overwrite_(overwrite) {
  check_folder(path_);
  check_target(path_, overwrite_);
  Temporary temporary = create_beside(path_);
  temporary_ = temporary.path;
  lock_ = std::move(temporary.lock);
}

OutputFile::~OutputFile() { remove_temporary(temporary_); }

void OutputFile::commit() {
  const StagedFile file = staged();
  commit_together({&file, 1});
}

OutputFolder::OutputFolder(fs::path folder, bool overwrite) : folder_(std::move(folder)), overwrite_(overwrite) {
  try {
    Temporary temporary = create_temporary_folder(folder_);
    temporary_ = temporary.path;
    lock_ = std::move(temporary.lock);
  } catch (const std::system_error& error) {
    throw OutputError(fmt::format("{}: cannot create a file there: {}; give another folder", folder_.string(),
                                  error.code().message()));
  }
}

OutputFolder::~OutputFolder() { remove_temporary(temporary_); }

const StagedFile& OutputFolder::add(const std::string& name) {
  return staged_.emplace_back(StagedFile{temporary_ / name, folder_ / name, overwrite_});
}

void check_output(const fs::path& path, bool overwrite) {
  remove_leftovers(folder_of(path));
  const OutputFile probe(path, overwrite);
}

fs::path beside(const fs::path& output, const std::string& extension) {
  const size_t longest = longest_name(folder_of(output));
  const std::string stem = output.stem().string();
  if (stem.size() + extension.size() <= longest) return fs::path(output).replace_extension(extension);
  const std::string end = fmt::format("-{:08x}{}", hash_of(stem), extension);
  return output.parent_path() / (std::string(cut_utf8(stem, longest - std::min(longest, end.size()))) + end);
}

}  // namespace opensora
