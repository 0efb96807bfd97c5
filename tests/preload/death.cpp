// To be preloaded (LD_PRELOAD) into the program: something happens to it in the moment in which it writes a certain
// line, so that tests meet a stage whatever the machine's speed.
//
// OPENSORA_DEATH_AT: texts with "|" between them; the moment is the first write() of a buffer that holds all of them.
// OPENSORA_DEATH, what happens then:
//   signal:N      this process gets signal N
//   twice:N       likewise, and once more after a quarter of a second
//   flood         from now on this process gets a signal every fifth of a millisecond that it passes over
//   clock         a million seconds have passed
//   disk          from now on writes to regular files fail with ENOSPC, but for *.jsonl: a journal has set space aside
//   memory        from now on aligned allocations, which tensors and FFmpeg ask for, fail
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

constexpr time_t kJump = 1'000'000;  // seconds

std::atomic<bool> g_happened = false, g_clock_jumped = false, g_disk_is_full = false, g_memory_is_out = false;

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

bool is_the_moment(std::string_view written) {
  const char* at = std::getenv("OPENSORA_DEATH_AT");
  if (at == nullptr || g_happened) return false;
  for (std::string_view rest(at); !rest.empty();) {
    const size_t end = rest.find('|');
    if (written.find(rest.substr(0, end)) == std::string_view::npos) return false;
    rest = end == std::string_view::npos ? "" : rest.substr(end + 1);
  }
  return !g_happened.exchange(true);
}

void* flood(void* /*nothing*/) {
  for (const timespec pause{0, 200'000};; nanosleep(&pause, nullptr)) kill(getpid(), SIGPIPE);
}

void happen() {
  const char* what = std::getenv("OPENSORA_DEATH");
  const std::string_view death(what != nullptr ? what : "");
  const auto number = [&] { return std::atoi(death.substr(death.find(':') + 1).data()); };
  if (death.starts_with("signal:") || death.starts_with("twice:")) kill(getpid(), number());
  if (death.starts_with("twice:")) {
    const timespec pause{0, 250'000'000};
    nanosleep(&pause, nullptr);
    kill(getpid(), number());
  }
  if (pthread_t thread{}; death == "flood") pthread_create(&thread, nullptr, flood, nullptr);
  if (death == "clock") g_clock_jumped = true;
  if (death == "disk") g_disk_is_full = true;
  if (death == "memory") g_memory_is_out = true;
}

bool is_full(int file) {
  struct stat status {};
  if (!g_disk_is_full || file <= STDERR_FILENO || fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) return false;
  char link[64], path[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  const ssize_t length = readlink(link, path, sizeof path);
  return length < 0 || !std::string_view(path, static_cast<size_t>(length)).ends_with(".jsonl");
}

}  // namespace

extern "C" {

ssize_t write(int file, const void* data, size_t bytes) {
  static auto* const original = next<ssize_t(int, const void*, size_t)>("write");
  if (is_full(file)) {
    errno = ENOSPC;
    return -1;
  }
  const ssize_t written = original(file, data, bytes);
  const int error = errno;
  if (is_the_moment({static_cast<const char*>(data), bytes})) happen();
  errno = error;
  return written;
}

ssize_t writev(int file, const iovec* parts, int count) {
  static auto* const original = next<ssize_t(int, const iovec*, int)>("writev");
  if (is_full(file)) {
    errno = ENOSPC;
    return -1;
  }
  return original(file, parts, count);
}

int clock_gettime(clockid_t clock, timespec* time) {
  static auto* const original = next<int(clockid_t, timespec*)>("clock_gettime");
  const int result = original(clock, time);
  if (g_clock_jumped && clock == CLOCK_MONOTONIC) time->tv_sec += kJump;
  return result;
}

// What waits until a time means it by the clock above.
int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock, const timespec* time) {
  static auto* const original =
      next<int(pthread_cond_t*, pthread_mutex_t*, clockid_t, const timespec*)>("pthread_cond_clockwait");
  timespec real = *time;
  if (g_clock_jumped && clock == CLOCK_MONOTONIC && real.tv_sec > kJump) real.tv_sec -= kJump;
  return original(condition, mutex, clock, &real);
}

int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  static auto* const original = next<int(void**, size_t, size_t)>("posix_memalign");
  return g_memory_is_out ? ENOMEM : original(memory, alignment, bytes);
}

}  // extern "C"
