#include "cli/generate_options.h"

#include "cli/common_options.h"
#include "cli/number_options.h"
#include "cli/output_options.h"
#include "cli/validators.h"
#include "opensora/error.h"
#include "opensora/sizes.h"

namespace opensora::cli {

void GenerateOptions::add_prompt_options(CLI::App& command) {
  prompt_ =
      command.add_option("-p,--prompt", request.prompt,
                         needs_prompt ? "What to show (required; may be empty)" : "What to show (default: empty)");
  command.add_option("-n,--negative-prompt", request.negative_prompt, "What to avoid (default: empty)");
  command
      .add_option("--text-embeddings", request.text_embeddings,
                  "Folder or file of encode-text: the texts in it are not encoded, the encoders may be absent")
      ->type_name("PATH");
  command
      .add_option("--neg-text-embedding", request.negative_text_embedding,
                  "File of encode-text; its text is the negative prompt")
      ->type_name("FILE");
  command.add_option_function<std::string>(
      "-s,--seed", [this](const std::string& text) { batch.seeds = parse_seeds(text); },
      "Seed of the noise; several, with commas: a video each (default: random, and logged)");
}

void GenerateOptions::add_output_options(CLI::App& command) {
  const char* group = "Output";
  command
      .add_option(
          "-o,--output", request.output,
          "File to write: .mp4, .mov or .mkv (.png for one frame; default: the prompt's first words and the seed)")
      ->type_name("FILE")
      ->group(group);
  add_size_or_none(command, "--output-size", request.output_size, keeps_size,
                   "Scale the frames to this size (Lanczos), or none: as generated (default: configuration)")
      ->group(group);
  command
      .add_option("--save-tensors", request.save_tensors,
                  "Also write noise, latent, video and timesteps to this safetensors file")
      ->type_name("FILE")
      ->group(group);
  add_metadata_options(command);
  command.add_flag("--json", json, "Print one JSON object instead of the file's name")->group(group);
  add_writing_options(command, request.crf, request.overwrite, progress);
  add_video_options(command, request);
}

void GenerateOptions::add_metadata_options(CLI::App& command) {
  const char* group = "Output";
  command
      .add_flag_function(
          "--no-metadata", [this](int64_t count) { request.metadata = count <= 0; },
          "Do not write into the video what it was made with")
      ->group(group);
  command.add_flag("--sidecar", request.sidecar, "Also write what it was made with beside the output, as .json")
      ->group(group);
}

void GenerateOptions::add_memory_options(CLI::App& command) {
  const char* group = "Machine";
  command
      .add_option("--offload", request.offload,
                  "Where weights are: none (on the device, all models, to the end), model (one model at a time), block "
                  "(a transformer's blocks as they are used), auto (model, or block where that does not fit)")
      ->check(one_of({"none", "model", "block", "auto"}))
      ->capture_default_str()
      ->group(group);
  add_bytes(command, "--max-memory", request.max_memory,
            "Limit of the run's memory on the device, such as 4GiB; on the CPU without mapped weights (default: none)")
      ->group(group);
}

void GenerateOptions::add_to(CLI::App& command) {
  add_prompt_options(command);
  model.add_to(command);
  add_model_files(command, request.files);
  condition.add_to(command, request);
  sampling.add_to(command);
  add_machine_options(command, request.device, request.dtype, request.threads);
  command
      .add_flag("--keep-models", request.keep_models,
                "Keep transformers and autoencoders until the end, if memory allows: none is loaded twice")
      ->group("Machine");
  add_memory_options(command);
  command
      .add_option("--cuda-graphs", request.cuda_graphs,
                  "Replay the transformer's forwards as CUDA graphs: auto (where there are any and the first replay "
                  "equals the forward as it is), on (a warning where there are none) or off")
      ->check(one_of({"auto", "on", "off"}))
      ->capture_default_str()
      ->group("Machine");
  add_output_options(command);
  command
      .add_option("--from", from,
                  "Make a video again, from an MP4 or its .json: the same frames, with as many --threads the same "
                  "file; flags override what it says")
      ->type_name("FILE");
  command.add_flag("--print-config", print_config, "Print every value and where it comes from, and stop");
  batch.add_to(command);
  log.add_to(command);
}

GenerateRequest GenerateOptions::resolve() const {
  const std::filesystem::path model_dir = model.resolve_model_dir();
  return resolve(model_dir, model.resolve_config(model_dir));
}

GenerateRequest GenerateOptions::resolve(const std::filesystem::path& model_dir, const Config& config) const {
  GenerateRequest resolved = request;
  if (!batch.seeds.empty()) resolved.seed = batch.seeds.front();
  resolved.model_dir = model_dir;
  resolved.config = config;
  if (needs_prompt && (prompt_ == nullptr || prompt_->count() == 0)) {
    throw UsageError("--prompt is required (it may be empty: --prompt \"\")");
  }
  sampling.apply(resolved.config);
  condition.apply(resolved);
  if (!sampling.num_frames) resolved.config.sampling.num_frames = frames_with_room(resolved.config);
  // A size that was asked for is the one that is wanted.
  if (!resolved.output_size && !keeps_size && !sampling.gives_size()) resolved.output_size = config.output_size;
  return resolved;
}

}  // namespace opensora::cli
