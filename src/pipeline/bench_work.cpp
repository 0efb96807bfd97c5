#include "pipeline/bench_work.h"

#include "pipeline/output_writer.h"
#include "sampling/sampler.h"

namespace opensora::pipeline {
namespace {

using autoencoder::Half;
using models::ModelSet;

// Numbers of a tensor where any do: evenly spaced in [-1, 1].
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
BenchWork bind_load(const BenchSetup& /*setup*/, ModelSet& models) {
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

BenchWork bind_text(const BenchSetup& setup, ModelSet& models) {
  const Config& config = setup.request.config;
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

BenchWork bind_step(const BenchSetup& setup, ModelSet& models) {
  const Config& config = setup.request.config;
  const auto model = models.transformer();
  const auto text = [&] {
    return sampling::TextEmbedding{
        .txt = numbers({1, config.t5.max_length, config.model.context_in_dim}, models.device()),
        .vec = numbers({1, config.model.vec_in_dim}, models.device())};
  };
  sampling::GuidanceOptions guidance = guidance_options(config, sampling::ConditionType::kT2V);
  guidance.text_osci = false;  // all steps have the same branches
  const sampling::LatentShape& s = setup.plan.latent_shape;
  const at::Tensor noise = models.device().is_meta()
                               ? numbers({1, s.channels, s.frames, s.height, s.width}, models.device())
                               : sampling::make_noise(s, setup.plan.seed);
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
    for (int64_t i = 0; i <= times; ++i)
      steps.timesteps.push_back(1 - static_cast<float>(i) / static_cast<float>(times));
    steps.on_step = [&](int64_t, int64_t) { lap(); };
    sampling::sample(*model, steps, device);
  };
}

BenchWork bind_encode(const BenchSetup& setup, ModelSet& models) {
  const auto encoder = models.autoencoder(Component::kAe, Half::kEncoder);
  const at::Tensor picture = numbers({1, 3, 1, setup.plan.size.height, setup.plan.size.width}, models.device());
  return [=](int64_t times, const std::function<void()>& lap) {
    for (int64_t i = 0; i < times; ++i) {
      encoder->encode(picture);
      lap();
    }
  };
}

BenchWork bind_decode(const BenchSetup& setup, ModelSet& models) {
  const auto decoder = models.autoencoder(Component::kAe, Half::kDecoder);
  const sampling::LatentShape& s = setup.plan.latent_shape;
  const at::Tensor latent = numbers({1, s.channels, s.frames, s.height, s.width}, models.device());
  return [=](int64_t times, const std::function<void()>& lap) {
    for (int64_t i = 0; i < times; ++i) {
      decoder->decode(latent);
      lap();
    }
  };
}

// A gradient that moves: encoders are as fast as pictures are plain, and noise would be neither.
at::Tensor moving_gradient(const BenchSetup& setup, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
  const int64_t count = setup.request.config.sampling.num_frames;
  const at::Tensor t = at::arange(count, options).view({1, 1, count, 1, 1});
  const at::Tensor y = at::arange(setup.plan.size.height, options).view({1, 1, 1, -1, 1});
  const at::Tensor x = at::arange(setup.plan.size.width, options).view({1, 1, 1, 1, -1});
  const at::Tensor colour = at::arange(3, options).view({1, 3, 1, 1, 1});
  return at::sin((x + 2 * t) / 17 + colour) * at::cos((y - t) / 23);
}

BenchWork bind_write(const BenchSetup& setup, ModelSet& models) {
  const at::Tensor frames = moving_gradient(setup, models.device());
  return [=, &setup](int64_t times, const std::function<void()>& lap) {
    GenerateRequest request = setup.request;
    Plan plan = setup.plan;
    request.overwrite = true;
    plan.output = setup.folder / (frames.size(2) == 1 ? "bench.png" : "bench.mp4");
    const StageClock clock(plan.device, {});
    for (int64_t i = 0; i < times; ++i) {
      write_output(request, plan, frames, clock);
      lap();
    }
  };
}

int64_t no_tokens(const BenchSetup&) { return 0; }
int64_t text_tokens(const BenchSetup& setup) { return setup.request.config.t5.max_length; }
int64_t step_tokens(const BenchSetup& setup) { return setup.plan.image_tokens() + text_tokens(setup); }

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

}  // namespace opensora::pipeline
