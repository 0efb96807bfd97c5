// opensora decode: a video from a saved latent.
#include "opensora/decode.h"

#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/commands.h"
#include "cli/common_options.h"
#include "cli/generate_options.h"
#include "cli/output_options.h"
#include "cli/progress_reporter.h"
#include "cli/request_layers.h"
#include "cli/result_json.h"
#include "cli/row_request.h"
#include "cli/signals.h"
#include "cli/trace_option.h"

namespace opensora::cli {
namespace {

// Its options lie in a GenerateOptions, whose flags have the same names.
struct DecodeOptions {
  std::filesystem::path latent;
  GenerateOptions generate;
  TraceOption trace;
};

// Of what the latent was sampled with, what still counts; references, for one, need not be there any more.
FlagValues flags_of_latent(const std::filesystem::path& latent) {
  static const std::set<std::string> wanted = {"config", "prompt",     "seed",    "num-frames", "fps",
                                               "codec",  "vae-tiling", "pix-fmt", "crf",        "output-size"};
  FlagValues flags = read_latent_flags(latent);
  std::erase_if(flags, [&](const auto& flag) { return !wanted.contains(flag.first); });
  const bool has_prompt =
      std::any_of(flags.begin(), flags.end(), [](const auto& flag) { return flag.first == "prompt"; });
  if (!has_prompt) flags.emplace_back("prompt", "");
  return flags;
}

void run(const DecodeOptions& options, const CLI::App& command) {
  const GenerateOptions& flags = options.generate;
  flags.log.apply();
  const ProgressStyle style = resolve_progress_style(flags.progress, flags.log.quiet);
  check_video_options(command, flags.request);
  FlagValues given = given_flags(command);
  const GenerateRequest request = resolve_flags(lay_over(flags_of_latent(options.latent), given, true));
  catch_signals();
  ProgressReporter reporter(style);
  const GenerateResult result = decode(options.latent, request, std::ref(reporter));
  if (flags.json) return print_json(to_json(result));
  std::cout << result.output.string() << '\n';
}

}  // namespace

void add_decode(CLI::App& app) {
  auto options = std::make_shared<DecodeOptions>();
  CLI::App* command = app.add_subcommand("decode", "Make the video of a latent that generate has kept");
  command
      ->add_option("LATENT", options->latent,
                   "NAME.latent.safetensors, or any safetensors file with a tensor \"latent\" (--save-tensors)")
      ->required()
      ->type_name("FILE");
  GenerateOptions& flags = options->generate;
  flags.model.add_to(*command);
  command->add_option("--vae", flags.request.files.vae, "The autoencoder's weights")->type_name("PATH")->group("Model");
  flags.sampling.add_decoding_flags(*command);
  add_machine_options(*command, flags.request.device, flags.request.dtype, flags.request.threads);
  options->trace.add_to(*command);
  flags.add_output_options(*command);
  flags.log.add_to(*command);
  command->footer(
      "Codec, quality, tiles and frames are those of the run that made the latent, unless given here.\n"
      "Examples:\n"
      "  opensora decode sea.latent.safetensors\n"
      "  opensora decode sea.latent.safetensors -o small.mp4 --crf 28 --vae-tiling");
  command->callback([options, command] { options->trace.run([&] { run(*options, *command); }); });
}

}  // namespace opensora::cli
