// Which model a checkpoint is of, from its tensors' names and shapes.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint.h"

namespace opensora::io {

struct CheckpointKind {
  std::string name;                                          // as in CheckpointInfo::kind
  std::vector<std::pair<std::string, std::string>> variant;  // as in CheckpointInfo::variant
};

CheckpointKind recognise(const Checkpoint& checkpoint);

}  // namespace opensora::io
