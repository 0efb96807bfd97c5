#include "pipeline/references.h"

#include <ATen/CPUGeneratorImpl.h>

#include "pipeline/frames.h"
#include "pipeline/reference_media.h"

namespace opensora::pipeline {

std::vector<at::Tensor> read_references(const GenerateRequest& request, const Plan& plan, const StageClock& clock) {
  std::vector<at::Tensor> frames;
  const auto position = [&](bool last) { return last ? media::Position::kLast : media::Position::kFirst; };
  const media::PollCallback poll = [&] { clock.look(); };
  const bool at_tail = sampling::is_at_tail(plan.condition);
  for (size_t i = 0; i < request.references.size(); ++i) {
    if (sampling::is_video_condition(plan.condition)) {
      frames.push_back(
          read_reference_video(request.references[i], {.height = plan.size.height,
                                                       .width = plan.size.width,
                                                       .fps = request.config.fps_save.value(),
                                                       .frames = sampling::reference_frames(plan.condition),
                                                       .position = position(at_tail),
                                                       .poll = poll}));
    } else {
      // A video may stand for an image: its first frame, or at the end of the new video its last.
      frames.push_back(read_reference_picture(request.references[i], plan.size.height, plan.size.width,
                                              position(at_tail || i > 0), poll));
    }
  }
  return frames;
}

std::vector<at::Tensor> encode_references(const GenerateRequest& request, const Plan& plan,
                                          const autoencoder::Autoencoder& encoder,
                                          const std::vector<at::Tensor>& references, const StageClock& clock) {
  autoencoder::EncodeOptions options;
  options.progress = [&](int64_t done, int64_t total) { clock.report({"encode", done, total}); };
  // Another seed than the noise's: the two must not be the same numbers.
  if (request.sample_posterior) options.generator = at::make_generator<at::CPUGeneratorImpl>(plan.seed + 1);
  std::vector<at::Tensor> latents;
  latents.reserve(references.size());
  for (const at::Tensor& frames : references) {
    latents.push_back(to_host(encoder.encode(frames.to(plan.device), options).to(at::kFloat)));
  }
  return latents;
}

}  // namespace opensora::pipeline
