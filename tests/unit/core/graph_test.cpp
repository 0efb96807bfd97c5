// Graphs, with recorders that keep what is called: on the CPU there is no other.
#include "core/graph.h"

#include <gtest/gtest.h>
#include "support/contains.h"
#include "support/fake_recorder.h"
#include "support/log_capture.h"

namespace opensora {
namespace {

using test::FakeRecorder;

struct Doubler {
  int calls = 0;
  at::Tensor operator()(const std::vector<at::Tensor>& inputs) {
    ++calls;
    return inputs[0] * 2 + (inputs[1].defined() ? inputs[1] : at::zeros({1}));
  }
};

Replayed make(GraphRecorder* recorder, Doubler& doubler) {
  return {recorder, "a step", [&doubler](const std::vector<at::Tensor>& inputs) { return doubler(inputs); }};
}

at::Tensor values(float value) { return at::full({3}, value); }

TEST(Replayed, IsRecordedOnTheSecondCallAndReplayedFromThen) {
  FakeRecorder recorder;
  Doubler doubler;
  Replayed step = make(&recorder, doubler);
  for (int i = 0; i < 5; ++i) {
    const float value = static_cast<float>(i);
    EXPECT_TRUE(at::equal(step({values(value), at::Tensor()}), values(2 * value))) << i;
    EXPECT_EQ(step.is_replayed(), i >= 1) << i;
  }
  EXPECT_EQ(recorder.recorded, 1);
  EXPECT_EQ(recorder.replayed, 4);  // the first to be compared
  EXPECT_FALSE(step.was_dropped());
}

TEST(Replayed, InputsAreCopiedSoThatTheCallersMayChange) {
  FakeRecorder recorder;
  Doubler doubler;
  Replayed step = make(&recorder, doubler);
  at::Tensor input = values(1), other = values(10);
  for (int i = 0; i < 3; ++i) step({input, other});
  input = values(4);
  other = values(20);
  EXPECT_TRUE(at::equal(step({input, other}), values(28)));
}

TEST(Replayed, AReplayThatDiffersIsDroppedWithAWarning) {
  FakeRecorder recorder;
  int calls = 0;
  // What is recorded is not what runs: as of a function that depends on more than its inputs.
  Replayed step(&recorder, "a step", [&](const std::vector<at::Tensor>& inputs) {
    return inputs[0] + static_cast<float>(++calls > 2 ? 0.5 : 0);
  });
  const test::LogCapture log;
  for (int i = 0; i < 4; ++i) step({values(1)});
  EXPECT_TRUE(step.was_dropped());
  EXPECT_FALSE(step.is_replayed());
  EXPECT_EQ(recorder.recorded, 1);
  EXPECT_TRUE(test::contains(log.text(), "a step: no graph is used: its first replay differs")) << log.text();
  EXPECT_TRUE(test::contains(log.text(), "5.0e-01")) << log.text();
}

TEST(Replayed, ARecordingThatFailsIsDroppedWithAWarning) {
  struct Failing final : GraphRecorder {
    Graph record(const std::function<void()>&) override { TORCH_CHECK(false, "not while recording"); }
  };
  Failing recorder;
  Doubler doubler;
  Replayed step = make(&recorder, doubler);
  const test::LogCapture log;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(step({values(3), at::Tensor()}), values(6)));
  EXPECT_TRUE(step.was_dropped());
  EXPECT_TRUE(test::contains(log.text(), "not while recording")) << log.text();
}

TEST(Replayed, OtherShapesAreNotReplayed) {
  FakeRecorder recorder;
  Doubler doubler;
  Replayed step = make(&recorder, doubler);
  for (int i = 0; i < 3; ++i) step({values(1), at::Tensor()});
  EXPECT_TRUE(at::equal(step({at::ones({5}), at::Tensor()}), at::full({5}, 2.F)));
  EXPECT_TRUE(at::equal(step({values(1), values(5)}), values(7))) << "an input that was undefined";
  EXPECT_TRUE(step.is_replayed());
}

TEST(Replayed, WithoutARecorderItIsTheFunction) {
  Doubler doubler;
  Replayed step = make(nullptr, doubler);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(step({values(3), at::Tensor()}), values(6)));
  EXPECT_EQ(doubler.calls, 3);
  EXPECT_FALSE(step.is_replayed());
  EXPECT_EQ(make_graph_recorder(at::kCPU), nullptr);
  EXPECT_EQ(why_no_graphs(at::kCPU), "cpu");
}

}  // namespace
}  // namespace opensora
