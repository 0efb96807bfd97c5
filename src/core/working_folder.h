// The current folder, where that was removed.
#pragma once

namespace opensora {

// For main's .preinit_array: where the program was started in a folder that is gone, goes to one that is always there,
// and in which no file can be found or made. Intel's MKL ends the process otherwise as it is loaded.
void leave_removed_folder(int argc, char** argv, char** environment);

// Whether that happened: relative paths name nothing.
bool working_folder_is_removed();

}  // namespace opensora
