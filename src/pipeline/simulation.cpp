#include "pipeline/simulation.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "autoencoder/autoencoder.h"
#include "core/cpu_features.h"
#include "core/meta_device.h"
#include "diffusion/mmdit.h"
#include "io/checkpoint.h"
#include "io/model_files.h"
#include "pipeline/bench_work.h"
#include "pipeline/component_files.h"
#include "pipeline/frames.h"
#include "pipeline/offload.h"
#include "pipeline/planned_weights.h"
#include "pipeline/rgb_frames.h"
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

class Simulation {
 public:
  Simulation(const GenerateRequest& request, const Plan& plan, const SimulationOptions& options)
      : request_(request),
        config_(request.config),
        plan_(plan),
        device_(options.device),
        free_bytes_(options.free_bytes),
        has_weights_(!options.published),
        keeps_models_(request.keep_models || parse_offload(request.offload) == Offload::kNone),
        meta_device_(options.device) {}

  std::vector<StagePlan> run() {
    const int64_t prompts = plan_.makes_picture ? 3 : 2;
    if (request_.text_embeddings.empty()) {
      stage("text", "clip", [&](StagePlan& s) { vec_ = clip(s, prompts); });
      stage("text", "t5", [&](StagePlan& s) { txt_ = t5(s, prompts); });
    } else {
      stage("text", "", [&](StagePlan&) { read_texts(prompts); });
    }
    std::vector<at::Tensor> references;
    if (plan_.makes_picture) {
      at::Tensor latent;
      stage("image", "img_flux", [&](StagePlan& s) { latent = sample_picture(s); });
      stage("image", "img_flux_ae", [&](StagePlan& s) { video_ = {decode_picture(s, latent)}; });
      if (request_.image_only) return finish();
    }
    if (plan_.condition != sampling::ConditionType::kT2V) {
      stage("encode", "ae", [&](StagePlan& s) { references = encode(s); });
    }
    at::Tensor latent;
    stage("denoise", "model", [&](StagePlan& s) { latent = denoise(s, references); });
    stage("decode", "ae", [&](StagePlan& s) { decode(s, latent); });
    return finish();
  }

 private:
  template <typename Work>
  void stage(const char* name, const char* model, Work&& work) {
    StagePlan stage{.stage = name, .model = model};
    meta_device_.reset_peak();
    meta_device_.reset_flops();
    work(stage);
    stage.anonymous_bytes = meta_device_.peak_bytes();
    stage.peak_bytes = stage.anonymous_bytes + mapped_bytes_;
    if (!keeps_models_) mapped_bytes_ = 0;
    if (stage.flops == 0) add_flops(stage, meta_device_.flops(), 1);
    stages_.push_back(std::move(stage));
  }

  static void add_flops(StagePlan& stage, const FlopCount& flops, double times) {
    stage.flops += times * flops.total();
    stage.attention_flops += times * flops.attention;
    stage.convolution_flops += times * flops.convolution;
  }

  std::vector<StagePlan> finish() {
    stage("write", "", [](StagePlan& s) { s.encodes = true; });
    return std::move(stages_);
  }

  // A model's file, opened; nullptr: it is not here.
  template <typename Find>
  std::shared_ptr<const io::Checkpoint> open(Find&& find) const {
    return has_weights_ ? io::Checkpoint::open(std::forward<Find>(find)()) : nullptr;
  }

  // Binds a model as the run does.
  template <typename Make>
  auto bind(StagePlan& stage, io::Component component, std::shared_ptr<const io::Checkpoint> checkpoint,
            WeightOptions options, Make&& make) {
    const std::optional<at::ScalarType> held = holding_dtype(plan_.dtype, device_);
    const bool maps = device_.is_cpu() && (options.residence != Residence::kDevice || !held);
    const auto source =
        std::make_shared<PlannedWeights>(std::move(checkpoint), published_dtype(component), maps ? std::nullopt : held);
    options.works_on_views = device_.is_cpu();
    auto model = make(Weights(source, at::kMeta, plan_.dtype, options));
    stage.stored_bytes = source->stored_bytes();
    stage.weight_bytes = source->weight_bytes();
    if (maps) mapped_bytes_ += mapped_bytes(*source, options);
    return model;
  }

  // Of the file's pages, so many stay with the process.
  int64_t mapped_bytes(const PlannedWeights& source, const WeightOptions& options) const {
    if (!options.gives_back_pages) return source.stored_bytes();
    const int64_t blocks = config_.model.depth + config_.model.depth_single_blocks;
    // Streamed, a block's pages go when it has been copied; else they stay until it has been used.
    const int64_t present = options.residence == Residence::kStreamed ? 1 : options.ahead + 2;
    return source.stored_bytes() - source.block_bytes() + source.block_bytes() / blocks * std::min(present, blocks);
  }

