// How many threads compute.
#pragma once

namespace opensora {

// Sets the number (0: LibTorch's choice) and starts them. OpenMP ends the whole program where a thread cannot be
// started, and XNNPACK waits for it forever: this looks first, and throws OutOfMemoryError.
void use_threads(int count);

}  // namespace opensora
