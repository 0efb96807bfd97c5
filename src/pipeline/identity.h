// Which weights a checkpoint holds, without reading all of them.
#pragma once

#include <string>

#include "io/checkpoint.h"

namespace opensora::pipeline {

// 64 hexadecimal digits: SHA-256 over each file's size and 64 evenly spaced blocks of 4 KiB, the first of which is the
// header's beginning. Independent of names and places of the files. Throws CheckpointError if one cannot be read.
std::string checkpoint_identity(const io::Checkpoint& checkpoint);

}  // namespace opensora::pipeline
