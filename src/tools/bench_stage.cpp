#include "tools/bench_stage.h"

#include <chrono>

#include "core/device.h"
#include "core/meta_device.h"
#include "core/stopwatch.h"
#include "core/trace.h"
#include "opensora/error.h"
#include "run/checkpoints.h"
#include "run/output_writer.h"
#include "run/stage.h"
#include "sampling/sampler.h"

namespace opensora::tools {
namespace {

namespace fs = std::filesystem;

using autoencoder::Half;
using models::ModelSet;

// A tensor whose numbers do not matter: evenly spaced in [-1, 1].
at::Tensor numbers(at::IntArrayRef shape, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kFloat);
  if (device.is_meta()) return at::empty(shape, options.device(device));
  return at::linspace(-1, 1, c10::multiply_integers(shape), options).view(shape).to(device);
}

// [1, length], of any words.
at::Tensor token_ids(int64_t length, int64_t vocabulary, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kLong);
  if (device.is_meta()) return at::empty({1, length}, options.device(device));
  return at::arange(length, options).remainder(vocabulary).unsqueeze(0);
}

// Files are mapped, tensors found and checked, and on a GPU copied.
BenchWork bind_load(const run::Job& /*job*/, ModelSet& models) {
  return [&models](int64_t times, const std::function<void()>& lap) {
    for (int64_t i = 0; i < times; ++i) {
      for (const Component component : {Component::kClip, Component::kT5, Component::kModel, Component::kAe}) {
        models.bind(component);
        models.release(component);
      }
      lap();
    }
  };
}

BenchWork bind_text(const run::Job& job, ModelSet& models) {
  const Config& config = job.request.config;
  const auto ids = [&](Component component, int64_t length) {
    return token_ids(length, models.vocab_size(component), models.device());
  };
  const at::Tensor clip_ids = ids(Component::kClip, config.clip.max_length);
  const at::Tensor t5_ids = ids(Component::kT5, config.t5.max_length);
  return [=, &models](int64_t times, const std::function<void()>& lap) {
    for (int64_t i = 0; i < times; ++i) {
      models.encode_text(Component::kClip, clip_ids);
      models.encode_text(Component::kT5, t5_ids);
      lap();
    }
  };
}

BenchWork bind_step(const run::Job& job, ModelSet& models) {
  const Config& config = job.request.config;
  const auto model = models.transformer();
  const auto text = [&] {
    return sampling::TextEmbedding{
        .txt = numbers({1, config.t5.max_length, config.model.context_in_dim}, models.device()),
        .vec = numbers({1, config.model.vec_in_dim}, models.device())};
  };
  sampling::GuidanceOptions guidance = run::guidance_options(config, sampling::ConditionType::kT2V);
  guidance.text_osci = false;  // all steps have the same branches
  const sampling::LatentShape& s = job.latent_shape;
  const at::Tensor noise = models.device().is_meta()
                               ? numbers({1, s.channels, s.frames, s.height, s.width}, models.device())
                               : sampling::make_noise(s, job.seed);
  const sampling::SamplerInput input{.noise = noise,
                                     .prompt = text(),
                                     .negative = text(),
                                     .condition = {},
                                     .timesteps = {},
                                     .guidance = guidance,
                                     .distilled_guidance = {},
                                     .on_step = {}};
  return [=, device = models.device()](int64_t times, const std::function<void()>& lap) {
    sampling::SamplerInput steps = input;
    for (int64_t i = 0; i <= times; ++i) {
      steps.timesteps.push_back(1 - static_cast<float>(i) / static_cast<float>(times));
    }
    steps.on_step = [&](int64_t, int64_t) { lap(); };
    sampling::sample(*model, steps, device);
  };
}

BenchWork bind_encode(const run::Job& job, ModelSet& models) {
  const auto encoder = models.autoencoder(Component::kAe, Half::kEncoder);
  const at::Tensor picture = numbers({1, 3, 1, job.size.height, job.size.width}, models.device());
  return [=](int64_t times, const std::function<void()>& lap) {
    for (int64_t i = 0; i < times; ++i) {
      encoder->encode(picture);
      lap();
    }
  };
}

BenchWork bind_decode(const run::Job& job, ModelSet& models) {
  const auto decoder = models.autoencoder(Component::kAe, Half::kDecoder);
  const sampling::LatentShape& s = job.latent_shape;
  const at::Tensor latent = numbers({1, s.channels, s.frames, s.height, s.width}, models.device());
  return [=](int64_t times, const std::function<void()>& lap) {
    for (int64_t i = 0; i < times; ++i) {
      decoder->decode(latent);
      lap();
    }
  };
}

// A gradient that moves. Encoders are the faster the plainer the pictures are, and noise would be slowest.
at::Tensor moving_gradient(const run::Job& job, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
  const int64_t count = job.request.config.sampling.num_frames;
  const at::Tensor t = at::arange(count, options).view({1, 1, count, 1, 1});
  const at::Tensor y = at::arange(job.size.height, options).view({1, 1, 1, -1, 1});
  const at::Tensor x = at::arange(job.size.width, options).view({1, 1, 1, 1, -1});
  const at::Tensor colour = at::arange(3, options).view({1, 3, 1, 1, 1});
  return at::sin((x + 2 * t) / 17 + colour) * at::cos((y - t) / 23);
}

