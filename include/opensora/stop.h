// The wish that this process stops, such as a signal brings.
#pragma once

namespace opensora {

// From now on whatever works, waits or reads in this library throws InterruptedError(signal) at its next look: at the
// next block of a model, frame, tensor or tenth of a second of waiting. Nothing half-written remains. The first call
// counts. May be called in a signal handler.
void request_stop(int signal) noexcept;

// What was asked for: a signal's number, 0: nothing.
int stop_signal() noexcept;

// The look. Throws InterruptedError.
void throw_if_stopped();

}  // namespace opensora
