#include "run/video_stages.h"

#include <ATen/ATen.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include "autoencoder/autoencoder.h"
#include "core/device.h"
#include "core/output_file.h"
#include "core/temporary.h"
#include "io/safetensors.h"
#include "media/png.h"
#include "models/model_set.h"
#include "nn/attention_fp8.h"
#include "opensora/error.h"
#include "opensora/generate.h"
#include "run/frames.h"
#include "run/job.h"
#include "run/output_writer.h"
#include "run/references.h"
#include "run/remains.h"
#include "run/stage_work.h"
#include "run/text_stage.h"
#include "sampling/sampler.h"

namespace opensora::run {
namespace {

using autoencoder::Half;
using models::ModelSet;
using sampling::TextEmbedding;

constexpr int64_t kLongEdge = 256;  // pixels

int scaled(int64_t edge, int64_t longest) {
  return static_cast<int>(longest <= kLongEdge ? edge : std::max<int64_t>(1, edge * kLongEdge / longest));
}

// With the request's preview_every, a PNG of at most 256 pixels on the long edge beside the output: replaced each time,
// and removed with this object. Without it nothing is loaded.
class Preview {
 public:
  // Loads the decoder if previews are wanted. Throws CheckpointError.
  Preview(const Job& job, models::ModelSet& models);
  ~Preview();
  Preview(const Preview&) = delete;
  Preview& operator=(const Preview&) = delete;

  bool is_wanted() const { return decoder_ != nullptr; }

  // After step `step` of `steps` (1-based). `clean`: makes the estimate of the clean latent, [1, C, T, h, w]; called
  // for every preview_every-th step but the last one. Its middle frame is decoded. A picture that cannot be written is
  // only a warning.
  void after_step(int64_t step, int64_t steps, const std::function<at::Tensor()>& clean);

 private:
  void write(const at::Tensor& latent);