BenchWork bind_write(const run::Job& job, ModelSet& models) {
  const at::Tensor frames = moving_gradient(job, models.device());
  return [=, &job](int64_t times, const std::function<void()>& lap) {
    const run::StageClock clock(job.device, {});
    for (int64_t i = 0; i < times; ++i) {
      run::write_output(job, frames, clock);
      lap();
    }
  };
}

int64_t no_tokens(const run::Job&) { return 0; }
int64_t text_tokens(const run::Job& job) { return job.request.config.t5.max_length; }
int64_t step_tokens(const run::Job& job) { return job.image_tokens() + text_tokens(job); }

using Clock = std::chrono::steady_clock;

// Weights are held as in a run of the same flags.
models::ModelSet bench_models(const run::Job& job, models::Source source) {
  models::SetOptions options = run::set_options(job);
  options.source = source;
  return models::ModelSet(models::choice_of(job.request), options);
}

// Of one run, as two less one: what is done only once does not count.
FlopCount count_flops(const run::Job& job, const BenchKind& kind) {
  if (kind.components.empty()) return {};
  MetaDevice meta_device(job.device);
  models::ModelSet models = models_without_data(job);
  const auto work = kind.bind(job, models);
  const auto flops_of = [&](int64_t times) {
    meta_device.reset_counts();
    work(times, [] {});
    return meta_device.flops();
  };
  const FlopCount once = flops_of(1), twice = flops_of(2);
  return {.linear = twice.linear - once.linear,
          .convolution = twice.convolution - once.convolution,
          .attention = twice.attention - once.attention};
}

// Seconds of each of so many runs, after `warmup` others.
std::vector<double> time_work(const run::Job& job, const BenchKind& kind, int64_t warmup, int64_t repetitions,
                              const ProgressCallback& progress) {
  const at::Device device = job.device;
  const TraceSpan span(kind.stage);
  if (progress) progress({kind.stage, 0, 0});
  models::ModelSet models = bench_models(job, has_weights(job) ? models::Source::kFiles : models::Source::kRandom);
  const auto work = kind.bind(job, models);
  std::vector<double> seconds;
  Clock::time_point start = Clock::now();
  work(warmup + repetitions, [&] {
    synchronize(device);
    seconds.push_back(seconds_since(start));
    if (progress) progress({kind.stage, static_cast<int64_t>(seconds.size()), warmup + repetitions});
    start = Clock::now();
  });
  seconds.erase(seconds.begin(), seconds.begin() + warmup);
  return seconds;
}

}  // namespace

const std::vector<BenchKind>& bench_kinds() {
  static const std::vector<BenchKind> kinds = {
      {"load", {Component::kClip, Component::kT5, Component::kModel, Component::kAe}, bind_load, no_tokens},
      {"text", {Component::kClip, Component::kT5}, bind_text, text_tokens},
      {"step", {Component::kModel}, bind_step, step_tokens},
      {"decode", {Component::kAe}, bind_decode, no_tokens},
      {"encode", {Component::kAe}, bind_encode, no_tokens},
      {"write", {}, bind_write, no_tokens},
  };
  return kinds;
}

bool has_weights(const run::Job& job) { return !job.request.model_dir.empty(); }

models::ModelSet models_without_data(const run::Job& job) {
  return bench_models(job, has_weights(job) ? models::Source::kHeaders : models::Source::kPublished);
}

run::Job make_bench_job(const GenerateRequest& run, const fs::path& folder) {
  GenerateRequest request = run;
  request.config.cond_type = "t2v";
  request.config.use_t2i2v = request.image_only = request.metadata = false;
  request.references.clear();
  request.overwrite = true;
  if (!request.seed) request.seed = 0;
  run::Job job = run::make_job(request);
  job.output = folder / (request.config.sampling.num_frames == 1 ? "bench.png" : "bench.mp4");
  return job;
}

BenchStage run_bench_stage(const run::Job& job, const BenchKind& kind, int64_t warmup, int64_t repetitions,
                           const ProgressCallback& progress) {
  BenchStage stage{.stage = kind.stage, .tokens = kind.tokens(job), .seconds = {}, .share_of_peak = {}};
  const FlopCount flops = count_flops(job, kind);
  stage.linear_flops = flops.linear;
  stage.convolution_flops = flops.convolution;
  stage.attention_flops = flops.attention;
  reset_peak_bytes(job.device);
  try {
    stage.seconds = time_work(job, kind, warmup, repetitions, progress);
  } catch (...) {
    run::rethrow_with_stage(kind.stage, job.device);
  }
  stage.peak_resident_bytes = peak_resident_bytes();
  stage.peak_device_bytes = peak_device_bytes(job.device);
  release_cached_memory(job.device);
  return stage;
}

}  // namespace opensora::tools
