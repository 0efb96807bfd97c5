#include "support/program.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <thread>

#include "cli/app.h"
#include "cli/process.h"
#include "core/local_file.h"
#include "support/temporary_folder.h"

namespace opensora::test {
namespace {

// Whether a copy of this process may serve as the program. It has the program's code and has loaded LibTorch, which is
// most of what starting the program costs, and of what the tests would cost. A copy has no thread but the one that made
// it, so there must be no other; and what is read as a process starts, such as LD_PRELOAD, needs a start. So do the
// sanitizers' handlers of signals. A test must not hold temporary files of ours (core/temporary.h) while it runs a
// copy, which would take them for its own.
bool can_serve_as_program(const ProgramOptions& options) {
#ifdef __SANITIZE_ADDRESS__
  return false;
#endif
  const auto tasks = std::filesystem::directory_iterator("/proc/self/task");
  const bool is_read_later = std::all_of(options.environment.begin(), options.environment.end(),
                                         [](const auto& entry) { return entry.starts_with("OPENSORA_MODEL_DIR="); });
  return std::distance(begin(tasks), end(tasks)) == 1 && is_read_later && options.max_address_space == 0 &&
         !options.starts_anew;
}

[[noreturn]] void become_program(const Arguments& arguments, const ProgramOptions& options, const std::string& out,
                                 const std::string& err, bool is_prepared) {
  if (!options.folder.empty() && chdir(options.folder.c_str()) != 0) _exit(126);
  if (options.max_address_space > 0) {
    const rlimit limit{static_cast<rlim_t>(options.max_address_space), static_cast<rlim_t>(options.max_address_space)};
    setrlimit(RLIMIT_AS, &limit);
  }
  // As a shell starts it, also where the tests run without a terminal (nohup) or in the background.
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, signal == options.ignored_signal ? SIG_IGN : SIG_DFL);
  for (const std::string& entry : options.environment) putenv(const_cast<char*>(entry.c_str()));
  if (freopen(out.c_str(), "w", stdout) == nullptr || freopen(err.c_str(), "w", stderr) == nullptr) _exit(126);
  std::vector<char*> argv{const_cast<char*>(OPENSORA_PROGRAM)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  if (is_prepared) {
    cli::watch_for_uncaught_exceptions(0, nullptr, nullptr);
    leave_removed_folder(0, nullptr, nullptr);
    cli::run_process(static_cast<int>(arguments.size()) + 1, argv.data());
  }
  execv(OPENSORA_PROGRAM, argv.data());
  _exit(127);
}

}  // namespace

Arguments operator+(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

ProgramResult run_program(const Arguments& arguments, const ProgramOptions& options) {
  const TemporaryFolder folder;
  const std::string out = folder.path() / "out", err = folder.path() / "err";
  fflush(nullptr);  // or the child would print what this process has buffered once more
  const bool is_prepared = can_serve_as_program(options);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child == 0) become_program(arguments, options, out, err, is_prepared);
  if (options.meanwhile) options.meanwhile(child);
  int status = 0;
  waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(out), read_file(err)};
}

std::string output_of(const Arguments& arguments) {
  const ProgramResult result = run_program(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  return result.out;
}

std::filesystem::path readme_file() { return std::filesystem::path(OPENSORA_CONFIGS).parent_path() / "README.md"; }

std::string readme() { return read_file(readme_file()); }

bool wait_until(pid_t program, const std::function<bool()>& condition) {
  while (!condition()) {
    siginfo_t ended{};  // of a program that is waited for later
    if (waitid(P_PID, static_cast<id_t>(program), &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid != 0) {
      return condition();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

bool wait_for_event(pid_t program, const std::filesystem::path& lines, const std::string& event, int count) {
  const std::string mark = event.empty() ? "\n" : "\"event\":\"" + event + "\"";
  return wait_until(program, [&] {
    const std::string text = read_file(lines);
    int found = 0;
    for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + 1)) ++found;
    return found >= count;
  });
}

}  // namespace opensora::test