  int64_t every_;
  std::filesystem::path file_;
  FileLock lock_;  // of the file
  bool written_ = false;
  std::shared_ptr<const autoencoder::Autoencoder> decoder_;
};

Preview::Preview(const Job& job, models::ModelSet& models)
    : every_(job.request.preview_every), file_(preview_file(job.output)) {
  if (every_ > 0) decoder_ = models.preview_decoder(job.request.config.ae);
}

Preview::~Preview() {
  std::error_code ignored;
  if (written_) std::filesystem::remove(file_, ignored);
}

void Preview::after_step(int64_t step, int64_t steps, const std::function<at::Tensor()>& clean) {
  if (!is_wanted() || step == steps || step % every_ != 0) return;
  try {
    write(clean());
  } catch (const OutputError& error) {
    spdlog::warn("no preview of step {}: {}", step, error.what());
  }
}

void Preview::write(const at::Tensor& latent) {
  const at::Tensor frames = decoder_->decode(latent.narrow(2, latent.size(2) / 2, 1));
  const at::Tensor rgb = to_rgb24(frames, 0);
  const int64_t height = rgb.size(0), width = rgb.size(1), longest = std::max(width, height);
  OutputFile output(file_, /*overwrite=*/true);
  write_content(output.staged(), media::with_note(media::encode_png(file_, rgb.const_data_ptr<uint8_t>(),
                                                                    static_cast<int>(width), static_cast<int>(height),
                                                                    scaled(width, longest), scaled(height, longest)),
                                                  kPreviewNote));
  output.commit();
  lock_ = output.take_lock();
  written_ = true;
}

// Where each text's embedding belongs. A picture alone needs nothing of the video's texts.
std::map<std::string, std::vector<TextEmbedding*>> wanted_texts(std::span<Job* const> jobs) {
  std::map<std::string, std::vector<TextEmbedding*>> wanted;
  for (Job* job : jobs) {
    if (job->makes_picture && !job->has_picture) {
      wanted[job->request.prompt].push_back(&job->picture_text);
    }
    if (job->request.image_only) continue;
    wanted[job->effective_prompt].push_back(&job->text);
    wanted[negative_prompt(job->request)].push_back(&job->negative_text);
  }
  return wanted;
}

// The file of the tensors, which gets its name with the video; null where none is wanted.
std::unique_ptr<OutputFile> stage_tensors(const GenerateRequest& request, const NamedTensors& tensors) {
  if (request.save_tensors.empty()) return nullptr;
  return io::stage_safetensors(request.save_tensors, tensors, {}, request.overwrite);
}

std::vector<StagedFile> staged(const std::unique_ptr<OutputFile>& file) {
  return file ? std::vector{file->staged()} : std::vector<StagedFile>();
}

// Decodes the latent and hands the frames to `writer` as soon as they are there. Only for request.save_tensors are they
// kept in float, and returned as one tensor [1, 3, T, H, W]; it is undefined otherwise.
at::Tensor decode(const Job& job, const at::Tensor& latent, ModelSet& models, std::unique_ptr<OutputWriter>& writer) {
  const GenerateRequest& request = job.request;
  const auto decoder = models.video_autoencoder(Half::kDecoder, request.config.ae);
  const int64_t count = request.config.sampling.num_frames;
  writer = std::make_unique<OutputWriter>(job, std::min(count, decoder->decoded_frames(latent.size(2))));
  const auto decode_to = [&](const autoencoder::PieceSink& keep) {
    const auto push = [&](const at::Tensor& frames) { writer->push(frames, *job.clock); };
    decode_frames(*decoder, latent.to(models.device()), count, *job.clock, push, keep);
  };
  if (!request.save_tensors.empty()) return autoencoder::join_pieces(decode_to).slice(2, 0, count);
  decode_to({});
  return {};
}

// The file of all tensors of a job with request.save_tensors, which gets its name with the video; null without.
std::unique_ptr<OutputFile> stage_all_tensors(Job& job, const at::Tensor& latent, const at::Tensor& video) {
  if (!video.defined()) return nullptr;
  NamedTensors tensors = std::move(job.tensors);
  tensors.insert(tensors.end(), {{"noise", sampling::make_noise(job.latent_shape, job.seed, job.rng)},
                                 {"latent", latent},
                                 {"video", video.to(at::kFloat)},
                                 {"timesteps", at::tensor(sampling::timesteps(job.schedule))}});
  return stage_tensors(job.request, tensors);
}

// Null where none are to be used; the result says why.
std::unique_ptr<GraphRecorder> graph_recorder_for(Job& job, const diffusion::MMDiT& model) {
  const std::string& wanted = job.request.cuda_graphs;
  std::string missing = why_no_graphs(job.device);
  const bool waits = missing.empty() && model.double_blocks.is_streamed();
  if (waits) missing = "blocks are streamed: `offload`";  // a replay would not wait for them
  job.result.cuda_graphs = wanted == "off" || missing.empty() ? "off" : "off (" + missing + ")";
  if (wanted == "on" && !missing.empty()) {
    spdlog::warn("{}`cuda_graphs` on: there are none here ({})", job.label, missing);
  } else {
    spdlog::debug("{}CUDA graphs: {}", job.label, missing.empty() ? wanted : job.result.cuda_graphs);
  }
  return wanted == "off" || waits ? nullptr : make_graph_recorder(job.device);
}

// Null where attention is exact; where it has to be though fp8 was asked for, a warning says why.
std::unique_ptr<nn::Fp8Attention> fp8_attention_for(const Job& job) {
  if (!job.wants_fp8_attention) return nullptr;
  nn::Fp8Choice choice = nn::fp8_kernel(job.device);
  if (!choice.kernel) {
    const auto level = job.request.attention == "auto" ? spdlog::level::debug : spdlog::level::warn;
    spdlog::log(level, "{}`attention` {}: {}; attention stays exact", job.label, job.request.attention, choice.why_not);
    return nullptr;
  }
  return std::make_unique<nn::Fp8Attention>(std::move(choice.kernel), job.request.config.model.blocks(),
                                            fp8_steps(job));
}

std::string what_became_of_graphs(const sampling::SamplerResult& sampled) {
  if (sampled.dropped_graphs) return "dropped";
  if (sampled.replayed > 0) return "replayed";
  return sampled.needless_graphs ? "off (the device is slower than its launches)" : "off";
}

void note_computed_steps(Job& job, const sampling::SamplerResult& sampled) {
  job.result.computed_steps = sampled.computed;
  spdlog::info("{}cache: {} of {} steps computed, {} forwards", job.label, sampled.computed.size(),
               job.schedule.num_steps, sampled.forwards);
}

}  // namespace

void check_video_texts(std::span<const Job> jobs) {
  std::set<std::string> texts;
  for (const Job& job : jobs) {
    if (job.makes_picture) texts.insert(job.request.prompt);
    if (job.request.image_only) continue;
    texts.insert(job.effective_prompt);
    texts.insert(negative_prompt(job.request));
  }
  const GenerateRequest& request = jobs.front().request;
  check_texts({texts.begin(), texts.end()}, models::choice_of(request), embedding_sources(request));
}

void encode_video_texts(std::span<Job* const> jobs, ModelSet& models) {
  const auto wanted = wanted_texts(jobs);
  std::vector<std::string> texts;
  texts.reserve(wanted.size());
  for (const auto& [text, places] : wanted) texts.push_back(text);
  const std::vector<TextEmbedding> embeddings = encode_prompts(texts, models, embedding_sources(jobs.front()->request));
  for (size_t i = 0; i < texts.size(); ++i) {
    for (TextEmbedding* place : wanted.at(texts[i])) *place = embeddings[i];
  }
}

namespace {

// The picture is marked as that of an unfinished video.
void save_picture(Job& job, const at::Tensor& rgb) {
  const std::filesystem::path& path = job.picture_file;
  OutputFile file(path, job.request.overwrite);
  const std::string note = picture_note(job.key);
  write_content(file.staged(), media::with_note(encode_picture(path, rgb), note));
  file.commit();
  job.locks.push_back(std::make_shared<FileLock>(file.take_lock()));
}

}  // namespace

void make_first_picture(Job& job, ModelSet& models) {
  const GenerateRequest& request = job.request;
  at::Tensor noise, latent;  // [1, 16, 1, h, w], float32
  at::Tensor frame;          // [1, 3, 1, H, W], as decoded, nominally in [-1, 1]
  at::Tensor rgb;            // uint8 [H, W, 3], on the CPU
  job.clock->run("image", [&] {
    const auto transformer = models.transformer(Component::kImgFlux);
    const sampling::SamplerInput input = picture_input(job, *job.clock);
    const sampling::SamplerResult sampled = sampling::sample(*transformer, input, job.device);
    noise = input.noise;
    latent = sampled.latent;
    job.result.image_forwards = sampled.forwards;
    frame = decode_picture(*models.autoencoder(Component::kImgFluxAe, Half::kDecoder), latent);
    rgb = to_rgb24(frame, 0);
  });
  job.picture_text = {};
  job.clock->run("write", [&] {
    if (request.image_only) {
      const auto tensors = stage_tensors(request, {{"noise", noise}, {"latent", latent}, {"video", frame}});
      job.result.suspicious = write_output(job, frame, *job.clock, staged(tensors));
    } else {
      if (!request.save_tensors.empty()) {
        job.tensors = {{"image_noise", noise}, {"image_latent", latent}, {"image", rgb}};
      }
      save_picture(job, rgb);
    }
  });
}

void encode_given_references(Job& job, ModelSet& models) {
  if (job.request.references.empty()) return;
  job.references = job.clock->run("encode", [&] {
    const std::vector<at::Tensor> frames = read_references(job, *job.clock);
    const auto encoder = models.video_autoencoder(Half::kEncoder, job.request.config.ae);
    return encode_references(job, *encoder, frames, *job.clock);
  });
}

void encode_first_picture(Job& job, ModelSet& models) {
  const at::Tensor frame = read_reference_picture(job.picture_file, job.size.height, job.size.width);
  job.references = job.clock->run("encode", [&] {
    const auto encoder = models.video_autoencoder(Half::kEncoder, job.request.config.ae);
    return encode_references(job, *encoder, {frame}, *job.clock);
  });
}

at::Tensor sample_latent(Job& job, ModelSet& models, sampling::SamplerState& state) {
  return job.clock->run("denoise", [&] {
    const auto model = models.transformer();
    Preview preview(job, models);
    sampling::SamplerInput input = video_input(job, *job.clock);
    input.state = &state;
    if (preview.is_wanted()) {
      input.on_estimate = [&](int64_t step, int64_t steps, const std::function<at::Tensor()>& clean) {
        preview.after_step(step, steps, clean);
      };
    }
    const auto graphs = graph_recorder_for(job, *model);
    input.graphs = graphs.get();
    if (job.request.cuda_graphs == "auto") input.graph_trial = trial_of_launching(job.device);
    const auto fp8_attention = fp8_attention_for(job);
    input.fp8_attention = fp8_attention.get();
    const sampling::SamplerResult sampled = sampling::sample(*model, input, job.device);
    at::Tensor latent = sampled.latent.to(at::kCPU);
    if (fp8_attention) job.result.attention += ", " + fp8_attention->summary();
    job.result.forwards = sampled.forwards;
    if (job.cache.is_on()) note_computed_steps(job, sampled);
    if (graphs) {
      job.result.cuda_graphs = what_became_of_graphs(sampled);
      spdlog::info("{}CUDA graphs: {}", job.label, job.result.cuda_graphs);
    }
    sampling::place_references(job.condition, job.references, latent);
    job.text = job.negative_text = {};
    job.references.clear();
    return latent;
  });
}

void decode_and_write(Job& job, ModelSet& models) {
  const at::Tensor latent = job.latent.defined() ? job.latent : read_latent(job.latent_file);
  std::unique_ptr<OutputWriter> writer;
  at::Tensor video = job.clock->run("decode", [&] { return decode(job, latent, models, writer); });
  job.clock->run("write", [&] {
    const auto tensors = stage_all_tensors(job, latent, std::exchange(video, {}));
    job.result.suspicious = writer->finish(*job.clock, staged(tensors));
    writer.reset();
  });
}

}  // namespace opensora::run
