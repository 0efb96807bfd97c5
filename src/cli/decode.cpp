// opensora decode: a video from a saved latent.
#include "opensora/generate.h"

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/commands.h"
#include "cli/parameter_options.h"
#include "cli/process.h"
#include "cli/row_request.h"
#include "cli/standard_error.h"
#include "cli/standard_output.h"
#include "opensora/metadata.h"

namespace opensora::cli {
namespace {

// What still counts of the flags that the latent was sampled with. References do not, and may be gone by now.
FlagValues flags_of_latent(const std::filesystem::path& latent) {
  FlagValues flags = read_latent_flags(latent);
  std::erase_if(flags, [](const auto& flag) {
    const request::Parameter* parameter = request::find_parameter(flag.first);
    const bool names_video = flag.first == "config" || flag.first == "prompt" || flag.first == "seed";
    return !names_video && (parameter == nullptr || !parameter->decodes);
  });
  if (!request::has(flags, "prompt")) flags.emplace_back("prompt", "");
  return flags;
}

// The command takes the models, the machine, and all that decides how the latent becomes a file.
bool is_option(const request::Parameter& parameter) {
  static const std::set<std::string> others = {"model-dir", "config", "vae", "device", "dtype", "threads", "trace"};
  return parameter.decodes || parameter.scope == request::Scope::kOutput || others.contains(parameter.name());
}

void run(const CommandOptions& options, const std::filesystem::path& latent, const CLI::App& command) {
  options.apply_log();
  const ProgressStyle style = resolve_progress_style(options.progress, options.quiet);
  check_quality(command, options.settings);
  const FlagValues below = flags_of_latent(latent);
  const GenerateRequest request = resolve_flags(request::lay_over(below, given_flags(command), true));
  catch_signals();
  ProgressReporter reporter(style);
  const GenerateResult result = decode(latent, request, std::ref(reporter));
  if (options.json) return print_json(result_to_json(result));
  std::cout << result.output.string() << '\n';
}

}  // namespace

void add_decode(CLI::App& app) {
  auto options = std::make_shared<CommandOptions>();
  auto latent = std::make_shared<std::filesystem::path>();
  CLI::App* command = app.add_subcommand("decode", "Make the video of a latent that generate has kept");
  command
      ->add_option("LATENT", *latent,
                   "NAME.latent.safetensors, or any safetensors file with a tensor \"latent\" (--save-tensors)")
      ->required()
      ->type_name("FILE");
  add_parameters(*command, options->settings, is_option);
  options->add_json_to(*command, "Print one JSON object instead of the file's name", "Output");
  options->add_progress_to(*command);
  options->add_log_to(*command);
  command->footer(
      "Codec, quality, tiles and frames are those of the run that made the latent, unless given here.\n"
      "Examples:\n"
      "  opensora decode sea.latent.safetensors\n"
      "  opensora decode sea.latent.safetensors -o small.mp4 --crf 28 --vae-tiling");
  command->callback(
      [options, latent, command] { run_traced(options->settings.trace, [&] { run(*options, *latent, *command); }); });
}

}  // namespace opensora::cli
