#include "pipeline/simulation.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "autoencoder/autoencoder.h"
#include "core/meta_device.h"
#include "diffusion/mmdit.h"
#include "io/checkpoint.h"
#include "io/model_files.h"
#include "pipeline/component_files.h"
#include "pipeline/frames.h"
#include "pipeline/text_model.h"
#include "sampling/sampler.h"
#include "text/clip_encoder.h"
#include "text/t5_encoder.h"

namespace opensora::pipeline {
namespace {

at::Tensor meta(at::IntArrayRef shape, at::ScalarType dtype = at::kFloat) {
  return at::empty(shape, at::TensorOptions().device(at::kMeta).dtype(dtype));
}

at::Tensor meta(const sampling::LatentShape& s) { return meta({1, s.channels, s.frames, s.height, s.width}); }

// A checkpoint's shapes, in the dtype that a device would hold them in, and how many bytes were asked for.
class PlannedWeights final : public WeightSource {
 public:
  PlannedWeights(std::shared_ptr<const io::Checkpoint> checkpoint, at::Device device, at::ScalarType dtype)
      : checkpoint_(std::move(checkpoint)), converts_(!device.is_cpu()), dtype_(dtype) {}

  std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef) const override {
    if (!contains(name)) return std::nullopt;
    const io::TensorInfo& info = checkpoint_->info(name);
    const bool converted = converts_ && c10::isFloatingType(info.dtype);
    at::Tensor tensor = meta(info.shape, converted ? dtype_ : info.dtype);
    stored_bytes += static_cast<int64_t>(info.bytes());
    weight_bytes += static_cast<int64_t>(tensor.nbytes());
    return tensor;
  }
  bool contains(const std::string& name) const override { return checkpoint_->contains(name); }
  std::vector<std::string> names() const override { return {}; }  // unused tensors are generate()'s business
  std::string description() const override { return checkpoint_->description(); }

  mutable int64_t stored_bytes = 0, weight_bytes = 0;

 private:
  std::shared_ptr<const io::Checkpoint> checkpoint_;
  bool converts_;
  at::ScalarType dtype_;
};

// The forwards of a run's sampling: a step's branches are not the same in every step.
int64_t count_forwards(const sampling::GuidanceOptions& guidance, const Plan& plan) {
  int64_t forwards = 0;
  for (int64_t step = 0; step < plan.schedule.num_steps; ++step) {
    forwards += sampling::branch_weights(guidance, {.step = step,
                                                    .steps = plan.schedule.num_steps,
                                                    .latent_frames = plan.latent_shape.frames,
                                                    .has_condition = plan.condition != sampling::ConditionType::kT2V})
                    .forwards();
  }
  return forwards;
}

class Simulation {
 public:
  Simulation(const GenerateRequest& request, const Plan& plan, at::Device device)
      : request_(request), config_(request.config), plan_(plan), device_(device), meta_device_(device) {}

  std::vector<StagePlan> run() {
    const int64_t prompts = plan_.makes_picture ? 3 : 2;
    stage("text", "clip", [&](StagePlan& s) { vec_ = clip(s, prompts); });
    stage("text", "t5", [&](StagePlan& s) { txt_ = t5(s, prompts); });
    std::vector<at::Tensor> references;
    if (plan_.makes_picture) {
      at::Tensor latent;
      stage("image", "img_flux", [&](StagePlan& s) { latent = sample_picture(s); });
      stage("image", "img_flux_ae", [&](StagePlan& s) { video_ = decode_picture(s, latent); });
      if (request_.image_only) return finish();
    }
    if (plan_.condition != sampling::ConditionType::kT2V) {
      stage("encode", "ae", [&](StagePlan& s) { references = encode(s); });
    }
    at::Tensor latent;
    stage("denoise", "model", [&](StagePlan& s) { latent = denoise(s, references); });
    stage("decode", "ae", [&](StagePlan& s) { video_ = decode(s, latent); });
    return finish();
  }

 private:
  template <typename Work>
  void stage(const char* name, const char* model, Work&& work) {
    StagePlan stage{.stage = name, .model = model};
    meta_device_.reset_peak();
    meta_device_.reset_flops();
    work(stage);
    stage.peak_bytes = meta_device_.peak_bytes();
    if (stage.flops == 0) stage.flops = meta_device_.flops().total();
    stages_.push_back(std::move(stage));
  }

