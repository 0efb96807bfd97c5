#include "sampling/step_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/text.h"
#include "opensora/config.h"
#include "opensora/error.h"

namespace opensora {
namespace {

constexpr std::string_view kPairs = "pairs", kSteps = "steps:";

// "1-6,8,50" -> numbers; empty for what is no such list.
std::vector<int64_t> parse_steps(std::string_view text) {
  std::vector<int64_t> steps;
  while (true) {
    const std::string_view part = text.substr(0, text.find(','));
    const size_t dash = part.find('-');
    const auto first = parse_whole<int64_t>(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : parse_whole<int64_t>(part.substr(dash + 1));
    const int64_t least = steps.empty() ? 1 : steps.back() + 1;
    if (!first || !last || *first < least || *last < *first || *last > kMaxSteps) return {};
    for (int64_t step = *first; step <= *last; ++step) steps.push_back(step);
    if (part.size() == text.size()) break;
    text.remove_prefix(part.size() + 1);
  }
  return steps.front() == 1 ? steps : std::vector<int64_t>();
}

std::string steps_text(const std::vector<int64_t>& steps) {
  std::string text;
  for (size_t first = 0, last = 0; first < steps.size(); first = last + 1) {
    last = first;
    while (last + 1 < steps.size() && steps[last + 1] == steps[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += first == last ? std::to_string(steps[first]) : fmt::format("{}-{}", steps[first], steps[last]);
  }
  return text;
}

}  // namespace

std::optional<CachePolicy> parse_cache(std::string_view text) {
  CachePolicy policy;
  if (text == "none") return policy;
  if (text.starts_with(kSteps)) {
    policy.steps = parse_steps(text.substr(kSteps.size()));
    return policy.steps.empty() ? std::nullopt : std::optional(policy);
  }
  if (!text.starts_with(kPairs)) return std::nullopt;
  text.remove_prefix(kPairs.size());
  policy.threshold = kDefaultCacheThreshold;
  if (text.empty()) return policy;
  if (text.front() != ':') return std::nullopt;
  policy.threshold = parse_decimal(std::string(text.substr(1)));
  const bool is_in_range = policy.threshold && *policy.threshold > 0 && *policy.threshold <= kMaxCacheThreshold;
  return is_in_range ? std::optional(policy) : std::nullopt;
}

std::string cache_text(const CachePolicy& policy) {
  if (policy.threshold) return fmt::format("pairs:{}", *policy.threshold);
  return policy.steps.empty() ? "none" : std::string(kSteps) + steps_text(policy.steps);
}

namespace sampling {
namespace {

// The velocity goes on along the line through its last two values, though by 3/4 as much, and never by more than these
// differ. So the errors were smallest with the demo model, of slopes of 1, 3/4 and 1/2 and of farthest ways from 1 on.
at::Tensor extrapolated(const CacheState::Past& past, double distance) {
  constexpr double kSlope = 0.75, kFarthest = 1;
  if (!past.before.defined()) return past.last;
  return past.last + std::min(kSlope * distance, kFarthest) * (past.last - past.before);
}

// In mean absolute values; a scalar on the device.
at::Tensor relative_change(const at::Tensor& v, const at::Tensor& before) {
  return (v - before).abs().mean() / before.abs().mean();
}

// The guided steps that a threshold computes, where the velocity changes along `changes`.
std::vector<bool> spaced_by(double threshold, const StepSchedule& schedule, const ChangeCurve& changes) {
  const int64_t steps = schedule.steps(), warm_up = warm_up_steps(steps);
  std::vector<bool> computed(steps);
  double reached = 0;
  bool has_guided = false;  // else there is nothing to forecast from
  const int most = schedule.most_branches();
  for (int64_t step = 0; step < steps; ++step) {
    const double change = changes.at(schedule.timesteps[step]);
    const bool is_guided = schedule.branches[step] == most, is_due = is_guided && change - reached >= threshold;
    computed[step] = step < warm_up || step == steps - 1 || is_due || !has_guided;
    if (!computed[step] || !is_guided) continue;
    has_guided = true;
    reached = change;
  }
  return computed;
}

}  // namespace

int StepSchedule::most_branches() const { return *std::max_element(branches.begin(), branches.end()); }

bool StepSchedule::is_guided(int64_t step) const { return branches[step] == most_branches(); }

int64_t warm_up_steps(int64_t steps) {
  constexpr double kShare = 0.12;
  return std::max<int64_t>(3, std::llround(kShare * static_cast<double>(steps)));
}

ChangeCurve::ChangeCurve(std::vector<Point> points) : points_(std::move(points)) {
  const auto is_behind = [](const Point& a, const Point& b) { return !(b.time < a.time && b.change >= a.change); };
  const bool is_curve =
      points_.size() >= 2 && std::adjacent_find(points_.begin(), points_.end(), is_behind) == points_.end();
  if (!is_curve) throw UsageError("a curve of changes: expected two or more points whose times fall and changes grow");
}

double ChangeCurve::at(double time) const {
  const auto next =
      std::find_if(points_.begin(), points_.end(), [&](const Point& point) { return point.time <= time; });
  if (next == points_.end()) return points_.back().change;
  if (next == points_.begin()) return next->change;
  const Point &a = *std::prev(next), &b = *next;
  return a.change + (b.change - a.change) * (a.time - time) / (a.time - b.time);
}

const ChangeCurve& typical_changes() {
  // The mean of 20 exact runs: t2v at guidance 1, 4 and 7.5 and i2v at 7.5, 30 and 50 steps, with oscillation and
  // without.
  static const ChangeCurve curve({{1, 0},
                                  {0.99, 0.034},
                                  {0.97, 0.114},
                                  {0.94, 0.180},
                                  {0.9, 0.232},
                                  {0.83, 0.276},
                                  {0.65, 0.345},
                                  {0.45, 0.409},
                                  {0.27, 0.496},
                                  {0.15, 0.604},
                                  {0.1, 0.675},
                                  {0.052, 0.811}});
  return curve;
}

std::vector<bool> computed_steps(const CachePolicy& policy, const StepSchedule& schedule, const ChangeCurve& changes) {
  if (policy.threshold) return spaced_by(*policy.threshold, schedule, changes);
  std::vector<bool> computed(schedule.steps(), policy.steps.empty());
  for (const int64_t step : policy.steps) computed.at(step - 1) = true;
  return computed;
}

int64_t count_forwards(const StepSchedule& schedule, const std::vector<bool>& computed) {
  int64_t forwards = 0;
  for (int64_t step = 0; step < schedule.steps(); ++step) forwards += computed[step] ? schedule.branches[step] : 0;
  return forwards;
}

CachePolicy steps_for_speed(double speed, const StepSchedule& schedule, const ChangeCurve& changes) {
  constexpr int kHalvings = 40;
  const auto forwards = [&](double threshold) {
    return static_cast<double>(count_forwards(schedule, spaced_by(threshold, schedule, changes)));
  };
  const auto all = static_cast<double>(count_forwards(schedule, std::vector<bool>(schedule.steps(), true)));
  double low = 0, high = 2 * changes.points().back().change;  // too many forwards, and the fewest
  if (forwards(high) * speed > all) {
    throw UsageError(fmt::format("`speed`: {} steps of {} forwards become at most {:.3g} times as few, found {:g}",
                                 schedule.steps(), all, all / forwards(high), speed));
  }
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = (low + high) / 2;
    (forwards(middle) * speed > all ? low : high) = middle;
  }
  CachePolicy policy;
  const std::vector<bool> computed = spaced_by(high, schedule, changes);
  for (int64_t step = 0; step < schedule.steps(); ++step) {
    if (computed[step]) policy.steps.push_back(step + 1);
  }
  return policy;
}

double last_change(const CacheState& state) {
  const auto* const past =
      std::find_if(state.branches.begin(), state.branches.end(),
                   [](const CacheState::Past& branch) { return branch.last.defined() && branch.before.defined(); });
  return past != state.branches.end() ? relative_change(past->last, past->before).item<double>() : 0;
}

bool StepCache::computes(int64_t step) {
  if (!policy_.threshold) {
    return policy_.steps.empty() || std::binary_search(policy_.steps.begin(), policy_.steps.end(), step + 1);
  }
  if (step < warm_up_steps(schedule_.steps()) || step == schedule_.steps() - 1) return true;
  if (!schedule_.is_guided(step)) return false;
  if (state_.rate_on_device.defined()) {
    state_.rate = std::exchange(state_.rate_on_device, {}).item<double>() / (state_.time_before - state_.time);
  }
  return state_.rate * (state_.time - schedule_.timesteps[step]) >= *policy_.threshold;
}

void StepCache::keep(int64_t step, BranchKind branch, const at::Tensor& v) {
  if (!policy_.is_on() || !schedule_.is_guided(step)) return;
  kept_[static_cast<size_t>(branch)] = v.clone();  // it is only lent
}

void StepCache::end_step(int64_t step) {
  const auto* const v = std::find_if(kept_.begin(), kept_.end(), [](const at::Tensor& kept) { return kept.defined(); });
  if (v == kept_.end()) return;
  const at::Tensor& before = state_.branches[static_cast<size_t>(v - kept_.begin())].last;
  state_.rate_on_device = policy_.threshold && before.defined() ? relative_change(*v, before) : at::Tensor();
  state_.time_before = std::exchange(state_.time, schedule_.timesteps[step]);
  for (size_t i = 0; i < kBranchKinds; ++i) {
    CacheState::Past& past = state_.branches[i];
    past.before = std::exchange(past.last, std::exchange(kept_[i], {}));
  }
}

at::Tensor StepCache::forecast(int64_t step, BranchKind branch) const {
  const double distance = (state_.time - schedule_.timesteps[step]) / (state_.time_before - state_.time);
  return extrapolated(state_.branches[static_cast<size_t>(branch)], distance);
}

}  // namespace sampling
}  // namespace opensora
