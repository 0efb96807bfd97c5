// Solvers of the flow's equation, dx/dt = v(x, t), from noise at t = 1 to the clean latent at t = 0 (--sampler).
//
// On the way a latent is x = (1 - t) x0 + t noise, and the velocity predicts the clean latent: x0 = x - t v. Multistep
// solvers extrapolate x0 in lambda = log((1 - t) / t), from what earlier steps predicted. Where guidance oscillates,
// neighbouring steps predict different latents, and their difference is no slope: a step looks back at steps of its own
// guidance alone. Measured on the demo model (guidance 7.5, 50 steps, 5 videos; relative L2 error of the latent against
// one made with six of Heun's steps in each, median and worst): UniPC .014 and .063, looking back at any step .021 and
// .137, Euler .047 and .080. With a history for each branch DPM-Solver++ was worse than Euler.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace opensora::sampling {

enum class SolverKind {
  kEuler,          // order 1. What the official code does
  kHeun,           // order 2: the velocity again at the step's end, with the step's guidance; not at the last step
  kDpmPlusPlus2M,  // order 2: DPM-Solver++(2M); the first two steps and the last one are of order 1
  kUniPC,          // order 3: UniPC-2, which takes the same steps, and corrects each by the next one's velocity; not
                   // where guidance changes between the two. Near t = 1 and t = 0 all are of order 2 at most
};

// Of "euler", "heun", "dpm++2m", "unipc". Throws UsageError for another word.
SolverKind parse_solver(const std::string& word);

// An evaluation of the velocity.
struct Evaluation {
  int64_t step = 0;       // from 0: whose guidance it has
  int64_t time = 0;       // index of the time at which it is
  bool ends_step = true;  // with it, the latent comes to the next step
};

// In the order in which they are made.
std::vector<Evaluation> evaluations(SolverKind kind, int64_t steps);

// What a solver remembers of earlier evaluations.
struct SolverHistory {
  struct Prediction {
    at::Tensor clean;  // x - t v; undefined: none
    double t = 1;
  };
  struct Predictions {
    Prediction last, before;
  };
  std::array<Predictions, 2> by_guidance;  // of steps with full guidance, and with lowered
  at::Tensor x, velocity;                  // at the beginning of the step (Heun) or of the one before (UniPC: x alone)
};

struct SolverUpdate {
  at::Tensor x;  // where the next evaluation is to be
  SolverHistory history;
};

class Solver {
 public:
  // `timesteps`: one more than steps, from at most 1 down to 0. `lowered`: of each step, whether its guidance is the
  // lower one of two that alternate.
  Solver(SolverKind kind, std::vector<float> timesteps, std::vector<bool> lowered);

  // From x and the velocity there. Nothing waits for the device.
  SolverUpdate advance(const Evaluation& at, const at::Tensor& x, const at::Tensor& velocity,
                       const SolverHistory& history) const;

 private:
  SolverUpdate heun(const Evaluation& at, const at::Tensor& x, const at::Tensor& velocity,
                    const SolverHistory& history) const;
  SolverUpdate multistep(const Evaluation& at, const at::Tensor& x, const at::Tensor& velocity,
                         const SolverHistory& history) const;
  double time(int64_t index) const { return timesteps_[index]; }

  SolverKind kind_;
  std::vector<float> timesteps_;
  std::vector<bool> lowered_;
};

}  // namespace opensora::sampling
