// What becomes of the process when a mapped file is truncated, or its disk fails, while its data is read. For programs:
// a library does not install signal handlers by itself.
#pragma once

namespace opensora {

// From now on such a fault (SIGBUS within a mapped checkpoint) prints one line to stderr that names the file, writes
// {"schema_version":1,"event":"fault","file":"..."} as a line to the descriptors below and ends the process with exit
// code 4. Any other SIGBUS does what it did by default. Call once, first of all.
void install_fault_handler();

// A descriptor that gets that line: a journal's, opened for appending. At most 8 at a time; others are ignored. Remove
// it before it is closed. Any thread.
void add_fault_descriptor(int fd);
void remove_fault_descriptor(int fd);

}  // namespace opensora
