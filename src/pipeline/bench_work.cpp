#include "pipeline/bench_work.h"

#include <algorithm>
#include <utility>

#include "autoencoder/autoencoder.h"
#include "diffusion/mmdit.h"
#include "pipeline/output_writer.h"
#include "sampling/sampler.h"
#include "text/clip_encoder.h"
#include "text/t5_encoder.h"

namespace opensora::pipeline {
namespace {

using autoencoder::Half;

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

std::shared_ptr<const autoencoder::Autoencoder> make_video_autoencoder(const BenchSetup& setup, const Weights& weights,
                                                                       Half half) {
  return std::visit(
      [&](const auto& ae) -> std::shared_ptr<const autoencoder::Autoencoder> {
        return autoencoder::make_autoencoder(weights, ae, half);
      },
      setup.request.config.ae);
}

// Files are mapped, tensors found and checked, and on a GPU copied.
BenchWork bind_load(const BenchSetup& setup, const BenchPlace& place) {
  return [=, &setup](int64_t times, const std::function<void()>& lap) {
    for (int64_t i = 0; i < times; ++i) {
      for (const BenchModel model :
           {BenchModel::kClip, BenchModel::kT5, BenchModel::kTransformer, BenchModel::kAutoencoder}) {
        bind_all(model, setup, place.weights(model));
      }
      lap();
    }
  };
}

BenchWork bind_text(const BenchSetup& setup, const BenchPlace& place) {
  const auto clip = std::make_shared<text::ClipEncoder>(place.weights(BenchModel::kClip), setup.clip);
  const auto t5 = std::make_shared<text::T5Encoder>(place.weights(BenchModel::kT5), setup.t5);
  const at::Tensor clip_ids = token_ids(setup.request.config.clip.max_length, setup.clip.vocab_size, place.device);
  const at::Tensor t5_ids = token_ids(setup.request.config.t5.max_length, setup.t5.vocab_size, place.device);
  return [=](int64_t times, const std::function<void()>& lap) {
    for (int64_t i = 0; i < times; ++i) {
      clip->forward(clip_ids);
      t5->forward(t5_ids);
      lap();
    }
  };
}

BenchWork bind_step(const BenchSetup& setup, const BenchPlace& place) {
  const Config& config = setup.request.config;
  const auto model = std::make_shared<diffusion::MMDiT>(place.weights(BenchModel::kTransformer), config.model);
  const auto text = [&] {
    return sampling::TextEmbedding{.txt = numbers({1, config.t5.max_length, config.model.context_in_dim}, place.device),
                                   .vec = numbers({1, config.model.vec_in_dim}, place.device)};
  };
  sampling::GuidanceOptions guidance = guidance_options(config, sampling::ConditionType::kT2V);
  guidance.text_osci = false;  // all steps have the same branches
  const sampling::LatentShape& s = setup.plan.latent_shape;
  const at::Tensor noise = place.device.is_meta() ? numbers({1, s.channels, s.frames, s.height, s.width}, place.device)
                                                  : sampling::make_noise(s, setup.plan.seed);
  const sampling::SamplerInput input{.noise = noise,
                                     .prompt = text(),
                                     .negative = text(),
                                     .condition = {},
                                     .timesteps = {},
                                     .guidance = guidance,
                                     .distilled_guidance = {},
                                     .on_step = {}};
  return [=, device = place.device](int64_t times, const std::function<void()>& lap) {
    sampling::SamplerInput steps = input;
    for (int64_t i = 0; i <= times; ++i)
      steps.timesteps.push_back(1 - static_cast<float>(i) / static_cast<float>(times));
    steps.on_step = [&](int64_t, int64_t) { lap(); };
    sampling::sample(*model, steps, device);
  };
}

BenchWork bind_encode(const BenchSetup& setup, const BenchPlace& place) {
  const auto encoder = make_video_autoencoder(setup, place.weights(BenchModel::kAutoencoder), Half::kEncoder);
  const at::Tensor picture = numbers({1, 3, 1, setup.plan.size.height, setup.plan.size.width}, place.device);
  return [=](int64_t times, const std::function<void()>& lap) {
    for (int64_t i = 0; i < times; ++i) {
      encoder->encode(picture);
      lap();
    }
  };
}

BenchWork bind_decode(const BenchSetup& setup, const BenchPlace& place) {
  const auto decoder = make_video_autoencoder(setup, place.weights(BenchModel::kAutoencoder), Half::kDecoder);
  const sampling::LatentShape& s = setup.plan.latent_shape;
  const at::Tensor latent = numbers({1, s.channels, s.frames, s.height, s.width}, place.device);
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

BenchWork bind_write(const BenchSetup& setup, const BenchPlace& place) {
  const at::Tensor frames = moving_gradient(setup, place.device);
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
      {"load", {}, bind_load, no_tokens},
      {"text", {BenchModel::kClip, BenchModel::kT5}, bind_text, text_tokens},
      {"step", {BenchModel::kTransformer}, bind_step, step_tokens},
      {"decode", {BenchModel::kAutoencoder}, bind_decode, no_tokens},
      {"encode", {BenchModel::kAutoencoder}, bind_encode, no_tokens},
      {"write", {}, bind_write, no_tokens},
  };
  return kinds;
}

text::ClipConfig proportioned_clip(const Config& config) {
  text::ClipConfig clip;
  clip.hidden_size = config.model.vec_in_dim;
  clip.intermediate_size = 4 * clip.hidden_size;
  clip.num_attention_heads = std::max<int64_t>(1, clip.hidden_size / 64);
  clip.max_position_embeddings = config.clip.max_length;
  return clip;
}

text::T5Config proportioned_t5(const Config& config) {
  text::T5Config t5;
  t5.d_model = config.model.context_in_dim;
  t5.d_ff = t5.d_model * 5 / 2;
  t5.num_heads = std::max<int64_t>(1, t5.d_model / t5.d_kv);
  return t5;
}

void bind_all(BenchModel model, const BenchSetup& setup, const Weights& weights) {
  switch (model) {
    case BenchModel::kClip:
      text::ClipEncoder(weights, setup.clip);
      break;
    case BenchModel::kT5:
      text::T5Encoder(weights, setup.t5);
      break;
    case BenchModel::kTransformer:
      diffusion::MMDiT(weights, setup.request.config.model);
      break;
    case BenchModel::kAutoencoder:
      make_video_autoencoder(setup, weights, Half::kBoth);
      break;
  }
}

}  // namespace opensora::pipeline
