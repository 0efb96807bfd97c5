// A recorder of graphs for the CPU.
#pragma once

#include <functional>
#include <memory>

#include "core/graph.h"

namespace opensora::test {

// Calls the work again, as a graph does: with the tensors that it was recorded with, into the output that it had.
class FakeRecorder : public GraphRecorder {
 public:
  std::unique_ptr<Graph> record(const std::function<void()>& work) override {
    ++recorded;
    work();
    struct Fake final : Graph {
      std::function<void()> replay_work;
      void replay() override { replay_work(); }
    };
    auto graph = std::make_unique<Fake>();
    graph->replay_work = [this, work] {
      ++replayed;
      work();
    };
    return graph;
  }

  int recorded = 0, replayed = 0;
};

}  // namespace opensora::test
