// Where signal handlers run.
#pragma once

namespace opensora {

// Gives the calling thread a stack of its own for handlers that are installed with SA_ONSTACK, until it ends. Every
// thread that computes needs one: oneDNN's products point the stack register into a buffer of the heap while they run,
// and the frame of a handler on that stack would overwrite what lies before the buffer.
void use_signal_stack();

}  // namespace opensora
