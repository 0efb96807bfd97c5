// One video of a run, and how far it is.
#pragma once

#include <ATen/ATen.h>

#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/file_lock.h"
#include "opensora/generate.h"
#include "pipeline/identity.h"
#include "pipeline/plan.h"
#include "pipeline/stage.h"
#include "sampling/sampler.h"

namespace opensora::pipeline {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct Video {
  GenerateRequest request;
  Plan plan;
  std::string label;                                   // "3/12: ", in front of log lines; empty: it is alone
  std::map<std::string, std::string> latent_metadata;  // to be noted in the latent's file

  // What an earlier run left behind.
  bool has_picture = false;  // plan.picture is FLUX's picture for this video
  bool has_latent = false;   // plan.latent is its latent: only decoding and writing are to be done
  // What is under that name is marked as unfinished: it goes when the video is done.
  bool latent_is_marked = false;
  std::vector<std::shared_ptr<FileLock>> locks;  // of these files

  // What the stages make, each released after its last use.
  sampling::TextEmbedding prompt, negative, picture_prompt;
  std::vector<at::Tensor> references;  // latents [1, C, t, h, w], float32 on the CPU
  at::Tensor latent;                   // [1, C, T, h, w], float32 on the CPU; undefined: in the file
  NamedTensors tensors;                // for request.save_tensors

  std::optional<StageClock> clock;
  GenerateResult result;
  std::exception_ptr error;  // it failed
  bool done = false;
};

// A video with its plan, checked as make_plan() does.
Video plan_video(const GenerateRequest& request);

// Settles seed and files, as plan_output() does, and fills in what is known of the result.
void settle_output(Video& video);

// Writes down what the video is made with, for the output and for the latent's file. After settle_output().
void settle_metadata(Video& video, const CheckpointIdentities& checkpoints);

// Sets what is the same for all videos of a run: threads, the choice of attention's kernel.
void prepare_machine(const GenerateRequest& request);

// Logs what is about to be made, and notes the kernel of attention in its result. After prepare_machine().
void begin_video(Video& video);

}  // namespace opensora::pipeline