  // What --offload auto reckons with: of a file all of it.
  static int64_t elements(const std::shared_ptr<const io::Checkpoint>& checkpoint, const MMDiTConfig& config) {
    if (checkpoint) return checkpoint->elements();
    const auto source = std::make_shared<PlannedWeights>(nullptr, at::kBFloat16, std::nullopt);
    diffusion::MMDiT(Weights(source, at::kMeta, at::kBFloat16, {.works_on_views = true}), config);
    return source->elements();
  }

  // A transformer of so many tokens.
  std::shared_ptr<diffusion::MMDiT> bind_transformer(StagePlan& stage, io::Component component,
                                                     const std::shared_ptr<const io::Checkpoint>& checkpoint,
                                                     const MMDiTConfig& config, int64_t tokens) {
    const int64_t width = static_cast<int64_t>(c10::elementSize(plan_.dtype));
    const Offload offload = settle_offload(
        parse_offload(request_.offload), device_,
        {.weight_bytes = elements(checkpoint, config) * width,
         .activation_bytes = transformer_activation_bytes(config, tokens + config_.t5.max_length,
                                                          computing_dtype(plan_.dtype, Work::kProduct, device_)),
         .free_bytes = free_bytes_});
    return kept(bind(stage, component, checkpoint, transformer_weights(offload, request_),
                     [&](const Weights& w) { return std::make_shared<diffusion::MMDiT>(w, config); }));
  }

  WeightOptions plain_weights() const { return model_weights(parse_offload(request_.offload)); }

  template <typename Model>
  std::shared_ptr<Model> kept(std::shared_ptr<Model> model) {
    if (keeps_models_) kept_.push_back(model);
    return model;
  }

  std::vector<at::Tensor> clip(StagePlan& stage, int64_t prompts) {
    text::ClipConfig sizes = proportioned_clip(config_);  // the published ones, where the widths are theirs
    std::shared_ptr<const io::Checkpoint> checkpoint;
    if (has_weights_) {
      const io::TextEncoderFiles files = io::find_text_encoder(request_.model_dir, io::Component::kClip,
                                                               config_.clip.from_pretrained, request_.files.clip_l);
      checkpoint = io::Checkpoint::open(files.weights);
      sizes = clip_config(files, *checkpoint);
      check_clip_sizes(files, sizes, config_);
    }
    const auto encoder = bind(stage, io::Component::kClip, checkpoint, {},
                              [&](const Weights& w) { return std::make_unique<text::ClipEncoder>(w, sizes); });
    stage.forwards = prompts;
    std::vector<at::Tensor> vec;
    for (int64_t i = 0; i < prompts; ++i) {
      vec.push_back(encoder->forward(meta({1, config_.clip.max_length}, at::kLong)).pooled);
    }
    return vec;
  }

  std::vector<at::Tensor> t5(StagePlan& stage, int64_t prompts) {
    text::T5Config sizes = proportioned_t5(config_);
    std::shared_ptr<const io::Checkpoint> checkpoint;
    if (has_weights_) {
      const io::TextEncoderFiles files = io::find_text_encoder(request_.model_dir, io::Component::kT5,
                                                               config_.t5.from_pretrained, request_.files.t5xxl);
      checkpoint = io::Checkpoint::open(files.weights);
      sizes = t5_config(files, *checkpoint);
      check_t5_sizes(files, sizes, config_);
    }
    const auto encoder = bind(stage, io::Component::kT5, checkpoint, {},
                              [&](const Weights& w) { return std::make_unique<text::T5Encoder>(w, sizes); });
    stage.forwards = prompts;
    std::vector<at::Tensor> txt;
    for (int64_t i = 0; i < prompts; ++i) {
      txt.push_back(encoder->forward(meta({1, config_.t5.max_length}, at::kLong)));
    }
    return txt;
  }

  // As they were encoded before.
  void read_texts(int64_t prompts) {
    for (int64_t i = 0; i < prompts; ++i) {
      vec_.push_back(meta(at::IntArrayRef{1, config_.model.vec_in_dim}));
      txt_.push_back(meta(at::IntArrayRef{1, config_.t5.max_length, config_.model.context_in_dim}));
    }
  }

