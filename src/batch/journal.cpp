#include "batch/journal.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "core/json_text.h"
#include "opensora/error.h"
#include "opensora/process.h"

namespace opensora::batch {
namespace {

namespace fs = std::filesystem;

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

// What a crash leaves of a line: its beginning, or the zeros that some file systems set aside for it.
bool may_be_torn(std::string_view rest) {
  return rest.starts_with('{') || rest.find_first_not_of('\0') == std::string_view::npos;
}

fs::path journal_path(const fs::path& folder, const BatchOptions& options) {
  const std::string shard = options.shards > 1 ? fmt::format("-{}-of-{}", options.shard, options.shards) : "";
  return folder / ("run" + shard + ".jsonl");
}

// Returns whether it had to be made. Throws OutputError.
bool make_folder(const fs::path& folder) {
  std::error_code error;
  const bool made = fs::create_directories(folder, error);
  if (!error && !fs::is_directory(folder, error)) error = std::make_error_code(std::errc::not_a_directory);
  if (error) throw OutputError("`output_dir` " + folder.string() + ": " + error.message());
  return made;
}

// "prompts", "prompts-2", …: the first that is free. Two runs at once get different ones.
fs::path make_new_folder(const fs::path& name) {
  std::error_code error;
  for (int number = 1;; ++number) {
    fs::path folder = number == 1 ? name : fs::path(fmt::format("{}-{}", name.string(), number));
    if (fs::create_directory(folder, error)) return folder;
    if (error && error != std::errc::file_exists) {
      throw OutputError(
          fmt::format("{}: the folder cannot be made: {}; give `output_dir`", folder.string(), error.message()));
    }
  }
}

// Whether the last run that a journal tells of has made all its videos. An empty journal tells of none: true.
bool all_videos_made(const std::vector<JournalLine>& journal) {
  bool made = journal.empty();
  for (const JournalLine& line : journal) {
    made = line.event == "run_finished" && !line.has_error && line.done + line.skipped == line.videos;
  }
  return made;
}

}  // namespace

Journal::Journal(std::filesystem::path path, bool replace_damaged) : path_(std::move(path)) {
  open_and_lock();
  try {
    read_earlier();
  } catch (const OutputError& error) {
    if (!replace_damaged) {
      ::close(file_);
      throw;
    }
    spdlog::warn("{}; it is begun anew", error.what());
    earlier_.clear();
    cut(0);
  }
  add_fault_descriptor(file_);
}

Journal::~Journal() {
  remove_fault_descriptor(file_);
  if (::ftruncate(file_, size_) != 0) spdlog::debug("{}: the reserve is not given back", path_.string());
  if (size_ == 0) ::unlink(path_.c_str());  // while it is locked
  ::close(file_);
}

// Another run may remove its empty journal between the opening and the locking: the file then has no name any more.
void Journal::open_and_lock() {
  for (;;) {
    file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
    if (file_ < 0) throw OutputError(path_.string() + ": cannot open the journal: " + errno_text());
    struct stat opened {
    }, named{};
    const bool is_regular = ::fstat(file_, &opened) == 0 && S_ISREG(opened.st_mode);
    const bool is_locked = is_regular && ::flock(file_, LOCK_EX | LOCK_NB) == 0;
    const bool is_busy = is_regular && !is_locked && errno == EWOULDBLOCK;
    const bool is_named =
        ::stat(path_.c_str(), &named) == 0 && named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
    if (is_regular && !is_busy && is_named) return;  // without locks there is nobody to wait for
    ::close(file_);
    if (!is_regular) throw OutputError(path_.string() + ": is no regular file, and so no journal");
    if (is_busy) {
      throw OutputError(path_.string() + ": another run is writing this journal; wait for it or give another folder");
    }
  }
}

void Journal::cut(int64_t bytes) {
  if (::ftruncate(file_, bytes) != 0) throw OutputError(path_.string() + ": cannot be cut: " + errno_text());
  size_ = bytes;
}

void Journal::read_earlier() {
  std::ifstream stream(path_, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  const size_t end = text.rfind('\n') + 1;  // npos + 1 is 0
  int64_t line = 0;
  const auto refuse = [&](const std::string& reason) {
    throw OutputError(fmt::format("{}:{}: not a line of a journal: {}", path_.string(), line, reason));
  };
  for (size_t begin = 0; begin < end;) {
    const size_t feed = text.find('\n', begin);
    ++line;
    try {
      earlier_.push_back(parse_journal_line(std::string_view(text).substr(begin, feed - begin)));
    } catch (const JsonError& error) {
      refuse(error.what());
    }
    begin = feed + 1;
  }
  size_ = static_cast<int64_t>(text.size());
  if (end == text.size()) return;
  ++line;
  if (!may_be_torn(std::string_view(text).substr(end))) refuse("no beginning of one either");
  spdlog::warn("{}: its last line was cut off by a crash and is removed", path_.string());
  cut(static_cast<int64_t>(end));
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

RunFolder::RunFolder(const BatchOptions& options) : path_(options.output_dir) {
  if (path_.empty()) return;
  if (options.new_output_dir) {
    path_ = make_new_folder(path_);
    made_ = true;
    spdlog::info("the videos go to the folder {}; `output_dir` gives them another", path_.string());
  } else {
    made_ = make_folder(path_);
  }
  journal_ = std::make_unique<Journal>(journal_path(path_, options), options.overwrite && !options.resume);
  if (options.resume || options.overwrite || all_videos_made(journal_->earlier())) return;
  throw OutputError(journal_->path().string() +
                    ": the run in this folder has not made all its videos; `resume` goes on with it, `overwrite` "
                    "starts again; or give another `output_dir`");
}

RunFolder::~RunFolder() {
  journal_.reset();  // an empty one goes
  if (made_) ::rmdir(path_.c_str());
}

}  // namespace opensora::batch
