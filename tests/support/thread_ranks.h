// Ranks as threads of the tests' process, with a communicator between them: code that works over ranks is tested
// without starting processes.
#pragma once

#include <functional>

#include "core/communicator.h"

namespace opensora::test {

// Calls `work` on `count` threads, each with its communicator, and returns when all have ended. The threads have the
// caller's settings of LibTorch (inference mode). An exception in one thread aborts the others; the first one is
// rethrown here.
//
// Besides what Communicator promises, std::logic_error is thrown where ranks disagree: about the call, or about shapes
// and dtypes; where what is being sent has been changed, or another call is made, before wait(). A rank that waits for
// one that has returned already throws RankError. Until wait(), what is received holds bytes of 0xFF.
void run_ranks(int count, const std::function<void(Communicator& ranks)>& work);

}  // namespace opensora::test
