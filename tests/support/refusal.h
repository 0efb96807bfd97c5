// What the program says of a command line that it refuses, without running anything.
#pragma once

#include <string>
#include <vector>

namespace opensora::test {

// The line after "opensora: error: "; empty where the command line is understood.
std::string refusal_of(const std::vector<std::string>& arguments);

}  // namespace opensora::test
