// How many threads compute.
#pragma once

namespace opensora {

// Sets the number (0: LibTorch's choice) and starts them. OpenMP ends the whole program where a thread cannot be
// started: this looks first, and throws OutOfMemoryError.
void use_threads(int count);

}  // namespace opensora
