#include "cli/generate_options.h"

#include "cli/progress_reporter.h"
#include "opensora/error.h"

namespace opensora::cli {

void GenerateOptions::add_to(CLI::App& command) {
  add_parameters(command, settings, [this](const request::Parameter& p) { return !only_plans || p.name() != "trace"; });
  if (only_plans) command.get_option("--prompt")->description("What to show (default: empty)");
  command.add_flag("--json", json, "Print one JSON object instead of the file's name")->group("Output");
  add_progress_option(command, progress);
  command
      .add_option("--from", from,
                  "Make a video again, from an MP4 or its .json: the same frames, with as many --threads the same "
                  "file; flags override what it says")
      ->type_name("FILE");
  command.add_flag("--print-config", print_config, "Print every value and where it comes from, and stop");
  log.add_to(command);
}

void check_quality(const CLI::App& command, const request::Settings& settings) {
  if (settings.request.codec == "ffv1" && command.count("--crf") > 0) {
    throw UsageError("--crf: ffv1 is lossless and has no quality to set; leave --crf out or give --codec h264");
  }
}

BatchOptions batch_options(const request::Settings& settings) {
  const GenerateRequest& request = settings.request;
  BatchOptions batch = settings.batch;
  if (batch.prompts_file == "-") batch.prompts_file = "stdin";
  if (batch.shards > 1 && batch.output_dir.empty()) {
    throw UsageError("--shard needs --output-dir: the shards of a run share it");
  }
  batch.overwrite = request.overwrite;
  batch.keep_models = request.keep_models;
  batch.strict = request.strict;
  return batch;
}

}  // namespace opensora::cli
