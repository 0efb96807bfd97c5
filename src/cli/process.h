// How the program starts and ends beside its work: waiting threads, signals, and ends that are no exceptions, which are
// libraries that call exit() (libgomp where a thread cannot be started), exceptions that nobody can catch, and
// libraries that crash where they get no memory.
#pragma once

namespace opensora::cli {

// For main's .preinit_array: on a machine that is busy with other work, starts the program once more with
// GOMP_SPINCOUNT=0, unless the user has set that or OMP_WAIT_POLICY. libgomp reads it before main(), and cannot be told
// later.
//
// By default its threads spin for milliseconds. On free cores that is the fastest way to wait. Where other programs
// run too, every parallel loop then waits for a thread that cannot run, and a small model takes many times as long. At
// this point no library has been initialised yet, which is most of what starting LibTorch costs.
void start_patiently_if_busy(int argc, char** argv, char** environment);

// What /proc/loadavg tells: "0.52 1.01 0.98 3/120 4711", the load of the last minute, and how many threads run now,
// this one among them. Busy is a machine where both tell of others: the load is also what a run leaves that has just
// ended, and a thread may run for a moment.
bool is_busy(const char* loadavg);

// Says in a line why, and gives the program's own exit code: 6 where memory has run out, else 1. From now on for
// exceptions that end the program: runs before the libraries' own initialisation.
void watch_for_uncaught_exceptions(int argc, char** argv, char** environment);

// The same from now on for exit(), which the program itself does not call, and for crashes where the address space is
// limited and used up.
void watch_for_early_exit();

// For main(), before all: a file that would grow beyond the limit on file sizes (ulimit -f) is an error of the write,
// not the end of the program.
void ignore_file_size_signal();

// From now on every signal that would end the program, and can be caught, is a wish to stop (opensora/process.h); a
// second one ends it at once. Two within a fifth of a second count as one: timeout(1) and closing terminals send them
// twice. What was ignored when the program started stays so (nohup), but for SIGINT, SIGQUIT and SIGTERM: shells ignore
// the first two for what they start in the background, where only a wish sends them. A pipe that nobody reads any more
// is told by write(). Faults of the program itself are left as they are.
void catch_signals();

}  // namespace opensora::cli