  std::vector<StagePlan> finish() {
    stage("write", "", [](StagePlan&) {});  // the video and one frame of it
    return std::move(stages_);
  }

  // Binds a model, and keeps it if the run does.
  template <typename Make>
  auto bind(StagePlan& stage, const std::filesystem::path& file, Make&& make) {
    const auto source = std::make_shared<PlannedWeights>(io::Checkpoint::open(file), device_, plan_.dtype);
    auto model = make(Weights(source, at::kMeta, plan_.dtype));
    stage.stored_bytes = source->stored_bytes;
    stage.weight_bytes = source->weight_bytes;
    return model;
  }

  template <typename Model>
  std::shared_ptr<Model> kept(std::shared_ptr<Model> model) {
    if (request_.keep_models) kept_.push_back(model);
    return model;
  }

  std::vector<at::Tensor> clip(StagePlan& stage, int64_t prompts) {
    const io::TextEncoderFiles files = io::find_text_encoder(request_.model_dir, io::Component::kClip,
                                                             config_.clip.from_pretrained, request_.files.clip_l);
    const text::ClipConfig sizes = clip_config(files, *io::Checkpoint::open(files.weights));
    check_clip_width(files, sizes, config_.model);
    const auto encoder =
        bind(stage, files.weights, [&](const Weights& w) { return std::make_unique<text::ClipEncoder>(w, sizes); });
    stage.forwards = prompts;
    std::vector<at::Tensor> vec;
    for (int64_t i = 0; i < prompts; ++i) {
      vec.push_back(encoder->forward(meta({1, config_.clip.max_length}, at::kLong)).pooled);
    }
    return vec;
  }

  std::vector<at::Tensor> t5(StagePlan& stage, int64_t prompts) {
    const io::TextEncoderFiles files =
        io::find_text_encoder(request_.model_dir, io::Component::kT5, config_.t5.from_pretrained, request_.files.t5xxl);
    const text::T5Config sizes = t5_config(files, *io::Checkpoint::open(files.weights));
    check_t5_width(files, sizes, config_.model);
    const auto encoder =
        bind(stage, files.weights, [&](const Weights& w) { return std::make_unique<text::T5Encoder>(w, sizes); });
    stage.forwards = prompts;
    std::vector<at::Tensor> txt;
    for (int64_t i = 0; i < prompts; ++i) {
      txt.push_back(encoder->forward(meta({1, config_.t5.max_length}, at::kLong)));
    }
    return txt;
  }

  // One step of so many; its first has all the branches that any has.
  at::Tensor sample(StagePlan& stage, const diffusion::MMDiT& model, sampling::SamplerInput input, int64_t forwards) {
    input.timesteps = {1, 0};
    // The other steps' modulations are there too, a row for each time and text.
    const int64_t rows = std::min({forwards, 2 * plan_.schedule.num_steps, sampling::kModulationRows});
    const diffusion::Modulations others =
        model.modulations(meta({std::max<int64_t>(0, rows - 2), model.config.hidden_size}, plan_.dtype));
    meta_device_.reset_flops();
    const sampling::SamplerResult result = sampling::sample(model, input, at::kMeta);
    stage.forwards = forwards;
    stage.flops = meta_device_.flops().total() / static_cast<double>(result.forwards) * static_cast<double>(forwards);
    return result.latent;
  }

  at::Tensor sample_picture(StagePlan& stage) {
    const auto model = kept(bind(stage, image_transformer_file(request_), [&](const Weights& w) {
      return std::make_shared<diffusion::MMDiT>(w, config_.text_to_image->model);
    }));
    const at::Tensor noise = meta(plan_.picture_latent);
    return sample(stage, *model,
                  {.noise = noise,
                   .prompt = {txt_[2], vec_[2]},
                   .negative = {},
                   .condition = {},
                   .timesteps = {},
                   .guidance = {},
                   .distilled_guidance = 4.0,
                   .on_step = {}},
                  plan_.schedule.num_steps);
  }

