// How long OpenMP's threads wait for each other in a spin.
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

}  // namespace opensora::cli
