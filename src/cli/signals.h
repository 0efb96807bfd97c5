// Signals: what they do to the program.
#pragma once

namespace opensora::cli {

// For main(), before all: a file that would grow beyond the limit on file sizes (ulimit -f) is an error of the write,
// not the end of the program.
void ignore_file_size_signal();

// From now on every signal that would end the program, and can be caught, is a wish to stop (opensora/stop.h); a second
// one ends it at once. Two within a fifth of a second count as one: timeout(1) and closing terminals send them twice.
// What was ignored when the program started stays so (nohup), but for SIGINT, SIGQUIT and SIGTERM: shells ignore the
// first two for what they start in the background, where only a wish sends them. A pipe that nobody reads any more is
// told by write(). Faults of the program itself are left as they are.
void catch_signals();

}  // namespace opensora::cli
