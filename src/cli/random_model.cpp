// opensora random-model: a model folder of random numbers.
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/logging.h"
#include "cli/parameter_options.h"
#include "cli/signals.h"
#include "cli/validators.h"
#include "opensora/random_models.h"

namespace opensora::cli {
namespace {

struct RandomModelOptions {
  RandomModelsRequest request;
  std::string config = "256px";
  LogOptions log;
};

void run(const RandomModelOptions& options) {
  options.log.apply();
  catch_signals();
  RandomModelsRequest request = options.request;
  request.config = load_config(find_config(options.config));
  for (const std::filesystem::path& file : write_random_models(request)) std::cout << file.string() << '\n';
}

}  // namespace

void add_random_model(CLI::App& app) {
  auto options = std::make_shared<RandomModelOptions>();
  RandomModelsRequest& request = options->request;
  CLI::App* command =
      app.add_subcommand("random-model", "Write a model folder of random numbers, for measuring speed and memory");
  command->add_option("FOLDER", request.folder, "Where to write; made if missing")->required()->type_name("DIR");
  command->add_option("--config", options->config, "Whose sizes: a file, or a name such as 256px")
      ->type_name("NAME|FILE")
      ->capture_default_str();
  command->add_option("-p,--prompt", request.prompts, "Also write text embeddings of it; may be given several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
  command->add_option("--dtype", request.dtype, "Of the files: fp32, bf16 or fp16")
      ->check(one_of({"fp32", "bf16", "fp16"}))
      ->capture_default_str();
  add_seed(*command, "-s,--seed", request.seed, "Of the numbers")->default_str(std::to_string(request.seed));
  command->add_flag("--overwrite", request.overwrite, "Replace existing files");
  options->log.add_to(*command);
  command->footer(
      "The transformer and the video autoencoder, under their official names; 24 GB for 256px. Text encoders are not\n"
      "among them: generate takes the text embeddings of the prompts instead.\n"
      "Example:\n"
      "  opensora random-model full --config 256px -p sea\n"
      "  opensora generate -p sea --model-dir full --text-embeddings full/embeddings --steps 1 --num-frames 17");
  command->callback([options] { run(*options); });
}

}  // namespace opensora::cli
