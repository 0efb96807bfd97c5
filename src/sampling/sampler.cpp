#include "sampling/sampler.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "core/trace.h"
#include "diffusion/sequence.h"
#include "opensora/error.h"

namespace opensora::sampling {
namespace {

struct Branch {
  BranchKind kind;
  const TextEmbedding* text;
  bool conditioned;
  std::vector<double> weights;  // one, or one a latent frame
  at::Tensor by_frame = {};     // the latter on the model's device, float32 [1, frames, 1, 1]
};

// What stays the same over all steps, on the model's device. Texts are embedded, as the transformer's blocks take them.
struct Session {
  const diffusion::MMDiT& model;
  diffusion::RotaryEmbedding pe;
  diffusion::Workspace work;
  TextEmbedding prompt, negative;
  at::Tensor cond;      // [1, N, C + p * p], packed; undefined: text alone
  at::Tensor guidance;  // [1], or undefined
  int64_t latent_frames;
};

// The modulations of some evaluations in a row, computed together.
struct StepModulations {
  std::vector<std::pair<int64_t, const TextEmbedding*>> rows;  // index of the time, and text, that each row is for
  diffusion::Modulations all;
  int64_t end = 0;  // the first evaluation that is not among them

  diffusion::Modulations of(int64_t time, const TextEmbedding* text) const {
    const auto row = std::find(rows.begin(), rows.end(), std::pair(time, text));
    return all.rows(row - rows.begin(), 1);
  }
};

// What changes from step to step beside the latent, as one list.
std::vector<at::Tensor> list_of(const diffusion::Modulations& mods) {
  std::vector<at::Tensor> list;
  for (const auto& block : mods.double_blocks) list.insert(list.end(), {block.img, block.txt});
  list.insert(list.end(), mods.single_blocks.begin(), mods.single_blocks.end());
  list.push_back(mods.final_layer);
  return list;
}

diffusion::Modulations modulations_of(const std::vector<at::Tensor>& list, const MMDiTConfig& config) {
  diffusion::Modulations mods;
  auto next = list.begin();
  for (int64_t i = 0; i < config.depth; ++i, next += 2) mods.double_blocks.push_back({next[0], next[1]});
  mods.single_blocks.assign(next, next + config.depth_single_blocks);
  mods.final_layer = list.back();
  return mods;
}

// The transformer's forwards, recorded for each kind of branch by itself, and replayed where the recorder allows it.
class Forwards {
 public:
  Forwards(const Session& session, const SamplerInput& input)
      : session_(session), recorder_(input.graphs), trial_(input.graph_trial), fp8_attention_(input.fp8_attention) {}

  // Those that follow are of this step, from 0.
  void begin_step(int64_t step) { in_8_bits_ = fp8_attention_ != nullptr && fp8_attention_->is_for(step); }

  // [1, N, C] in the model's dtype, valid until the next call.
  at::Tensor operator()(const Branch& branch, const at::Tensor& img, const diffusion::Modulations& mods) {
    Replayed& forward = of(branch);
    replayed_ += forward.is_replayed() ? 1 : 0;
    std::vector<at::Tensor> inputs = list_of(mods);
    inputs.push_back(img);
    if (!in_8_bits_ || fp8_attention_->is_settled()) return forward(inputs);
    const at::Tensor exact =
        run({branch.text, branch.conditioned, true}, inputs);  // never recorded: only this one compares
    fp8_attention_->settle();
    return exact;
  }

  int64_t replayed() const { return replayed_; }
  bool dropped() const {
    return std::any_of(kinds_.begin(), kinds_.end(), [](const auto& kind) { return kind.second.was_dropped(); });
  }
  bool needless() const {
    return std::any_of(kinds_.begin(), kinds_.end(), [](const auto& kind) { return kind.second.is_needless(); });
  }

 private:
  using Kind =
      std::tuple<const TextEmbedding*, bool, bool>;  // whether it is conditioned, whether attention is in 8 bits

