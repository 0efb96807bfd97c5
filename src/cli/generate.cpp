// opensora generate: a video from a prompt.
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/common_options.h"
#include "cli/condition_options.h"
#include "cli/logging.h"
#include "cli/model_options.h"
#include "cli/progress_reporter.h"
#include "cli/sampling_options.h"
#include "batch/stage_seconds.h"
#include "opensora/error.h"
#include "opensora/generate.h"
#include "opensora/sizes.h"

namespace opensora::cli {
namespace {

struct GenerateOptions {
  GenerateRequest request;
  std::string output_size;
  std::string progress = "auto";
  bool json = false;
  ModelOptions model;
  SamplingOptions sampling;
  ConditionOptions condition;
  LogOptions log;
};

nlohmann::ordered_json to_json(const GenerateResult& result) {
  return {{"output", result.output.string()},
          {"image", result.image.empty() ? nlohmann::json() : nlohmann::json(result.image.string())},
          {"seed", result.seed},
          {"prompt", result.effective_prompt},
          {"width", result.width},
          {"height", result.height},
          {"frames", result.frames},
          {"steps", result.steps},
          {"forwards", result.forwards},
          {"image_forwards", result.image_forwards},
          {"device", result.device},
          {"dtype", result.dtype},
          {"attention", result.attention},
          {"seconds", batch::stage_seconds(result.seconds)},
          {"peak_memory_bytes", result.peak_resident_bytes},
          {"peak_device_memory_bytes", result.peak_device_bytes}};
}

// For --aspect-ratio list.
void print_sizes(const Config& config) {
  std::printf("%-10s  %-12s  %-9s  tokens of %ld frames\n", "resolution", "aspect ratio", "size",
              static_cast<long>(config.sampling.num_frames));
  for (const SizeRow& row : size_table(config)) {
    const std::string size = std::to_string(row.width) + "x" + std::to_string(row.height);
    std::printf("%-10s  %-12s  %-9s  %ld\n", row.resolution.c_str(), row.aspect_ratio.c_str(), size.c_str(),
                static_cast<long>(row.tokens));
  }
}

void run(const GenerateOptions& options, bool has_prompt) {
  options.log.apply();
  GenerateRequest request = options.request;
  const ProgressStyle style = resolve_progress_style(options.progress, options.log.quiet);
  if (!options.output_size.empty()) request.output_size = parse_size("--output-size", options.output_size);
  request.model_dir = options.model.resolve_model_dir();
  request.config = options.model.resolve_config(request.model_dir);
  if (options.sampling.aspect_ratio == "list") return print_sizes(request.config);
  if (!has_prompt) throw UsageError("--prompt is required (it may be empty: --prompt \"\")");
  options.sampling.apply(request.config);
  options.condition.apply(request);

  catch_signals();
  ProgressReporter reporter(style);
  const GenerateResult result = generate(request, std::ref(reporter));
  if (options.json) {
    std::cout << to_json(result).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  } else {
    std::cout << result.output.string() << '\n';
  }
}

void add_prompt_options(CLI::App& command, GenerateRequest& request) {
  command.add_option("-p,--prompt", request.prompt, "What to show (required; may be empty)");
  command.add_option("-n,--negative-prompt", request.negative_prompt, "What to avoid (default: empty)");
  command.add_option("-s,--seed", request.seed, "Seed of the noise (default: random, and logged)")
      ->check(CLI::NonNegativeNumber);
}

void add_output_options(CLI::App& command, GenerateOptions& options) {
  const char* group = "Output";
  GenerateRequest& request = options.request;
  command
      .add_option("-o,--output", request.output,
                  "File to write, .mp4 (.png for one frame; default: the prompt's first words and the seed)")
      ->group(group);
  command.add_option("--output-size", options.output_size, "Scale the frames to WxH (Lanczos)")->group(group);
  command
      .add_option("--save-tensors", request.save_tensors,
                  "Also write noise, latent, video and timesteps to this safetensors file")
      ->group(group);
  command.add_flag("--json", options.json, "Print one JSON object instead of the file's name")->group(group);
  add_writing_options(command, request.crf, request.overwrite, options.progress);
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Make a video from a prompt");
  add_prompt_options(*command, options->request);
  options->model.add_to(*command);
  add_model_files(*command, options->request.files);
  options->condition.add_to(*command, options->request);
  options->sampling.add_to(*command);
  add_machine_options(*command, options->request.device, options->request.dtype, options->request.threads);
  command
      ->add_flag("--keep-models", options->request.keep_models,
                 "Keep transformers and autoencoders until the end, if memory allows: none is loaded twice")
      ->group("Machine");
  add_output_options(*command, *options);
  options->log.add_to(*command);
  command->footer(
      "Examples:\n"
      "  opensora generate -p \"a red circle moving right on a blue background\"\n"
      "  opensora generate -p \"raining, sea\" --model-dir ./ckpts --config 768px -s 42 -o sea.mp4\n"
      "  opensora generate -p \"raining, sea\" -W 448 -H 256 --num-frames 33 --json\n"
      "  opensora generate -p \"the ship sails away\" --image ship.png\n"
      "  opensora generate -p \"the ship sails away\" --video ship.mp4 --cond-type v2v_tail\n"
      "  opensora generate -p \"raining, sea\" --config t2i2v_768px\n"
      "  opensora generate --config 768px --aspect-ratio list");
  command->callback([options, command] { run(*options, command->count("--prompt") > 0); });
}

}  // namespace opensora::cli
