// Which steps run the transformer, and what stands for its result at the others (--cache).
//
// Guidance decides what may be forecast. A guided step sums two or three branches, with weights that add up to 1 and
// may be large: where one branch is newer than another, the difference of their ages is multiplied by these weights. So
// at a step all branches are computed, or all are forecast from the same steps. Where guidance oscillates, the step
// after a guided one uses the prompt's branch alone. It is of less weight, and is forecast; the two are a pair. Without
// oscillation each step decides for itself.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <vector>

#include "opensora/cache.h"

namespace opensora::sampling {

// A branch of the guided sum; by which of them a velocity is kept.
enum class BranchKind { kPrompt, kNegative, kUnconditional };
inline constexpr size_t kBranchKinds = 3;

// What is known of a run's steps before the first.
struct StepSchedule {
  std::vector<float> timesteps;  // one more than steps, from 1 down to 0
  std::vector<int> branches;     // of each step

  int64_t steps() const { return static_cast<int64_t>(branches.size()); }
  int most_branches() const;  // that a step has
  // Whether the step has so many: it is guided, and the first of its pair.
  bool is_guided(int64_t step) const;
};

// So many steps at the beginning are always computed, and so is the last one. They lay out what the video shows.
int64_t warm_up_steps(int64_t steps);

// How far the velocity changes from time 1 to each time, relative to itself: the sum of |v - v'| / |v'| over exact
// steps in a row, in mean absolute values of the prompt's branch.
class ChangeCurve {
 public:
  struct Point {
    double time, change;  // from 1 on, downwards; from 0 on, upwards
  };

  // Throws UsageError unless times fall and changes do not.
  explicit ChangeCurve(std::vector<Point> points);

  // Between two points on the line through them; beyond the ends as at the end.
  double at(double time) const;
  const std::vector<Point>& points() const { return points_; }

 private:
  std::vector<Point> points_;
};

// The demo model's, of which a run without calibration goes out.
const ChangeCurve& typical_changes();

// Whether each step is computed: exactly, but of a policy by threshold as `changes` lets expect.
std::vector<bool> computed_steps(const CachePolicy& policy, const StepSchedule& schedule, const ChangeCurve& changes);

// Forwards of the transformer in the computed steps.
int64_t count_forwards(const StepSchedule& schedule, const std::vector<bool>& computed);

// The steps that make a run of `speed` times fewer forwards, or of a few less: as many as that allows, so spaced that
// the velocity changes about as much between them. Throws UsageError where the steps that are always computed are more.
CachePolicy steps_for_speed(double speed, const StepSchedule& schedule, const ChangeCurve& changes);

// What is kept of the last two computed guided steps. A part of SamplerState.
struct CacheState {
  struct Past {
    at::Tensor last, before;  // velocities [1, N, C], float32, on the model's device
  };
  std::array<Past, kBranchKinds> branches;
  double time = 1, time_before = 1;  // of these steps
  // How fast the velocity of the prompt's branch (with guidance of 0, which has none, of the first) changes, relative
  // to itself, in a unit of time; first as a scalar on the device, until it is asked for.
  double rate = 0;
  at::Tensor rate_on_device;
};

// The relative change of the prompt's branch (or, as above, the first) between these steps, in mean absolute values.
// Asks the device.
double last_change(const CacheState& state);

// The cache of one sampling. Off it keeps nothing.
class StepCache {
 public:
  // The state may be that of a sampling which has begun. All must outlive this.
  StepCache(const CachePolicy& policy, const StepSchedule& schedule, CacheState& state)
      : policy_(policy), schedule_(schedule), state_(state) {}

  // Whether the transformer is to run at `step`. By threshold the device is asked for one number, at the first guided
  // step after each that was computed.
  bool computes(int64_t step);
  // Copies the velocity of a branch at a step that is computed.
  void keep(int64_t step, BranchKind branch, const at::Tensor& v);
  // A branch's velocity at a step that is not, where one is kept: of steps that have branches which the last guided
  // step had not, as with guidance of 0 or of the image's scale under oscillation, there is none.
  bool can_forecast(BranchKind branch) const { return state_.branches[static_cast<size_t>(branch)].last.defined(); }
  at::Tensor forecast(int64_t step, BranchKind branch) const;
  // The step is complete: what was kept of it enters the state. A step that fails before is made again by another
  // cache.
  void end_step(int64_t step);

 private:
  const CachePolicy& policy_;
  const StepSchedule& schedule_;
  CacheState& state_;
  std::array<at::Tensor, kBranchKinds> kept_;  // of the step that is being computed
};

}  // namespace opensora::sampling
