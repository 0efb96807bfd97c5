#include "pipeline/video_stages.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "core/device.h"
#include "core/output_file.h"
#include "io/safetensors_writer.h"
#include "media/png_note.h"
#include "opensora/error.h"
#include "pipeline/frames.h"
#include "pipeline/latent_file.h"
#include "pipeline/output_writer.h"
#include "pipeline/preview.h"
#include "pipeline/reference_media.h"
#include "pipeline/references.h"
#include "pipeline/remains.h"
#include "pipeline/stage_work.h"
#include "pipeline/text_stage.h"
#include "sampling/sampler.h"

namespace opensora::pipeline {
namespace {

using autoencoder::Half;
using models::ModelSet;
using sampling::TextEmbedding;

// Where each text's embedding belongs. A picture alone needs nothing of the video's texts.
std::map<std::string, std::vector<TextEmbedding*>> wanted_texts(std::span<Video* const> videos) {
  std::map<std::string, std::vector<TextEmbedding*>> wanted;
  for (Video* video : videos) {
    if (video->plan.makes_picture && !video->has_picture) {
      wanted[video->request.prompt].push_back(&video->picture_prompt);
    }
    if (video->request.image_only) continue;
    wanted[video->plan.prompt].push_back(&video->prompt);
    wanted[negative_prompt(video->request)].push_back(&video->negative);
  }
  return wanted;
}

// Null: none are wanted. They get their name with the video.
std::unique_ptr<OutputFile> stage_tensors(const GenerateRequest& request, const NamedTensors& tensors) {
  if (request.save_tensors.empty()) return nullptr;
  return io::stage_safetensors(request.save_tensors, tensors, {}, request.overwrite);
}

std::vector<StagedFile> staged(const std::unique_ptr<OutputFile>& file) {
  return file ? std::vector{file->staged()} : std::vector<StagedFile>();
}

// What has to be one tensor at the end is kept in float; all else goes on as soon as it is there.
struct Decoded {
  std::unique_ptr<OutputWriter> writer;
  at::Tensor video;  // [1, 3, T, H, W], for request.save_tensors alone
};

Decoded decode(const Video& video, const at::Tensor& latent, ModelSet& models) {
  const GenerateRequest& request = video.request;
  const auto decoder = models.video_autoencoder(Half::kDecoder, request.config.ae);
  const FrameSize size = frame_size(request.config, *decoder, latent);
  Decoded decoded;
  decoded.writer = std::make_unique<OutputWriter>(request, video.plan,
                                                  std::min(size.frames, decoder->decoded_frames(latent.size(2))));
  const auto decode_to = [&](const autoencoder::PieceSink& keep) {
    const auto push = [&](const at::Tensor& frames) { decoded.writer->push(frames, *video.clock); };
    decode_frames(*decoder, latent.to(models.device()), size, *video.clock, push, keep);
  };
  if (request.save_tensors.empty()) {
    decode_to({});
  } else {
    decoded.video = autoencoder::join_pieces(decode_to).slice(2, 0, size.frames);
  }
  return decoded;
}

void write(Video& video, const at::Tensor& latent, Decoded decoded) {
  std::unique_ptr<OutputFile> tensors_file;
  if (decoded.video.defined()) {
    const Plan& plan = video.plan;
    NamedTensors tensors = std::move(video.tensors);
    tensors.insert(tensors.end(), {{"noise", sampling::make_noise(plan.latent_shape, plan.seed)},
                                   {"latent", latent},
                                   {"video", decoded.video.to(at::kFloat)},
                                   {"timesteps", at::tensor(sampling::timesteps(plan.schedule))}});
    tensors_file = stage_tensors(video.request, tensors);
  }
  video.result.suspicious = decoded.writer->finish(*video.clock, staged(tensors_file));
}

// Null where none are to be used; the result says why.
std::unique_ptr<GraphRecorder> graph_recorder_for(Video& video, const diffusion::MMDiT& model) {
  const std::string& wanted = video.request.cuda_graphs;
  std::string missing = why_no_graphs(video.plan.device);
  const bool waits = missing.empty() && model.double_blocks.is_streamed();
  if (waits) missing = "blocks are streamed: --offload";  // a replay would not wait for them
  video.result.cuda_graphs = wanted == "off" || missing.empty() ? "off" : "off (" + missing + ")";
  if (wanted == "on" && !missing.empty()) {
    spdlog::warn("{}--cuda-graphs on: there are none here ({})", video.label, missing);
  } else {
    spdlog::debug("{}CUDA graphs: {}", video.label, missing.empty() ? wanted : video.result.cuda_graphs);
  }
  return wanted == "off" || waits ? nullptr : make_graph_recorder(video.plan.device);
}

}  // namespace

void check_video_texts(std::span<const Video* const> videos) {
  std::set<std::string> texts;
  for (const Video* video : videos) {
    if (video->plan.makes_picture) texts.insert(video->request.prompt);
    if (video->request.image_only) continue;
    texts.insert(video->plan.prompt);
    texts.insert(negative_prompt(video->request));
  }
  const GenerateRequest& request = videos.front()->request;
  check_texts({texts.begin(), texts.end()}, models::choice_of(request), embedding_sources(request));
}

void encode_video_texts(std::span<Video* const> videos, ModelSet& models) {
  const auto wanted = wanted_texts(videos);
  std::vector<std::string> texts;
  texts.reserve(wanted.size());
  for (const auto& [text, places] : wanted) texts.push_back(text);
  const std::vector<TextEmbedding> embeddings =
      encode_prompts(texts, models, embedding_sources(videos.front()->request));
  for (size_t i = 0; i < texts.size(); ++i) {
    for (TextEmbedding* place : wanted.at(texts[i])) *place = embeddings[i];
  }
}

namespace {

struct Picture {
  at::Tensor noise, latent;  // [1, 16, 1, h, w], float32
  at::Tensor frame;          // [1, 3, 1, H, W], as decoded, nominally in [-1, 1]
  at::Tensor rgb;            // uint8 [H, W, 3], on the CPU
  int64_t forwards = 0;
};

Picture make_picture(const Video& video, ModelSet& models) {
  Picture picture;
  const auto transformer = models.transformer(Component::kImgFlux);
  const sampling::SamplerInput input = picture_input(video.plan, video.picture_prompt, *video.clock);
  const sampling::SamplerResult sampled = sampling::sample(*transformer, input, video.plan.device);
  picture.noise = input.noise;
  picture.latent = sampled.latent;
  picture.forwards = sampled.forwards;
  picture.frame = decode_picture(*models.autoencoder(Component::kImgFluxAe, Half::kDecoder), sampled.latent);
  picture.rgb = to_rgb24(picture.frame, 0);
  return picture;
}

// Marked as that of an unfinished video.
void save_picture(Video& video, const at::Tensor& rgb) {
  const std::filesystem::path& path = video.plan.picture;
  OutputFile file(path, video.request.overwrite);
  const std::string note = picture_note(video.latent_metadata[kLatentKey]);
  write_content(file.staged(), media::with_note(encode_picture(path, rgb), note));
  file.commit();
  video.locks.push_back(std::make_shared<FileLock>(file.take_lock()));
}

}  // namespace

void make_first_picture(Video& video, ModelSet& models) {
  const GenerateRequest& request = video.request;
  const Picture picture = video.clock->run("image", [&] { return make_picture(video, models); });
  video.picture_prompt = {};
  video.result.image_forwards = picture.forwards;
  video.clock->run("write", [&] {
    if (request.image_only) {
      const auto tensors =
          stage_tensors(request, {{"noise", picture.noise}, {"latent", picture.latent}, {"video", picture.frame}});
      video.result.suspicious = write_output(request, video.plan, picture.frame, *video.clock, staged(tensors));
    } else {
      if (!request.save_tensors.empty()) {
        video.tensors = {{"image_noise", picture.noise}, {"image_latent", picture.latent}, {"image", picture.rgb}};
      }
      save_picture(video, picture.rgb);
    }
  });
}

void encode_first_picture(Video& video, ModelSet& models) {
  const Plan& plan = video.plan;
  const at::Tensor frame = read_reference_picture(plan.picture, plan.size.height, plan.size.width);
  video.references = video.clock->run("encode", [&] {
    const auto encoder = models.video_autoencoder(Half::kEncoder, video.request.config.ae);
    return encode_references(video.request, plan, *encoder, {frame}, *video.clock);
  });
}

at::Tensor sample_latent(Video& video, ModelSet& models) {
  return video.clock->run("denoise", [&] {
    const auto model = models.transformer();
    Preview preview(video.request, video.plan, models);
    sampling::SamplerInput input =
        video_input(video.request.config, video.plan, video.prompt, video.negative, video.references, *video.clock);
    if (preview.is_wanted()) {
      input.on_estimate = [&](int64_t step, int64_t steps, const std::function<at::Tensor()>& clean) {
        preview.after_step(step, steps, clean);
      };
    }
    const auto graphs = graph_recorder_for(video, *model);
    input.graphs = graphs.get();
    const sampling::SamplerResult sampled = sampling::sample(*model, input, video.plan.device);
    at::Tensor latent = sampled.latent.to(at::kCPU);
    video.result.forwards = sampled.forwards;
    if (graphs) {
      video.result.cuda_graphs = sampled.dropped_graphs ? "dropped" : sampled.replayed > 0 ? "replayed" : "off";
    }
    sampling::place_references(video.plan.condition, video.references, latent);
    video.prompt = video.negative = {};
    video.references.clear();
    return latent;
  });
}

void decode_and_write(Video& video, ModelSet& models) {
  const at::Tensor latent = video.latent.defined() ? video.latent : read_latent(video.plan.latent).latent;
  Decoded decoded = video.clock->run("decode", [&] { return decode(video, latent, models); });
  video.clock->run("write", [&] { write(video, latent, std::move(decoded)); });
}

}  // namespace opensora::pipeline
