// A job: one video to be made, from its request to its result.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <exception>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/temporary.h"
#include "nn/attention_fp8.h"
#include "opensora/generate.h"
#include "run/stage.h"
#include "sampling/condition.h"
#include "sampling/sampler.h"
#include "sampling/size.h"

namespace opensora::run {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// Everything that is known about one video of a run: what was asked for, what follows from that, what has been made so
// far, and how it ended. Whoever runs jobs reads and writes all of it but the part marked as the batch's, which only
// travels with the job.
struct Job {
  GenerateRequest request;

  // What follows from the request: settled by make_job().
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  uint64_t seed = 0;
  sampling::Rng rng;
  sampling::SolverKind solver = sampling::SolverKind::kEuler;
  sampling::TimestepRounding timestep_rounding = sampling::TimestepRounding::kNone;
  bool wants_fp8_attention = false;
  std::string effective_prompt;  // with suffixes
  PixelSize size;                // pixels, rounded up to what the model can make
  sampling::LatentShape latent_shape;
  sampling::ScheduleOptions schedule;
  CachePolicy cache;
  sampling::ConditionType condition = sampling::ConditionType::kT2V;
  bool makes_picture = false;  // FLUX first
  PixelSize picture_size;
  sampling::LatentShape picture_latent;
  sampling::ScheduleOptions picture_schedule;

  // The files: settled by settle_output() and settle_metadata().
  std::filesystem::path output;
  std::filesystem::path latent_file;   // beside the video until that is finished
  std::filesystem::path picture_file;  // FLUX's picture beside the video; empty: none, or it is the output
  std::string metadata;                // the document that goes with the video, see metadata.h; empty: none
  std::map<std::string, std::string> latent_metadata;  // to be noted in the latent's file

  // How it is recognised again. Both are hashes in hexadecimal; empty: nobody will look for it.
  std::string key;      // of all that determines the video
  std::string row_key;  // the same but for the seed, where that was drawn
  std::string label;    // "3/12: ", in front of log lines; empty: it is alone

  // The batch's: where the job comes from.
  int64_t row = 0;             // number of its row, from 1
  int64_t sample = 0;          // among the row's jobs, from 0
  std::string place;           // "prompts.csv:12"; empty: the command line
  bool seed_is_drawn = false;  // none was asked for

  // What an earlier run left behind.
  bool has_picture = false;  // picture_file is FLUX's picture for this video
  bool has_latent = false;   // latent_file is its latent: only decoding and writing are to be done
  // What is under that name is marked as unfinished: it goes when the video is done.
  bool latent_is_marked = false;
  std::vector<std::shared_ptr<FileLock>> locks;  // of these files

  // What the stages make, each released after its last use.
  sampling::TextEmbedding text, negative_text, picture_text;
  std::vector<at::Tensor> references;  // latents [1, C, t, h, w], float32 on the CPU
  at::Tensor latent;                   // [1, C, T, h, w], float32 on the CPU; undefined: in the file
  NamedTensors tensors;                // for request.save_tensors

  std::optional<StageClock> clock;
  GenerateResult result;
  std::exception_ptr error;  // it failed
  bool done = false;         // its output is there, made by this run or an earlier one

  // Tokens of the video that the transformer reads at once, without the text's.
  int64_t image_tokens() const { return schedule.tokens_per_frame * latent_shape.frames; }
};

// Settles what follows from a request, before any weight is loaded. The prompt is checked, and the number of
// references; those are read later. The files to be written are left open. Throws UsageError, DeviceError.
Job make_job(const GenerateRequest& request);

// Settles the seed and the files (latent_file unless it is given), checks them, and fills in what is known of the
// result. What is there already of latent and picture is find_remains()' business. Throws UsageError for an extension
// that does not fit, OutputError.
void settle_output(Job& job);

// The steps of the video's sampling and of the picture's: not all have the same branches.
sampling::StepSchedule step_schedule(const Job& job);
sampling::StepSchedule picture_steps(const Job& job);

// The transformer's forwards in the steps from `first` on. With a threshold for the cache it is what is expected.
int64_t sampling_forwards(const Job& job, int64_t first = 0);
int64_t picture_forwards(const Job& job);  // FLUX's

// How the sampler mixes its branches in a run with that condition.
sampling::GuidanceOptions guidance_options(const Config& config, sampling::ConditionType condition);

// Those of the steps that may use attention in 8 bits, and the forwards that they have.
nn::StepRange fp8_steps(const Job& job);
int64_t fp8_forwards(const Job& job);

// Sets what is the same for all jobs of a run: threads, the choice of attention's kernel.
void prepare_machine(const GenerateRequest& request);

// On an accelerator, tries its kernels of attention on the largest of the jobs' shapes, and has the fastest used.
// Before any of them runs.
void settle_attention(std::span<const Job> jobs);

// Logs what is about to be made, and notes the kernel of attention in its result. After prepare_machine().
void begin(Job& job);

}  // namespace opensora::run
