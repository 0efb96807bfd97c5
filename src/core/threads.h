// How many threads compute.
#pragma once

namespace opensora {

// Sets the number (0: LibTorch's choice) and starts them. OpenMP ends the whole program where a thread cannot be
// started, and XNNPACK waits for it forever: this looks first, and throws OutOfMemoryError.
void use_threads(int count);

// Starts the calling thread's own team of OpenMP threads, all of them ready for signals (core/signal_stack.h). Threads
// other than the main one call it before they compute.
void prepare_team();

}  // namespace opensora
