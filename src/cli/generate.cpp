// opensora generate: a video from a prompt.
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "batch/stage_seconds.h"
#include "cli/commands.h"
#include "cli/generate_options.h"
#include "cli/print_config.h"
#include "cli/progress_reporter.h"
#include "cli/request_layers.h"
#include "cli/row_request.h"
#include "opensora/generate.h"
#include "opensora/metadata.h"
#include "opensora/sizes.h"

namespace opensora::cli {
namespace {

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

// --from's request, where there is one, with the flags over it.
struct Sources {
  FlagValues given, from;

  Sources(const GenerateOptions& options, const CLI::App& command) : given(given_flags(command)) {
    if (!options.from.empty()) from = read_request_flags(options.from);
  }
};

void run(const GenerateOptions& options, const CLI::App& command) {
  options.log.apply();
  const ProgressStyle style = resolve_progress_style(options.progress, options.log.quiet);
  if (options.lists_sizes()) return print_sizes(options.model.resolve_config(options.model.resolve_model_dir()));
  const Sources sources(options, command);
  const GenerateRequest request =
      options.from.empty() ? options.resolve() : resolve_flags(lay_over(sources.from, sources.given, true));
  if (options.print_config) return print_config(request, sources.given, sources.from, options);

  catch_signals();
  ProgressReporter reporter(style);
  const GenerateResult result = generate(request, std::ref(reporter));
  if (options.json) {
    std::cout << to_json(result).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  } else {
    std::cout << result.output.string() << '\n';
  }
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Make a video from a prompt");
  options->add_to(*command);
  command->footer(
      "Examples:\n"
      "  opensora generate -p \"a red circle moving right on a blue background\"\n"
      "  opensora generate -p \"raining, sea\" --model-dir ./ckpts --config 768px -s 42 -o sea.mp4\n"
      "  opensora generate -p \"raining, sea\" -W 448 -H 256 --num-frames 33 --json\n"
      "  opensora generate -p \"the ship sails away\" --image ship.png\n"
      "  opensora generate -p \"the ship sails away\" --video ship.mp4 --cond-type v2v_tail\n"
      "  opensora generate -p \"raining, sea\" --config t2i2v_768px\n"
      "  opensora generate --config 768px --aspect-ratio list");
  command->callback([options, command] { run(*options, *command); });
}

}  // namespace opensora::cli
