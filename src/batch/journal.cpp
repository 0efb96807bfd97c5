#include "batch/journal.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "opensora/error.h"
#include "opensora/faults.h"

namespace opensora::batch {
namespace {

std::string errno_text() { return std::generic_category().message(errno); }

// Returns false and sets errno if not all of it was written.
bool write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(file, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

Journal::Journal(std::filesystem::path path, Start start) : path_(std::move(path)) {
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file_ < 0) throw OutputError(path_.string() + ": cannot open the journal: " + errno_text());
  try {
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      throw OutputError(path_.string() + ": another run is writing this journal; wait for it or give another folder");
    }
    if (start == Start::kReplace && ::ftruncate(file_, 0) != 0) {
      throw OutputError(path_.string() + ": cannot be emptied: " + errno_text());
    }
    read_earlier();
    if (start == Start::kNew && size_ > 0) {
      throw OutputError(path_.string() +
                        " exists: the folder holds a run; --resume goes on with it, --overwrite starts it again");
    }
  } catch (...) {
    ::close(file_);
    throw;
  }
  add_fault_descriptor(file_);
}

Journal::~Journal() {
  remove_fault_descriptor(file_);
  if (::ftruncate(file_, size_) != 0) spdlog::debug("{}: the reserve is not given back", path_.string());
  ::close(file_);
}

void Journal::read_earlier() {
  std::ifstream stream(path_, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  const size_t end = text.rfind('\n') + 1;  // npos + 1 is 0
  size_ = static_cast<int64_t>(end);
  if (end < text.size()) {
    spdlog::warn("{}: its last line was cut off by a crash and is removed", path_.string());
    if (::ftruncate(file_, size_) != 0) throw OutputError(path_.string() + ": cannot be cut: " + errno_text());
  }
  int64_t line = 0;
  for (size_t begin = 0; begin < end;) {
    const size_t feed = text.find('\n', begin);
    ++line;
    nlohmann::json entry = nlohmann::json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                                 text.begin() + static_cast<std::ptrdiff_t>(feed), nullptr, false);
    if (!entry.is_object() || !entry.contains("event")) {
      throw OutputError(fmt::format("{}:{}: not a line of a journal", path_.string(), line));
    }
    earlier_.push_back(std::move(entry));
    begin = feed + 1;
  }
}

void Journal::reserve(int64_t bytes) {
  if (::fallocate(file_, FALLOC_FL_KEEP_SIZE, size_, bytes) != 0) {
    spdlog::debug("{}: no space is set aside: {}", path_.string(), errno_text());
  }
}

void Journal::append(std::string_view line) {
  const std::string text = std::string(line) + '\n';
  if (!write_all(file_, text) || ::fdatasync(file_) != 0) {
    const std::string reason = errno_text();
    if (::ftruncate(file_, size_) != 0) spdlog::debug("{}: a half line stays", path_.string());
    throw OutputError(path_.string() + ": the journal cannot be written: " + reason + "; the run stops here");
  }
  size_ += static_cast<int64_t>(text.size());
}

}  // namespace opensora::batch