  Replayed& of(const Branch& branch) {
    const Kind kind{branch.text, branch.conditioned, in_8_bits_};
    const auto run_kind = [this, kind](const std::vector<at::Tensor>& inputs) { return run(kind, inputs); };
    return kinds_.try_emplace(kind, recorder_, "the transformer's forward", run_kind, trial_).first->second;
  }

  // `inputs`: list_of() the modulations, and the latent.
  at::Tensor run(const Kind& kind, const std::vector<at::Tensor>& inputs) const {
    const auto& [text, conditioned, in_8_bits] = kind;
    const diffusion::Modulations mods = modulations_of({inputs.begin(), inputs.end() - 1}, session_.model.config);
    return session_.model.forward(diffusion::MMDiTStep{.img = inputs.back(),
                                                       .txt = text->txt,
                                                       .cond = conditioned ? session_.cond : at::Tensor(),
                                                       .modulations = mods,
                                                       .fp8_attention = in_8_bits ? fp8_attention_ : nullptr},
                                  session_.pe, session_.work);
  }

  const Session& session_;
  GraphRecorder* recorder_;
  GraphTrial trial_;
  nn::Fp8Attention* fp8_attention_;
  bool in_8_bits_ = false;
  std::map<Kind, Replayed> kinds_;
  int64_t replayed_ = 0;
};

std::vector<Branch> needed_branches(const SamplerInput& input, const Session& session, int64_t step) {
  if (session.guidance.defined()) return {{BranchKind::kPrompt, &session.prompt, false, {1}}};
  const BranchWeights weights =
      branch_weights(input.guidance, {.step = step,
                                      .steps = static_cast<int64_t>(input.timesteps.size()) - 1,
                                      .latent_frames = session.latent_frames,
                                      .has_condition = session.cond.defined()});
  std::vector<Branch> branches;
  const auto add = [&](BranchKind kind, const TextEmbedding& text, bool conditioned, const std::vector<double>& of) {
    if (is_needed(of)) branches.push_back({kind, &text, conditioned, of});
  };
  add(BranchKind::kPrompt, session.prompt, true, weights.prompt);
  add(BranchKind::kNegative, session.negative, true, weights.negative);
  add(BranchKind::kUnconditional, session.negative, false, weights.unconditional);
  return branches;
}

// The branches of all steps. Weights by latent frame go to the device together: a copy within a step would have the
// host wait for the device, and then the device for the host.
std::vector<std::vector<Branch>> branches_by_step(const SamplerInput& input, const Session& session) {
  const auto steps = static_cast<int64_t>(input.timesteps.size()) - 1;
  std::vector<std::vector<Branch>> by_step;
  std::vector<Branch*> by_frame;
  std::vector<double> weights;  // theirs
  by_step.reserve(static_cast<size_t>(steps));
  for (int64_t i = 0; i < steps; ++i) by_step.push_back(needed_branches(input, session, i));
  for (std::vector<Branch>& branches : by_step) {
    for (Branch& branch : branches) {
      if (branch.weights.size() == 1) continue;
      by_frame.push_back(&branch);
      weights.insert(weights.end(), branch.weights.begin(), branch.weights.end());
    }
  }
  if (by_frame.empty()) return by_step;
  const at::Tensor all = at::tensor(weights, at::kFloat).to(session.work.x.device());
  const at::Tensor rows = all.view({-1, 1, session.latent_frames, 1, 1});
  for (size_t i = 0; i < by_frame.size(); ++i) by_frame[i]->by_frame = rows[static_cast<int64_t>(i)];
  return by_step;
}

// Of each step, whether oscillation lowers its guidance.
std::vector<bool> lowered_steps(const GuidanceOptions& guidance, bool has_condition, int64_t steps) {
  std::vector<bool> lowered;
  for (int64_t i = 0; i < steps; ++i) {
    const bool text = oscillating_scale(guidance.text, i, guidance.text_osci) != guidance.text;
    const bool image = oscillating_scale(guidance.image, i, guidance.image_osci) != guidance.image;
    lowered.push_back(text || (image && has_condition));
  }
  return lowered;
}

// v [1, N, C] times the branch's weight, or its weights of the latent frames.
at::Tensor scaled(const at::Tensor& v, const Branch& branch) {
  if (!branch.by_frame.defined()) return v * branch.weights.front();
  return (v.view({1, branch.by_frame.size(1), -1, v.size(2)}) * branch.by_frame).view_as(v);
}

// Computes the modulations of the evaluations from `first` on, with a row for each text that is used at a time.
StepModulations modulations_from(const Session& session, const SamplerInput& input,
                                 const std::vector<Evaluation>& evaluations,
                                 const std::vector<std::vector<Branch>>& branches, int64_t first) {
  StepModulations some;
  std::vector<float> times;
  std::vector<at::Tensor> vecs;
  const auto count = static_cast<int64_t>(evaluations.size());
  for (some.end = first; some.end < count; ++some.end) {
    const size_t before = some.rows.size();
    const Evaluation& at = evaluations[some.end];
    for (const Branch& branch : branches[at.step]) {
      const std::pair row(at.time, branch.text);
      if (std::find(some.rows.begin(), some.rows.end(), row) == some.rows.end()) some.rows.push_back(row);
    }
    if (before > 0 && static_cast<int64_t>(some.rows.size()) > diffusion::kModulationRows) {
      some.rows.resize(before);
      break;
    }
  }
  for (const auto& [time, text] : some.rows) {
    times.push_back(input.timesteps[time]);
    vecs.push_back(text->vec);
  }
  const auto rows = static_cast<int64_t>(some.rows.size());
  const diffusion::MMDiTInput vectors{
      .img = {},
      .txt = {},
      .y_vec = at::cat(vecs),
      .timesteps = rounded_times(at::tensor(times, at::kFloat), input.timestep_rounding, session.model.dtype)
                       .to(session.work.x.device()),
      .cond = {},
      .guidance = session.guidance.defined() ? session.guidance.expand({rows}) : at::Tensor()};
  some.all = session.model.modulations(session.model.embed_vector(vectors));
  return some;
}

// The guided velocity of an evaluation: [1, N, C], float32. The branches' are computed, or else forecast.
at::Tensor guided_velocity(Forwards& forwards, const at::Tensor& img, const Evaluation& at,
                           const std::vector<Branch>& branches, const StepModulations& modulations, StepCache& cache,
                           bool computes) {
  at::Tensor velocity;
  for (const Branch& branch : branches) {
    at::Tensor v;
    if (computes) {
      v = forwards(branch, img, modulations.of(at.time, branch.text)).to(at::kFloat).contiguous();
      cache.keep(at.step, branch.kind, v);
    } else {
      v = cache.forecast(at.step, branch.kind);
    }
    v = scaled(v, branch);
    velocity = velocity.defined() ? velocity + v : v;
  }
  return velocity;
}

bool can_forecast(const StepCache& cache, const std::vector<Branch>& branches) {
  return std::all_of(branches.begin(), branches.end(),
                     [&](const Branch& branch) { return cache.can_forecast(branch.kind); });
}

StepSchedule schedule_of(const SamplerInput& input, const std::vector<std::vector<Branch>>& by_step) {
  StepSchedule schedule{.timesteps = input.timesteps, .branches = {}};
  for (const std::vector<Branch>& branches : by_step) schedule.branches.push_back(static_cast<int>(branches.size()));
  return schedule;
}

void check_finite(const at::Tensor& latent, int64_t step, int64_t steps) {
  const at::Tensor finite = at::isfinite(latent).all();
  if (finite.is_meta() || finite.item<bool>()) return;
  throw NumericError("the latent is not finite after step " + std::to_string(step) + " of " + std::to_string(steps) +
                     "; try `dtype` bf16 or fp32, or check the checkpoint");
}

// [1, N, C * p * p] -> as `noise`: [1, C, T, H, W].
at::Tensor unpacked(const at::Tensor& img, const at::Tensor& noise, int64_t patch) {
  return diffusion::unpack(img, noise.size(2), noise.size(3) / patch, noise.size(4) / patch, patch);
}

// The text as the blocks take it: the transformer's own layer for it runs once for each text, not for each forward.
TextEmbedding embedded(const diffusion::MMDiT& model, const TextEmbedding& text, at::Device device) {
  if (!text.txt.defined()) return {};
  const TextEmbedding here = text.to(device, model.dtype);
  return {model.embed_text(here.txt), here.vec};
}

Session make_session(const diffusion::MMDiT& model, const SamplerInput& input, at::Device device) {
  const int64_t patch = model.config.patch_size, frames = input.noise.size(2);
  const at::Tensor ids =
      at::cat({diffusion::text_ids(input.prompt.txt.size(1)),
               diffusion::image_ids(frames, input.noise.size(3) / patch, input.noise.size(4) / patch)});
  Session session{.model = model,
                  .pe = diffusion::rotary_embedding(ids.to(device), model.config),
                  .work = model.workspace(1, ids.size(0), device),
                  .prompt = embedded(model, input.prompt, device),
                  .negative = embedded(model, input.negative, device),
                  .cond = {},
                  .guidance = {},
                  .latent_frames = frames};
  if (input.condition.defined()) session.cond = diffusion::pack(input.condition.to(device, model.dtype), patch);
  if (input.distilled_guidance) {
    const at::Tensor guidance = at::full({1}, *input.distilled_guidance, at::TensorOptions().dtype(at::kFloat));
    session.guidance = rounded_times(guidance, input.timestep_rounding, model.dtype).to(device);
  }
  return session;
}

// The `index`-th of `count` values from `first` to `last`.
double evenly_spaced(double first, double last, int64_t count, int64_t index) {
  return count == 1 ? first : first + (last - first) * static_cast<double>(index) / static_cast<double>(count - 1);
}

// One value, or one a latent frame.
std::vector<double> image_scales(const GuidanceOptions& options, const GuidanceStep& at) {
  const double scale = oscillating_scale(options.image, at.step, options.image_osci);
  if (!options.temporal_osci || scale <= 1) return {scale};
  const double highest = evenly_spaced(scale, 1, at.steps + 1, at.step);
  std::vector<double> scales;
  scales.reserve(static_cast<size_t>(at.latent_frames));
  for (int64_t t = 0; t < at.latent_frames; ++t) scales.push_back(evenly_spaced(1, highest, at.latent_frames, t));
  return scales;
}

}  // namespace

TimestepRounding parse_timestep_rounding(const std::string& word) {
  if (word == "none") return TimestepRounding::kNone;
  if (word == "official") return TimestepRounding::kOfficial;
  if (word == "eager") return TimestepRounding::kEager;
  throw UsageError("`timestep_rounding`: expected none, official or eager, found \"" + word + "\"");
}

at::Tensor rounded_times(const at::Tensor& t, TimestepRounding rounding, at::ScalarType dtype) {
  constexpr double kTimeFactor = 1000;  // timestep_embedding()'s
  if (rounding == TimestepRounding::kNone) return t;
  at::Tensor rounded = t.to(dtype).to(at::kFloat);
  if (rounding == TimestepRounding::kOfficial) return rounded;
  return (rounded * kTimeFactor).to(dtype).to(at::kFloat) / kTimeFactor;
}

double estimate_flow_shift(int64_t tokens_per_frame, int64_t latent_frames) {
  constexpr double kTokens0 = 256, kShift0 = 1, kTokens1 = 4096, kShift1 = 3;
  const double slope = (kShift1 - kShift0) / (kTokens1 - kTokens0);
  const double spatial = slope * static_cast<double>(tokens_per_frame) + (kShift0 - slope * kTokens0);
  return spatial * std::sqrt(static_cast<double>(latent_frames));
}

std::vector<float> timesteps(const ScheduleOptions& options) {
  // Computed in tensors of float32, as in the official code: the same steps then give the same bits.
  at::Tensor t = at::linspace(1, 0, options.num_steps + 1, at::kFloat);
  if (options.shift) {
    const double alpha =
        options.flow_shift.value_or(estimate_flow_shift(options.tokens_per_frame, options.latent_frames));
    t = alpha * t / (1 + (alpha - 1) * t);
  }
  t = t.contiguous();
  return {t.const_data_ptr<float>(), t.const_data_ptr<float>() + t.numel()};
}

double oscillating_scale(double scale, int64_t step, bool oscillate) {
  constexpr int64_t kFirstOscillatingStep = 10;
  return oscillate && step >= kFirstOscillatingStep && step % 2 == 1 ? 1.0 : scale;
}

bool is_needed(const std::vector<double>& weights) {
  return std::any_of(weights.begin(), weights.end(), [](double weight) { return weight != 0; });
}

int BranchWeights::forwards() const {
  return int{is_needed(prompt)} + int{is_needed(negative)} + int{is_needed(unconditional)};
}

BranchWeights branch_weights(const GuidanceOptions& options, const GuidanceStep& at) {
  const double text = oscillating_scale(options.text, at.step, options.text_osci);
  if (!at.has_condition) return {.prompt = {text}, .negative = {1 - text}, .unconditional = {0}};
  BranchWeights weights{.prompt = {text}, .negative = {}, .unconditional = {}};
  for (const double image : image_scales(options, at)) {
    weights.negative.push_back(image - text);
    weights.unconditional.push_back(1 - image);
  }
  return weights;
}

TextEmbedding TextEmbedding::to(at::Device device, at::ScalarType dtype) const {
  if (!txt.defined()) return {};
  return {txt.to(device, dtype), vec.to(device, dtype)};
}

SamplerResult sample(const diffusion::MMDiT& model, const SamplerInput& input, at::Device device) {
  const int64_t patch = model.config.patch_size;
  const Session session = make_session(model, input, device);

  Forwards forwards(session, input);
  SamplerResult result;
  SamplerState begun;
  SamplerState& state = input.state != nullptr ? *input.state : begun;
  at::Tensor& img = state.img;  // [1, N, C]
  if (!img.defined()) img = diffusion::pack(input.noise.to(device), patch);
  const std::vector<std::vector<Branch>> by_step = branches_by_step(input, session);
  const auto steps = static_cast<int64_t>(by_step.size());
  const Solver solver(input.solver, input.timesteps, lowered_steps(input.guidance, session.cond.defined(), steps));
  const std::vector<Evaluation> evaluations = sampling::evaluations(input.solver, steps);
  const StepSchedule schedule = schedule_of(input, by_step);
  StepCache cache(input.cache, schedule, state.cache);
  StepModulations modulations;
  modulations.end = state.evaluation;
  for (int64_t e = state.evaluation; e < static_cast<int64_t>(evaluations.size()); ++e) {
    const Evaluation& at = evaluations[e];
    const std::vector<Branch>& branches = by_step[at.step];
    if (e == modulations.end) modulations = modulations_from(session, input, evaluations, by_step, e);
    const TraceSpan span("step", at.step + 1);
    forwards.begin_step(at.step);
    const bool computes = cache.computes(at.step) || !can_forecast(cache, branches);
    const at::Tensor velocity = guided_velocity(forwards, img, at, branches, modulations, cache, computes);
    SolverUpdate next = solver.advance(at, img, velocity, state.history);
    if (at.ends_step) check_finite(next.x, at.step + 1, steps);
    cache.end_step(at.step);
    const at::Tensor noisy = std::exchange(img, std::move(next.x));
    state.history = std::move(next.history);
    state.step = at.step + (at.ends_step ? 1 : 0);
    state.evaluation = e + 1;
    if (computes) state.forwards += static_cast<int64_t>(branches.size());
    if (!at.ends_step) continue;
    if (computes) state.computed.push_back(at.step + 1);
    if (input.on_estimate) {
      const double t = input.timesteps[at.time];
      input.on_estimate(at.step + 1, steps, [&] { return unpacked(noisy - t * velocity, input.noise, patch); });
    }
    if (input.on_step) input.on_step(at.step + 1, steps);
  }
  result.forwards = state.forwards;
  result.computed = state.computed;
  result.replayed = forwards.replayed();
  result.dropped_graphs = forwards.dropped();
  result.needless_graphs = forwards.needless();
  result.latent = unpacked(img, input.noise, patch);
  return result;
}

}  // namespace opensora::sampling
