// What a run would take, known before any weight is read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "opensora/generate.h"

namespace opensora {

// One model's part of a run, or the writing of the file.
struct StagePlan {
  std::string stage;         // as Progress names it: "text", "image", "encode", "denoise", "decode", "write"
  std::string model;         // the configuration's section: "clip", "t5", "model", "ae", …; empty: none
  int64_t stored_bytes = 0;  // the weights that it uses, in the file
  // In memory: as stored on the CPU; on a GPU in the run's dtype, without what stays on the host.
  int64_t weight_bytes = 0;
  bool streams_blocks = false;  // the weights of its blocks come to the device as they are used
  // The highest memory while it runs. On the CPU all that the process then holds resident; on a GPU what is allocated
  // there, without the CUDA context.
  int64_t peak_bytes = 0;
  // Of it, on the CPU, what no file can give again: without mapped weights and libraries. It is what --max-memory
  // limits, and what has to fit. On a GPU all.
  int64_t anonymous_bytes = 0;
  int64_t forwards = 0;  // of the model
  // They are what is expected (a cache decides while it runs), and so is what follows from them.
  bool forwards_are_estimated = false;
  double flops = 0;  // of all forwards: matrix products, convolutions, attention; two a multiply-add
  double attention_flops = 0, convolution_flops = 0;  // of them
  double fp8_attention_flops = 0;                     // of attention's, in 8 bits
  // What operators read and write, each tensor once: those of the FLOPs (`product_bytes`: of the matrix products), and
  // all others. Where they are bound by memory, it is by these.
  double product_bytes = 0, attention_bytes = 0, convolution_bytes = 0, elementwise_bytes = 0;
  double operators = 0;  // that are called
  // To the device: once, before the model runs, and with each of its forwards (of blocks that are streamed). 0 on the
  // CPU, which works on mapped files.
  int64_t loaded_bytes = 0, streamed_bytes = 0;
  // Estimates, both nullopt where nothing is known of the device's speed. On the CPU by a trial of its kernels, alone
  // on its cores, with weights in the page cache; on a GPU by published figures (known_gpus()): what the model takes,
  // and its loading before that, from a disk. Frames are not written meanwhile.
  std::optional<double> seconds = {}, load_seconds = {};
  bool encodes = false;  // frames are written meanwhile
};

// Whether a run fits, and otherwise what would make it fit.
struct MemoryVerdict {
  int64_t available_bytes = 0;
  // "`max_memory`", "`device_memory`", "available on this machine", the GPU's name, ", free" behind it where that could
  // be asked. Of a GPU's memory and --max-memory it is the one that leaves less.
  std::string source;
  // Of needed_bytes, what a GPU's memory holds beside the run's own: CUDA's context, workspaces of its libraries.
  int64_t reserve_bytes = 0;
  // What has to fit: RunPlan::anonymous_bytes, with the reserve; under --max-memory budget_bytes.
  int64_t needed_bytes = 0;
  bool fits = true;
  // Where it does not: the first of the tried sets of flags that fits ("`vae_tiling`", "`dtype` bf16", …), without
  // those that it does not need, and what it needs; a higher --max-memory, where that is what is too little and the
  // machine has it; empty: none of them does.
  std::vector<std::string> flags;
  int64_t peak_with_flags = 0;
  std::optional<double> seconds_with_flags = {};  // as RunPlan::seconds
};

struct RunPlan {
  std::filesystem::path output;
  std::string condition;  // "t2v", "i2v_head", …
  int64_t width = 0, height = 0, frames = 0, steps = 0;
  int64_t tokens = 0;         // of the video, in the transformer
  std::string device, dtype;  // "cpu", "cuda"; "fp32", "bf16", "fp16"
  std::string computing;      // the dtype and what is really computed in: "bf16 (attention in fp32)", "fp32"
  std::vector<StagePlan> stages;
  int64_t peak_bytes = 0;       // of all stages
  int64_t anonymous_bytes = 0;  // likewise
  // Of them, what --max-memory counts: on the CPU without the C library's heap, the video encoder and libraries' pages.
  int64_t budget_bytes = 0;
  double flops = 0;
  // Of all stages, with loading.
  std::optional<double> seconds = {};
  std::string speed_of;  // whose: "this CPU", "NVIDIA H100"; empty: not known
  // The weights are not here: the plan is that of the published files, whose names and shapes the configuration says.
  bool published = false;
  int64_t output_bytes = 0;             // a guess at the file's size: what moves in the video decides
  std::optional<MemoryVerdict> memory;  // nullopt: how much there is cannot be told
};

// What a process holds before it loads models, in bytes.
struct BaseMemory {
  int64_t resident = 0;
  int64_t anonymous = 0;  // the part of it that no file can give again
};
// Of this process now, once the libraries that a run opens are open.
BaseMemory base_memory();

struct PlanOptions {
  // Bytes that the device has. nullopt: of a GPU what is free now, or all of its memory where only the driver can be
  // asked; of the CPU what is available now. With it and no --device, the plan is for a GPU, whether there is one or
  // not.
  std::optional<int64_t> device_memory;
  // Of known_gpus(): plans for this GPU, which need not be here. Empty: for the present device.
  std::string gpu = {};
  std::optional<BaseMemory> base;  // nullopt: base_memory()
  // Where weights are missing, or are the demo's and not those of the configuration: plan with the published ones.
  bool may_lack_weights = false;
  bool measures_time = false;  // for the CPU: tries its kernels for a second or two, for `seconds`
  // A run of the request ran out of memory, whatever its plan says: it does not fit, and flags must need less than it.
  bool ran_out = false;
};

// Plans a run without starting it: the checks are those of generate(), the models are bound to the names and shapes of
// their files, and run without data. Throws as generate() does before it loads weights, and CheckpointError for
// tensors that are missing or mis-shaped. Uses LibTorch's meta device: one call at a time.
// UsageError for a GPU that is not known, or for one where the request's device is the CPU.
RunPlan plan_run(const GenerateRequest& request, const PlanOptions& options = {});

// A GPU whose published figures are known.
struct KnownGpu {
  std::string key;           // "h100", "4090": for PlanOptions::gpu
  std::string name;          // "NVIDIA H100 80GB"
  int64_t memory_bytes = 0;  // that a run can have of it: less what error correction, the driver and a desktop take
};
std::vector<KnownGpu> known_gpus();

// The plan for each of them, in their order. `options.gpu` and `options.device_memory` play no part. Each device's
// memory is planned for once.
std::vector<RunPlan> plan_for_all_gpus(const GenerateRequest& request, const PlanOptions& options = {});

}  // namespace opensora
