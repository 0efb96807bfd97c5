// What every engine that moves tensors between ranks must do, whatever it is: for the tests of each.
#pragma once

#include "core/communicator.h"

namespace opensora::test {

// Makes every call of `ranks` but abort(), with several dtypes, uneven and empty tensors, and expects what arrives and
// what is counted. All ranks of the group call it.
void check_engine(Communicator& ranks);

}  // namespace opensora::test
