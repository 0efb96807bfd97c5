// opensora random-model: a model folder of random numbers.
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/parameter_options.h"
#include "cli/process.h"
#include "opensora/checkpoint.h"

namespace opensora::cli {
namespace {

void run(const CommandOptions& options, RandomModelsRequest request) {
  options.apply_log();
  catch_signals();
  request.config = load_config(find_config(options.settings.config));
  for (const std::filesystem::path& file : write_random_models(request)) std::cout << file.string() << '\n';
}

}  // namespace

void add_random_model(CLI::App& app) {
  auto options = std::make_shared<CommandOptions>();
  auto request = std::make_shared<RandomModelsRequest>();
  options->settings.config = "256px";
  CLI::App* command =
      app.add_subcommand("random-model", "Write a model folder of random numbers, for measuring speed and memory");
  command->add_option("FOLDER", request->folder, "Where to write; made if missing")->required()->type_name("DIR");
  command->add_option("--config", options->settings.config, "Whose sizes: a file, or a name such as 256px")
      ->type_name("NAME|FILE")
      ->capture_default_str();
  command->add_option("-p,--prompt", request->prompts, "Also write text embeddings of it; may be given several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
  command
      ->add_option("--dtype", request->dtype,
                   "Of the files: fp32, bf16 or fp16; int8 or fp8 of the transformer's matrices")
      ->check(one_of({"fp32", "bf16", "fp16", "int8", "fp8"}))
      ->capture_default_str();
  add_seed(*command, "-s,--seed", request->seed, "Of the numbers")->default_str(std::to_string(request->seed));
  command->add_flag("--tiny-vae", request->tiny_autoencoder, "Also write a TAEHV, taehv.safetensors");
  command->add_flag("--overwrite", request->overwrite, "Replace existing files");
  options->add_log_to(*command);
  command->footer(
      "The transformer and the video autoencoder, under their official names; 24 GB for 256px, 12 GB in int8. Text "
      "encoders are not\n"
      "among them: generate takes the text embeddings of the prompts instead.\n"
      "Example:\n"
      "  opensora random-model full --config 256px -p sea\n"
      "  opensora generate -p sea --model-dir full --text-embeddings full/embeddings --steps 1 --num-frames 17");
  command->callback([options, request] { run(*options, *request); });
}

}  // namespace opensora::cli
