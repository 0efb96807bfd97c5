// A recorder of graphs for the CPU.
#pragma once

#include <functional>

#include "core/graph.h"

namespace opensora::test {

// Calls the work again, as a graph does: with the tensors that it was recorded with, into the output that it had.
class FakeRecorder : public GraphRecorder {
 public:
  Graph record(const std::function<void()>& work) override {
    ++recorded;
    work();
    return [this, work] {
      ++replayed;
      work();
    };
  }

  int recorded = 0, replayed = 0;
};

}  // namespace opensora::test