  at::Tensor decode_picture(StagePlan& stage, const at::Tensor& latent) {
    const auto autoencoder = kept(bind(stage, image_autoencoder_file(request_), [&](const Weights& w) {
      return std::shared_ptr(autoencoder::make_autoencoder(w, config_.text_to_image->ae, autoencoder::Half::kDecoder));
    }));
    stage.forwards = 1;
    at::Tensor picture = autoencoder->decode(latent);
    check_finite_frames(picture, "FLUX's picture");
    return picture;
  }

  std::shared_ptr<autoencoder::Autoencoder> video_autoencoder(StagePlan& stage, autoencoder::Half half) {
    if (request_.keep_models) half = autoencoder::Half::kBoth;
    return bind(stage, video_autoencoder_file(request_), [&](const Weights& w) {
      return std::visit([&](const auto& ae) { return std::shared_ptr(autoencoder::make_autoencoder(w, ae, half)); },
                        config_.ae);
    });
  }

  // As bind() leaves it for a second stage that finds the autoencoder kept.
  std::shared_ptr<autoencoder::Autoencoder> video_autoencoder_again(StagePlan& stage, autoencoder::Half half) {
    if (!kept_autoencoder_) {
      auto autoencoder = video_autoencoder(stage, half);
      if (request_.keep_models) kept_autoencoder_ = autoencoder;
      autoencoder_bytes_ = {stage.stored_bytes, stage.weight_bytes};
      return autoencoder;
    }
    std::tie(stage.stored_bytes, stage.weight_bytes) = autoencoder_bytes_;
    return kept_autoencoder_;
  }

  std::vector<at::Tensor> encode(StagePlan& stage) {
    const auto autoencoder = video_autoencoder_again(stage, autoencoder::Half::kEncoder);
    const int64_t count = sampling::reference_count(plan_.condition);
    std::vector<at::Tensor> frames, latents;
    for (int64_t i = 0; i < count; ++i) {
      frames.push_back(meta({1, 3, sampling::reference_frames(plan_.condition), plan_.size.height, plan_.size.width}));
    }
    autoencoder::EncodeOptions options;
    options.progress = [&](int64_t, int64_t total) { stage.forwards = total * count; };
    for (const at::Tensor& reference : frames)
      latents.push_back(autoencoder->encode(reference, options).to(at::kFloat));
    return latents;
  }

  at::Tensor denoise(StagePlan& stage, const std::vector<at::Tensor>& references) {
    const auto model = kept(bind(stage, video_transformer_file(request_), [&](const Weights& w) {
      return std::make_shared<diffusion::MMDiT>(w, config_.model);
    }));
    noise_ = meta(plan_.latent_shape);
    const sampling::GuidanceOptions guidance = guidance_options(config_, plan_.condition);
    at::Tensor condition;
    if (!references.empty()) {
      const sampling::LatentShape& s = plan_.latent_shape;
      condition = meta({1, 1 + s.channels, s.frames, s.height, s.width});
    }
    return sample(stage, *model,
                  {.noise = noise_,
                   .prompt = {txt_[0], vec_[0]},
                   .negative = {txt_[1], vec_[1]},
                   .condition = condition,
                   .timesteps = {},
                   .guidance = guidance,
                   .distilled_guidance = {},
                   .on_step = {}},
                  count_forwards(guidance, plan_));
  }

  at::Tensor decode(StagePlan& stage, const at::Tensor& latent) {
    const auto autoencoder = video_autoencoder_again(stage, autoencoder::Half::kDecoder);
    at::Tensor video = autoencoder->decode(latent, [&](int64_t, int64_t total) { stage.forwards = total; });
    check_finite_frames(video, "the decoded video");
    return video.slice(2, 0, config_.sampling.num_frames);
  }

  const GenerateRequest& request_;
  const Config& config_;
  const Plan& plan_;
  at::Device device_;
  const c10::InferenceMode inference_;
  MetaDevice meta_device_;
  std::vector<StagePlan> stages_;
  std::vector<std::shared_ptr<const void>> kept_;
  std::shared_ptr<autoencoder::Autoencoder> kept_autoencoder_;
  std::pair<int64_t, int64_t> autoencoder_bytes_;  // stored, in memory
  std::vector<at::Tensor> vec_, txt_;              // one a prompt
  at::Tensor noise_, video_;
};

}  // namespace

std::vector<StagePlan> simulate(const GenerateRequest& request, const Plan& plan, at::Device device) {
  return Simulation(request, plan, device).run();
}

}  // namespace opensora::pipeline