  // One step of so many; its first has all the branches that any has.
  at::Tensor sample(StagePlan& stage, const diffusion::MMDiT& model, sampling::SamplerInput input, int64_t forwards) {
    input.timesteps = {1, 0};
    // The other steps' modulations are there too, a row for each time and text.
    const int64_t rows = std::min({forwards, 2 * plan_.schedule.num_steps, sampling::kModulationRows});
    const diffusion::Modulations others =
        model.modulations(meta({std::max<int64_t>(0, rows - 2), model.config.hidden_size}, model.computes_in));
    meta_device_.reset_flops();
    const sampling::SamplerResult result = sampling::sample(model, input, at::kMeta);
    stage.forwards = forwards;
    add_flops(stage, meta_device_.flops(), static_cast<double>(forwards) / static_cast<double>(result.forwards));
    return result.latent;
  }

  at::Tensor sample_picture(StagePlan& stage) {
    const auto model =
        bind_transformer(stage, io::Component::kImgFlux, open([&] { return image_transformer_file(request_); }),
                         config_.text_to_image->model, plan_.picture_schedule.tokens_per_frame);
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
    const auto file = open([&] { return image_autoencoder_file(request_); });
    const auto autoencoder = kept(bind(stage, io::Component::kImgFluxAe, file, plain_weights(), [&](const Weights& w) {
      return std::shared_ptr(autoencoder::make_autoencoder(w, config_.text_to_image->ae, autoencoder::Half::kDecoder));
    }));
    stage.forwards = 1;
    at::Tensor picture = autoencoder->decode(latent);
    check_finite_frames(picture, "FLUX's picture");
    return picture;
  }

  std::shared_ptr<autoencoder::Autoencoder> video_autoencoder(StagePlan& stage, autoencoder::Half half) {
    if (keeps_models_) half = autoencoder::Half::kBoth;
    const auto file = open([&] { return video_autoencoder_file(request_); });
    return bind(stage, io::Component::kAe, file, plain_weights(), [&](const Weights& w) {
      return std::visit([&](const auto& ae) { return std::shared_ptr(autoencoder::make_autoencoder(w, ae, half)); },
                        config_.ae);
    });
  }

  // As bind() leaves it for a second stage that finds the autoencoder kept.
  std::shared_ptr<autoencoder::Autoencoder> video_autoencoder_again(StagePlan& stage, autoencoder::Half half) {
    if (!kept_autoencoder_) {
      auto autoencoder = video_autoencoder(stage, half);
      if (keeps_models_) kept_autoencoder_ = autoencoder;
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
    const auto model =
        bind_transformer(stage, io::Component::kModel, open([&] { return video_transformer_file(request_); }),
                         config_.model, plan_.image_tokens());
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
                  sampling_forwards(config_, plan_));
  }

  // Frames are written while the next are decoded, but never more than two parts of the video wait.
  void decode(StagePlan& stage, const at::Tensor& latent) {
    const auto autoencoder = video_autoencoder_again(stage, autoencoder::Half::kDecoder);
    RgbFrames rgb({config_.sampling.num_frames, plan_.size.height, plan_.size.width}, "the decoded video",
                  [&](const at::Tensor& frames) {
                    stage.encodes = frames.size(0) < config_.sampling.num_frames;
                    video_.push_back(frames);
                    if (video_.size() > 2) video_.pop_front();
                  });
    autoencoder->decode_pieces(
        latent, [&](const autoencoder::Piece& piece) { rgb.add(piece); },
        [&](int64_t, int64_t total) { stage.forwards = total; });
  }

  const GenerateRequest& request_;
  const Config& config_;
  const Plan& plan_;
  at::Device device_;
  std::optional<int64_t> free_bytes_;
  bool has_weights_, keeps_models_;
  int64_t mapped_bytes_ = 0;  // of the models that are there
  const c10::InferenceMode inference_;
  MetaDevice meta_device_;
  std::vector<StagePlan> stages_;
  std::vector<std::shared_ptr<const void>> kept_;
  std::shared_ptr<autoencoder::Autoencoder> kept_autoencoder_;
  std::pair<int64_t, int64_t> autoencoder_bytes_;  // stored, in memory
  std::vector<at::Tensor> vec_, txt_;              // one a prompt
  at::Tensor noise_;
  std::deque<at::Tensor> video_;  // of 8 bits, or FLUX's picture
};

}  // namespace

std::vector<StagePlan> simulate(const GenerateRequest& request, const Plan& plan, const SimulationOptions& options) {
  return Simulation(request, plan, options).run();
}

}  // namespace opensora::pipeline
