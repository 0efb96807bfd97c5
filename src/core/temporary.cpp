#include "core/temporary.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace fs = std::filesystem;

namespace opensora {

FileLock::FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileLock::Outcome FileLock::take(const std::filesystem::path& path) {
  constexpr int kFlags = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) {
    return Outcome::kUnknown;
  }
  // Over NFS, only a file that is open for writing can be locked.
  int descriptor = ::open(path.c_str(), O_RDWR | kFlags);
  if (descriptor < 0) descriptor = ::open(path.c_str(), O_RDONLY | kFlags);
  return descriptor < 0 ? Outcome::kUnknown : take(descriptor);
}

FileLock::Outcome FileLock::take(int descriptor) {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = descriptor;
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return Outcome::kTaken;
  return errno == EWOULDBLOCK ? Outcome::kHeldElsewhere : Outcome::kUnknown;
}

bool FileLock::has_name() const {
  struct stat status {};
  return descriptor_ >= 0 && ::fstat(descriptor_, &status) == 0 && status.st_nlink > 0;
}

namespace {

constexpr std::string_view kStart = ".opensora-", kEnd = ".part";
constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyz";
constexpr size_t kLength = 8;

struct Registry {
  std::mutex mutex;
  std::set<fs::path> own;       // temporary files and folders of this process
  std::set<fs::path> examined;  // folders that were searched for leftovers
};

// Never destroyed: a thread may still write while the program ends.
Registry& registry() {
  static auto* const all = new Registry;
  return *all;
}

std::string new_name() {
  static thread_local std::random_device source;
  std::uniform_int_distribution<size_t> letter(0, kLetters.size() - 1);
  std::string name(kStart);
  for (size_t i = 0; i < kLength; ++i) name += kLetters[letter(source)];
  return name.append(kEnd);
}

bool is_temporary_name(std::string_view name) {
  if (name.size() != kStart.size() + kLength + kEnd.size() || !name.starts_with(kStart) || !name.ends_with(kEnd)) {
    return false;
  }
  return name.substr(kStart.size(), kLength).find_first_not_of(kLetters) == std::string_view::npos;
}

// Both return the descriptor of what they created, or -1 with errno set.
int create_file(const fs::path& path) { return ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666); }
int create_folder(const fs::path& path) {
  if (::mkdir(path.c_str(), 0777) != 0) return -1;
  return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

// Between its creation and its locking another process may take the file for a leftover. Then another name is tried.
Temporary create_temporary(const fs::path& folder, int (*create)(const fs::path&)) {
  constexpr int kAttempts = 100;
  for (int attempt = 1;; ++attempt) {
    Temporary temporary{folder / new_name(), {}};
    const int descriptor = create(temporary.path);
    if (descriptor < 0) {
      if (errno == EEXIST && attempt < kAttempts) continue;
      throw std::system_error(errno, std::generic_category());
    }
    const FileLock::Outcome outcome = temporary.lock.take(descriptor);
    if (outcome != FileLock::Outcome::kHeldElsewhere && temporary.lock.has_name()) {
      const std::lock_guard lock(registry().mutex);
      registry().own.insert(temporary.path);
      return temporary;
    }
    std::error_code ignored;
    fs::remove(temporary.path, ignored);
    if (attempt == kAttempts) throw std::system_error(EBUSY, std::generic_category());
  }
}

bool is_of_this_user(const fs::path& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && status.st_uid == ::geteuid();
}

}  // namespace

Temporary create_temporary_file(const fs::path& folder) { return create_temporary(folder, create_file); }
Temporary create_temporary_folder(const fs::path& folder) { return create_temporary(folder, create_folder); }

void remove_temporary(const fs::path& path) noexcept {
  std::error_code ignored;
  fs::remove_all(path, ignored);
  const std::lock_guard lock(registry().mutex);
  registry().own.erase(path);
}

void remove_own_temporaries() noexcept {
  const std::lock_guard lock(registry().mutex);
  std::error_code ignored;
  for (const fs::path& path : registry().own) fs::remove_all(path, ignored);
}

void remove_leftovers(const fs::path& folder) {
  {
    const std::lock_guard lock(registry().mutex);
    if (!registry().examined.insert(folder).second) return;
  }
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const fs::path& path = entry->path();
    if (!is_temporary_name(path.filename().native()) || !is_of_this_user(path)) continue;
    FileLock lock;
    if (lock.take(path) != FileLock::Outcome::kTaken) continue;
    std::error_code ignored;
    fs::remove_all(path, ignored);
    spdlog::debug("{}: left by a run that was killed; removed", path.string());
  }
}

}  // namespace opensora
