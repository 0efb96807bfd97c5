// Graphs, with recorders that keep what is called: on the CPU there is no other.
#include "core/graph.h"

#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include "core/launch_timing.h"
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

TEST(Replayed, WhatTheTrialIsAgainstIsCalledAndNeverRecorded) {
  FakeRecorder recorder;
  Doubler doubler;
  int trials = 0;
  Replayed step(
      &recorder, "a step", [&](const std::vector<at::Tensor>& inputs) { return doubler(inputs); },
      [&](const std::string&, const std::function<void()>& work) {
        ++trials;
        work();
        return false;
      });
  for (int i = 0; i < 5; ++i) {
    const float value = static_cast<float>(i);
    EXPECT_TRUE(at::equal(step({values(value), at::Tensor()}), values(2 * value))) << i;
    EXPECT_EQ(step.is_needless(), i >= 1) << "the first call is not warm: " << i;
  }
  EXPECT_EQ(doubler.calls, 5) << "none besides those that were asked for";
  EXPECT_EQ(trials, 1);
  EXPECT_EQ(recorder.recorded, 0);
  EXPECT_FALSE(step.was_dropped());
}

TEST(Replayed, WhatTheTrialIsForIsRecorded) {
  FakeRecorder recorder;
  Doubler doubler;
  Replayed step(
      &recorder, "a step", [&](const std::vector<at::Tensor>& inputs) { return doubler(inputs); },
      [](const std::string&, const std::function<void()>& work) {
        work();
        return true;
      });
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(at::equal(step({values(3), at::Tensor()}), values(6)));
  EXPECT_EQ(recorder.recorded, 1);
  EXPECT_TRUE(step.is_replayed());
  EXPECT_FALSE(step.is_needless());
}

TEST(LaunchTiming, AGraphIsOfUseWhereTheDeviceTakesLessThanTwiceTheHostsTime) {
  EXPECT_TRUE(is_bound_by_launching({.host = 0.010, .device = 0.011}));
  EXPECT_TRUE(is_bound_by_launching({.host = 0.010, .device = 0.0199}));
  EXPECT_FALSE(is_bound_by_launching({.host = 0.010, .device = 0.020}));
  EXPECT_FALSE(is_bound_by_launching({.host = 0.060, .device = 8.6})) << "an H100 at 768px";
}

// A host that waits in a full queue would seem to launch as slowly as the device works.
TEST(LaunchTiming, AllLaunchesTakeWhatTheFirstOnesTook) {
  EXPECT_DOUBLE_EQ(launching_seconds(250, 0.002, 10'000), 0.08);
  EXPECT_DOUBLE_EQ(launching_seconds(250, 0.002, 250), 0.002);
}

TEST(LaunchTiming, WorkRunsOnceAndItsOperatorsAreCounted) {
  const at::Tensor x = at::zeros({2}), one = at::ones({2});
  const auto add = [&](int times) {
    return time_launching(at::kCPU, [&] {
      for (int i = 0; i < times; ++i) x.add_(one);
    });
  };
  const int64_t in_one = add(1).operators;  // an operator may call others
  ASSERT_GT(in_one, 0);
  for (const int times : {2, 500}) {
    const LaunchTiming timing = add(times);
    EXPECT_EQ(timing.operators, times * in_one);
    EXPECT_GT(timing.host, 0);
    EXPECT_GT(timing.device, 0);
  }
  EXPECT_EQ(x[0].item<float>(), 503);
  EXPECT_FALSE(at::hasThreadLocalCallbacks());
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
