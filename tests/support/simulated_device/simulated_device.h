// A LibTorch device in the host's memory that behaves like a GPU where our code could go wrong. Tests only.
//
// It is LibTorch's backend PrivateUse1 under the name "sim", so that a run gets to it by `--device sim`, in process and
// in the program that tests fork (support/program.h). What differs from a CPU:
// - The host cannot touch its memory: a forgotten copy ends the process with a signal at the guilty line, after a line
//   on stderr. There is a limit, beyond which c10::OutOfMemoryError is thrown. Freed memory is kept and given again to
//   the stream that had it, as by CUDA's allocator.
// - Each stream does its work whenever it likes, as far as events, waits and synchronisation leave that open: what two
//   streams, or a stream and the host, do to the same memory without being in order is a race, and is found however
//   the threads happened to run. (The work itself is done at once, so that results are right all the same.) A thread of
//   the host knows only of what it has waited for itself: locks between threads order nothing here, but memory may be
//   freed once any thread has waited for its uses.
// - Operators run LibTorch's CPU kernels on that memory. One that mixes host and device tensors throws.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <vector>

namespace opensora::test::simulated {

struct Options {
  int64_t memory_bytes = int64_t{16} << 30;
  // A race throws in the operator that finds it, or in the next one if it was found where nothing can be thrown, and is
  // told on stderr at once: for the forked program, whose findings nobody asks for. Otherwise races are only noted.
  bool race_throws = false;
  // Which one fails, counted from 1 and from start(); 0: none. Those after it work again.
  int64_t failing_allocation = 0;  // of Counters::device_allocations, with c10::OutOfMemoryError
  int64_t failing_copy = 0;        // of Counters::copies, with a c10::Error that has the text of a CUDA error
  int64_t ignored_wait = 0;        // of Counters::waits: a seeded fault
};

// Registers the device with LibTorch if it is not yet; from then on at::accelerator means it. Then waits for all its
// work, empties its cache, forgets findings and counts from zero. A test calls this first. Tensors may live on.
void start(const Options& options = {});

at::Device device();  // sim:0

struct Counters {
  int64_t kernels = 0;           // operators that compute, and copies within the device
  int64_t synchronizations = 0;  // the host has waited for a stream, an event, the device, or an operator's result
  int64_t copies = 0;            // between host and device
  int64_t bytes_to_device = 0;
  int64_t bytes_to_host = 0;
  int64_t device_allocations = 0;       // that the cache could not serve
  int64_t waits = 0;                    // of a stream for an event, and of the host for an event or a stream
  int64_t thread_synchronizations = 0;  // those of this thread
};
Counters counters();

int64_t allocated_bytes();       // in tensors now, rounded up to pages
int64_t peak_allocated_bytes();  // the most of these since start(), or since LibTorch's resetPeakStats()
int64_t reserved_bytes();        // the same and the cache
int64_t pinned_bytes();          // of the host's memory, in tensors now

// From now on the `nth` wait, counted from 1, is left out: a seeded fault. Memory and findings stay as they are.
void ignore_wait(int64_t nth);

// The races so far, each as a line that names both operators and streams; they are forgotten.
std::vector<std::string> take_races();

}  // namespace opensora::test::simulated
