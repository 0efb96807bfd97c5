#include "tools/simulation.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <utility>

#include "core/meta_device.h"
#include "models/model_set.h"
#include "models/text_encoder.h"
#include "nn/attention_fp8.h"
#include "run/checkpoints.h"
#include "run/references.h"
#include "run/stage_work.h"
#include "sampling/sampler.h"

namespace opensora::tools {
namespace {

using autoencoder::Half;

at::Tensor meta(at::IntArrayRef shape, at::ScalarType dtype = at::kFloat) {
  return at::empty(shape, at::TensorOptions().device(at::kMeta).dtype(dtype));
}

run::Job on_meta_device(run::Job job) {
  job.device = at::kMeta;
  return job;
}

models::SetOptions without_data(const run::Job& job, at::Device device, bool published,
                                std::function<std::optional<int64_t>()> room) {
  models::SetOptions set = run::set_options(job);
  set.source = published ? models::Source::kPublished : models::Source::kHeaders;
  set.device = device;
  set.room = std::move(room);
  return set;
}

class Simulation {
 public:
  Simulation(const run::Job& job, at::Device device, std::optional<int64_t> room, bool published)
      : job_(on_meta_device(job)),
        device_(device),
        meta_device_(device),
        room_(room),
        models_(models::choice_of(job.request), without_data(job, device, published, [this] { return room_left(); })),
        keeps_models_(job.request.keep_models || models_.options().offload == models::Offload::kNone) {}

  std::vector<StagePlan> run() {
    texts_ = {&job_.text, &job_.negative_text};
    if (job_.makes_picture) texts_.push_back(&job_.picture_text);
    if (job_.request.text_embeddings.empty()) {
      stage("text", Component::kClip, [&](StagePlan& s) { encode_texts(s, Component::kClip); });
      stage("text", Component::kT5, [&](StagePlan& s) { encode_texts(s, Component::kT5); });
    } else {
      stage("text", std::nullopt, [&](StagePlan&) { read_texts(); });
    }
    if (job_.makes_picture) {
      at::Tensor latent;
      stage("image", Component::kImgFlux, [&](StagePlan& s) { latent = sample_picture(s); });
      stage("image", Component::kImgFluxAe, [&](StagePlan& s) { frames_ = {decode_picture(s, latent)}; });
      if (job_.request.image_only) return finish();
    }
    if (job_.condition != sampling::ConditionType::kT2V) {
      stage("encode", Component::kAe, [&](StagePlan& s) { encode(s); });
    }
    at::Tensor latent;
    stage("denoise", Component::kModel, [&](StagePlan& s) { latent = denoise(s); });
    stage("decode", Component::kAe, [&](StagePlan& s) { decode(s, latent); });
    return finish();
  }

 private:
  // A run has less for a model by what it holds already.
  std::optional<int64_t> room_left() const {
    return room_ ? std::optional(*room_ - meta_device_.live_bytes()) : std::nullopt;
  }

  template <typename Work>
  void stage(const char* name, std::optional<Component> component, Work&& work) {
    StagePlan stage{.stage = name, .model = component ? models::component_name(*component) : ""};
    meta_device_.reset_peak();
    meta_device_.reset_counts();
    std::forward<Work>(work)(stage);
    stage.anonymous_bytes = meta_device_.peak_bytes();
    stage.peak_bytes = stage.anonymous_bytes + models_.mapped_bytes();
    if (stage.operators == 0) add_counts(stage, counts(), 1);
    if (component) {
      const models::ModelBytes bytes = models_.bytes(*component);
      stage.stored_bytes = bytes.stored;
      stage.weight_bytes = bytes.held;
      stage.streams_blocks = models_.is_streamed(*component);
      if (!device_.is_cpu()) {
        stage.loaded_bytes = bytes.loaded;
        stage.streamed_bytes = bytes.streamed * stage.forwards;
      }
      const bool is_text_encoder = component == Component::kClip || component == Component::kT5;
      if (!keeps_models_ || is_text_encoder) models_.release(*component);
    }
    stages_.push_back(std::move(stage));
  }

  Counts counts() const { return {meta_device_.flops(), meta_device_.bytes()}; }

  std::vector<StagePlan> finish() {
    stage("write", std::nullopt, [](StagePlan& s) { s.encodes = true; });
    return std::move(stages_);
  }

  void encode_texts(StagePlan& stage, Component component) {
    const int64_t length = models::encoder_max_length(component, job_.request.config);
    stage.forwards = static_cast<int64_t>(texts_.size());
    models_.bind(component);
    meta_device_.reset_counts();  // the copies to the device are not the device's work
    for (sampling::TextEmbedding* text : texts_) {
      (component == Component::kT5 ? text->txt : text->vec) =
          models_.encode_text(component, meta({1, length}, at::kLong));
    }
  }

  // Texts that were encoded before take no more than their embeddings.
  void read_texts() {
    for (sampling::TextEmbedding* text : texts_) {
      *text = {.txt = meta({1, job_.request.config.t5.max_length, job_.request.config.model.context_in_dim}),
               .vec = meta(at::IntArrayRef{1, job_.request.config.model.vec_in_dim})};
    }
  }

  // What the cache keeps beside those of that step: of each branch the two before.
  static std::vector<at::Tensor> kept_velocities(const sampling::SamplerInput& input) {
    std::vector<at::Tensor> kept;
    if (!input.cache.is_on()) return kept;
    const size_t branches = input.distilled_guidance ? 1 : input.condition.defined() ? 3 : 2;
    for (size_t i = 0; i < 2 * branches; ++i) kept.push_back(at::empty_like(input.noise));
    return kept;
  }

