// How fast each stage of a run is on this machine, and how near to what the machine can do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "opensora/generate.h"

namespace opensora {

// In the order of a run. "load" maps and binds the weights of all models, not the tokenizers, and needs a model folder;
// "text" encodes one prompt; "step" is one step of text to video; "encode" is that of a reference image; "decode" and
// "write" are of the whole video.
std::vector<std::string> bench_stages();

struct BenchRequest {
  // Models, the video's size and length, device, dtype and threads; the rest plays no part. An empty model_dir: random
  // weights of the configuration's sizes, in memory; text encoders of its widths in the proportions of T5-XXL and
  // CLIP-L.
  GenerateRequest run;
  std::vector<std::string> stages;  // of bench_stages(); empty: all that the request allows
  int64_t warmup = 1;               // runs of each stage that are not counted
  int64_t repetitions = 3;          // runs that are
};

// What one kernel does on this machine, alone, at a size of the transformer's.
struct BenchProbe {
  std::string name;   // "matmul", "attention"
  std::string shape;  // for people
  double flops_per_second = 0;
};

struct BenchStage {
  std::string stage;
  int64_t tokens = 0;  // that its model reads at once; 0: it has none
  double linear_flops = 0, convolution_flops = 0, attention_flops = 0;
  std::vector<double> seconds;  // of each counted run, in their order
  // The time that the probes predict for its FLOPs (convolutions as matrix products), by the median. nullopt: no FLOPs.
  std::optional<double> share_of_peak;
  int64_t peak_resident_bytes = 0, peak_device_bytes = 0;  // the highest while it ran

  double flops() const { return linear_flops + convolution_flops + attention_flops; }
  double median() const;
};

struct BenchReport {
  std::string device, dtype, cpu;  // cpu: its name and the widest instructions that LibTorch uses on it
  std::string computing;           // the dtype and what is really computed in: "bf16 (attention in fp32)", "fp32"
  int threads = 0;
  std::string config;
  bool random_weights = false;
  int64_t width = 0, height = 0, frames = 0;
  std::vector<BenchProbe> probes;
  std::vector<BenchStage> stages;
};

// Runs the probes, then each stage, one at a time: its models are loaded, run and released. Progress tells the stage
// and how many of its runs are done. Throws UsageError, OutOfMemoryError before anything runs where random weights do
// not fit, and as generate() does.
BenchReport bench(const BenchRequest& request, const ProgressCallback& progress = {});

// How cost grows with work: a quantity is multiplied, all else stays.
struct ScalingPoint {
  std::string quantity;  // "tokens" (by width and height), "frames", "steps"
  int64_t value = 0;     // of that quantity
  int64_t width = 0, height = 0, frames = 0, tokens = 0;
  std::string stage;  // "step", "decode", or "denoise": all of the steps
  double seconds = 0, flops = 0;
  int64_t peak_resident_bytes = 0, peak_device_bytes = 0;
};

// The steps of 1, 2, 4 and 8 times the request's tokens; step and decoding of 1, 2, 4 and 8 latent frames; 1, 2, 4 and
// 8 steps. Stages, warm-up and repetitions are not the request's: each point is the median of two runs after one.
std::vector<ScalingPoint> bench_scaling(const GenerateRequest& run, const ProgressCallback& progress = {});

}  // namespace opensora
