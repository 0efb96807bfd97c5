#include "sampling/solver.h"

#include <cmath>
#include <limits>
#include <utility>

#include "opensora/error.h"

namespace opensora::sampling {
namespace {

using Prediction = SolverHistory::Prediction;

// Half of the logarithm of the signal-to-noise ratio, by which multistep solvers measure how far times are apart.
double lambda(double t) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (t >= 1) return -kInfinity;
  return t <= 0 ? kInfinity : std::log((1 - t) / t);
}

// The latent at `to` of one at `from`, if the clean latent is `clean` all the way.
at::Tensor moved(const at::Tensor& x, double from, double to, const at::Tensor& clean) {
  const double kept = to / from;
  return kept * x + (1 - kept) * clean;
}

// Whether there is a prediction to extrapolate from. One of t = 1 is infinitely far away.
bool is_usable(const Prediction& past) { return past.clean.defined() && past.t < 1; }

// What DPM-Solver++(2M) takes for the clean latent on the way from `now` to `to`; so does UniPC's predictor of order 2.
at::Tensor extrapolated(const Prediction& now, const Prediction& past, double to) {
  if (!is_usable(past) || to <= 0) return now.clean;
  const double ratio = (lambda(now.t) - lambda(past.t)) / (lambda(to) - lambda(now.t));
  return now.clean + (now.clean - past.clean) / (2 * ratio);
}

// What UniPC's corrector (bh2) takes for the clean latent on the way from `start` to `end`, which it has reached: of
// order 2 with what was predicted before, else 1. The weights are those of Zhao et al. 2023, section 3.2: they solve
//   w0 + w1 = b1,  r w0 + w1 = b2.
at::Tensor corrected(const Prediction& end, const Prediction& start, const Prediction& before) {
  const at::Tensor change = end.clean - start.clean;
  if (!is_usable(before)) return start.clean + 0.5 * change;
  const double h = lambda(end.t) - lambda(start.t), r = (lambda(before.t) - lambda(start.t)) / h;
  const double b_h = std::expm1(-h), phi2 = b_h / -h - 1, phi3 = phi2 / -h - 0.5;
  const double b1 = phi2 / b_h, b2 = 2 * phi3 / b_h;
  const double w0 = (b1 - b2) / (1 - r), w1 = b1 - w0;
  return start.clean + (w0 / r) * (before.clean - start.clean) + w1 * change;
}

}  // namespace

SolverKind parse_solver(const std::string& word) {
  if (word == "euler") return SolverKind::kEuler;
  if (word == "heun") return SolverKind::kHeun;
  if (word == "dpm++2m") return SolverKind::kDpmPlusPlus2M;
  if (word == "unipc") return SolverKind::kUniPC;
  throw UsageError("`sampler`: expected euler, heun, dpm++2m or unipc, found \"" + word + "\"");
}

std::vector<Evaluation> evaluations(SolverKind kind, int64_t steps) {
  std::vector<Evaluation> list;
  for (int64_t step = 0; step < steps; ++step) {
    const bool twice = kind == SolverKind::kHeun && step + 1 < steps;
    list.push_back({.step = step, .time = step, .ends_step = !twice});
    if (twice) list.push_back({.step = step, .time = step + 1});
  }
  return list;
}

Solver::Solver(SolverKind kind, std::vector<float> timesteps, std::vector<bool> lowered)
    : kind_(kind), timesteps_(std::move(timesteps)), lowered_(std::move(lowered)) {}

SolverUpdate Solver::advance(const Evaluation& at, const at::Tensor& x, const at::Tensor& velocity,
                             const SolverHistory& history) const {
  if (kind_ == SolverKind::kHeun) return heun(at, x, velocity, history);
  if (kind_ != SolverKind::kEuler) return multistep(at, x, velocity, history);
  return {x + (time(at.step + 1) - time(at.step)) * velocity, {}};
}

SolverUpdate Solver::heun(const Evaluation& at, const at::Tensor& x, const at::Tensor& velocity,
                          const SolverHistory& history) const {
  const double dt = time(at.step + 1) - time(at.step);
  SolverUpdate next;
  if (at.time > at.step) {
    next.x = history.x + (dt / 2) * (history.velocity + velocity);
    return next;
  }
  next.x = x + dt * velocity;
  if (!at.ends_step) {
    next.history.x = x;
    next.history.velocity = velocity;
  }
  return next;
}

SolverUpdate Solver::multistep(const Evaluation& at, const at::Tensor& x, const at::Tensor& velocity,
                               const SolverHistory& history) const {
  const double t = time(at.step), to = time(at.step + 1);
  const Prediction now{x - t * velocity, t};
  SolverUpdate next{.x = x, .history = history};
  SolverHistory::Predictions& past = next.history.by_guidance[lowered_[at.step] ? 1 : 0];
  if (kind_ == SolverKind::kUniPC) {
    if (history.x.defined() && lowered_[at.step] == lowered_[at.step - 1]) {
      next.x = moved(history.x, past.last.t, t, corrected(now, past.last, past.before));
    }
    next.history.x = next.x;
  }
  past = {.last = now, .before = past.last};
  next.x = moved(next.x, t, to, extrapolated(now, past.before, to));
  return next;
}

}  // namespace opensora::sampling