  // Runs the first step, which has all branches that any has, and counts it for all. The modulations are made once.
  at::Tensor sample(StagePlan& stage, const diffusion::MMDiT& model, sampling::SamplerInput input, int64_t forwards) {
    input.timesteps = {1, 0};
    const auto modulate = [&](int64_t rows) {
      meta_device_.reset_counts();
      return model.modulations(meta({rows, model.config.hidden_size}, model.computes_in));
    };
    constexpr int64_t kRowsOfAStep = 2;
    modulate(kRowsOfAStep);
    const Counts first_rows = counts();
    // The other steps' are there too, a row for each time and text.
    const int64_t rows = std::min({forwards, 2 * job_.schedule.num_steps, diffusion::kModulationRows});
    const diffusion::Modulations others = modulate(std::max<int64_t>(0, rows - kRowsOfAStep));
    add_counts(stage, counts(), 1);
    const std::vector<at::Tensor> kept = kept_velocities(input);
    meta_device_.reset_counts();
    const sampling::SamplerResult result = sampling::sample(model, input, job_.device);
    const double times = static_cast<double>(forwards) / static_cast<double>(result.forwards);
    add_counts(stage, counts(), times);
    add_counts(stage, first_rows, 1 - times);
    stage.forwards = forwards;
    stage.forwards_are_estimated = job_.cache.threshold.has_value();
    return result.latent;
  }

  at::Tensor sample_picture(StagePlan& stage) {
    const auto model = models_.transformer(Component::kImgFlux);
    return sample(stage, *model, run::picture_input(job_, clock_), run::picture_forwards(job_));
  }

  at::Tensor decode_picture(StagePlan& stage, const at::Tensor& latent) {
    stage.forwards = 1;
    const auto decoder = models_.autoencoder(Component::kImgFluxAe, Half::kDecoder);
    meta_device_.reset_counts();
    return run::decode_picture(*decoder, latent);
  }

  void encode(StagePlan& stage) {
    const auto encoder = models_.autoencoder(Component::kAe, Half::kEncoder);
    meta_device_.reset_counts();
    const int64_t count = sampling::reference_count(job_.condition);
    std::vector<at::Tensor> references;
    references.reserve(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      references.push_back(meta({1, 3, sampling::reference_frames(job_.condition), job_.size.height, job_.size.width}));
    }
    job_.references = run::encode_references(job_, *encoder, references, clock_);
    stage.forwards = progress_.total * count;
  }

  at::Tensor denoise(StagePlan& stage) {
    const auto model = models_.transformer();
    sampling::SamplerInput input = run::video_input(job_, clock_);
    const int64_t forwards = run::sampling_forwards(job_), in_8_bits = run::fp8_forwards(job_);
    // The one step that is simulated stands for all, so it holds what those in 8 bits do.
    nn::Fp8Attention fp8 = nn::Fp8Attention::planned(model->config.blocks(), {.first = 0, .end = 1});
    if (job_.wants_fp8_attention && in_8_bits > 0) input.fp8_attention = &fp8;
    at::Tensor latent = sample(stage, *model, input, forwards);
    if (input.fp8_attention != nullptr) {
      stage.fp8_attention_flops =
          stage.attention_flops * static_cast<double>(in_8_bits) / static_cast<double>(forwards);
    }
    job_.text = job_.negative_text = job_.picture_text = {};
    job_.references.clear();
    return latent;
  }

  // Frames are written while the next are decoded, but never more than two parts of the video wait.
  void decode(StagePlan& stage, const at::Tensor& latent) {
    const auto decoder = models_.autoencoder(Component::kAe, Half::kDecoder);
    meta_device_.reset_counts();
    const int64_t count = job_.request.config.sampling.num_frames;
    run::decode_frames(*decoder, latent, count, clock_, [&](const at::Tensor& frames) {
      stage.encodes = frames.size(0) < count;
      frames_.push_back(frames);
      if (frames_.size() > 2) frames_.pop_front();
    });
    stage.forwards = progress_.total;
  }

  run::Job job_;
  at::Device device_;  // that the meta device stands in for
  const c10::InferenceMode inference_;
  MetaDevice meta_device_;
  std::optional<int64_t> room_;
  models::ModelSet models_;
  bool keeps_models_;
  Progress progress_;  // the last that the stage has told
  const run::StageClock clock_{at::kMeta, [this](const Progress& progress) { progress_ = progress; }};
  std::vector<StagePlan> stages_;
  std::vector<sampling::TextEmbedding*> texts_;  // those of the job that are needed
  std::deque<at::Tensor> frames_;                // of 8 bits, or FLUX's picture
};

}  // namespace

void add_counts(StagePlan& stage, const Counts& counts, double times) {
  const auto& [flops, bytes] = counts;
  stage.flops += times * flops.total();
  stage.attention_flops += times * flops.attention;
  stage.convolution_flops += times * flops.convolution;
  stage.product_bytes += times * bytes.linear;
  stage.attention_bytes += times * bytes.attention;
  stage.convolution_bytes += times * bytes.convolution;
  stage.elementwise_bytes += times * bytes.elementwise;
  stage.operators += times * bytes.operators;
}

std::vector<StagePlan> simulate(const run::Job& job, at::Device device, std::optional<int64_t> room, bool published) {
  return Simulation(job, device, room, published).run();
}

}  // namespace opensora::tools
