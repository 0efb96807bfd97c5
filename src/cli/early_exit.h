// Libraries that end the program: libgomp where a thread cannot be started, MKL where it cannot load its other half.
#pragma once

namespace opensora::cli {

// From now on an exit() before program_is_over() says so in a line and gives the program's own exit code: 6 where the
// address space is limited, as memory is what they lack then, else 1.
void watch_for_early_exit();
void program_is_over();

}  // namespace opensora::cli
