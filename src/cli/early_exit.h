// Ends that are no exceptions: libraries that call exit() (libgomp where a thread cannot be started), exceptions that
// nobody can catch, and libraries that crash where they get no memory.
#pragma once

namespace opensora::cli {

// Says in a line why, and gives the program's own exit code: 6 where memory has run out, else 1. From now on for
// exceptions that end the program: runs before the libraries' own initialisation.
void watch_for_uncaught_exceptions(int argc, char** argv, char** environment);

// From now on for exit(), which the program itself does not call, and where the address space is limited and used up
// for crashes.
void watch_for_early_exit();

}  // namespace opensora::cli
