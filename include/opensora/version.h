// Versions of the program and of its libraries.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace opensora {

std::string version();  // "0.1.0"

// Name and version of each library that is loaded, and the state of CUDA on this machine.
std::vector<std::pair<std::string, std::string>> library_versions();

}  // namespace opensora
