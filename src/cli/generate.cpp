// opensora generate: a video from a prompt.
#include <spdlog/spdlog.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "batch/run_end.h"
#include "cli/batch_outputs.h"
#include "cli/commands.h"
#include "cli/generate_options.h"
#include "cli/model_folder.h"
#include "cli/plan.h"
#include "cli/print_config.h"
#include "cli/progress_reporter.h"
#include "cli/result_json.h"
#include "cli/row_request.h"
#include "cli/signals.h"
#include "cli/traced.h"
#include "core/failure.h"
#include "opensora/batch.h"
#include "opensora/error.h"
#include "opensora/sizes.h"
#include "request/layers.h"

namespace opensora::cli {
namespace {

// For --aspect-ratio list: of the resolution that the flags or the configuration name, else of all.
void print_sizes(const Config& config) {
  const std::optional<std::string>& own = config.sampling.resolution;
  std::cout << fmt::format("{:<10}  {:<12}  {:<9}  tokens of {} frames\n", "resolution", "aspect ratio", "size",
                           config.sampling.num_frames);
  for (const SizeRow& row : size_table(config)) {
    if (own && row.resolution != *own) continue;
    std::cout << fmt::format("{:<10}  {:<12}  {:<9}  {}\n", row.resolution, row.aspect_ratio,
                             fmt::format("{}x{}", row.width, row.height), row.tokens);
  }
  if (own) spdlog::info("these are the sizes of {}; --resolution names another", *own);
}

struct GenerateCommand {
  GenerateOptions options;
  bool dry_run = false;
};

// A line on stdout for each video that is there; an error goes to stderr.
void print_end(const BatchVideo& video, bool json) {
  const std::string place = video.place.empty() ? "" : video.place + ": ";
  if (video.state == BatchState::kFailed) {
    const Failure failure = describe_failure(video.error);
    const std::string output = video.result.output.string();
    const bool names_it = failure.message.find(output) != std::string::npos;
    spdlog::error("{}{}{}", place, names_it ? "" : output + ": ", failure.message);
    if (!json) return;
    return print_json({{"output", video.result.output.string()},
                       {"state", "failed"},
                       {"seed", video.result.seed},
                       {"code", failure.code},
                       {"error", failure.message},
                       {"flags", video.flags}});
  }
  if (!json) {
    std::cout << video.result.output.string() << std::endl;
    return;
  }
  nlohmann::ordered_json line = to_json(video.result);
  line["state"] = video.state == BatchState::kSkipped ? "skipped" : "done";
  print_json(line);
}

void run_many(const std::vector<BatchRow>& rows, const BatchOptions& batch, const GenerateOptions& options,
              ProgressReporter& reporter) {
  const BatchResult result = run_batch(
      rows, batch,
      {.progress = std::ref(reporter), .on_end = [&](const BatchVideo& video) { print_end(video, options.json); }});
  const int64_t failed = result.count(BatchState::kFailed), rest = result.count(BatchState::kNotRun);
  const std::string folder = result.output_dir.string();
  const auto fail = [&](ExitCode code, const std::string& message) {
    if (options.json) throw ToldError(code, message);  // each video's line says its own
    throw Error(code, message);
  };
  if (failed + rest > 0) {
    fail(ExitCode::kPartlyFailed,
         fmt::format("{} of {} videos failed{}; the journal in {} says why, --resume tries them again", failed,
                     result.videos.size(), rest > 0 ? fmt::format(", {} were not begun", rest) : "", folder));
  }
  if (result.exit_code(batch.strict) != 0) {
    fail(ExitCode::kSuspicious, "a video in " + folder + " is suspicious: see the log");
  }
}

void run_one(const std::vector<BatchRow>& rows, const BatchOptions& batch, const GenerateOptions& options,
             ProgressReporter& reporter) {
  const BatchResult result = run_batch(rows, batch, {.progress = std::ref(reporter), .on_end = {}});
  try {
    const GenerateResult video = single_result(result, batch.strict);
    if (options.json) return print_json(to_json(video));
    std::cout << video.output.string() << '\n';
  } catch (const SuspiciousError& error) {  // the video is there
    if (!options.json) throw;
    print_failed_report(to_json(result.videos.front().result), error.code(), error.what());
  }
}

void list_sizes(const GenerateOptions& options, const CLI::App& command) {
  request::Settings settings;
  settings.request.config =
      resolve_config(options.settings.config, resolve_model_dir(options.settings.request.model_dir));
  request::apply(given_flags(command), settings);
  print_sizes(settings.request.config);
}

struct PreparedRun {
  std::vector<RowRequest> requests;
  std::vector<BatchRow> rows;
  BatchOptions batch;
  bool is_single = false;
};

PreparedRun prepare(const GenerateOptions& options, const CLI::App& command) try {
  PreparedRun run;
  run.batch = batch_options(options.settings);
  run.requests = requested_rows(options, command, values_of_from(options));
  check_references_of_from(options, run.requests.front().request);
  run.rows = batch_rows(run.requests, options.settings.seeds);
  run.is_single = makes_single_video(run.requests, options);
  if (run.is_single && run.batch.resume) throw UsageError("--resume needs --output-dir: the run's journal is there");
  if (!run.is_single) settle_folder(run.requests, run.batch);
  return run;
} catch (...) {
  batch::tell_failed_start(options.settings.batch.events, std::current_exception());
  throw;
}

void run(const GenerateOptions& options, const CLI::App& command) {
  const ProgressStyle style = resolve_progress_style(options.progress, options.log.quiet);
  if (options.lists_sizes()) return list_sizes(options, command);
  if (options.print_config) {
    const FlagValues from = values_of_from(options);
    return print_config(requested_rows(options, command, from), given_flags(command), from, options);
  }
  const PreparedRun run = prepare(options, command);
  catch_signals();
  ProgressReporter reporter(style);
  run.is_single ? run_one(run.rows, run.batch, options, reporter) : run_many(run.rows, run.batch, options, reporter);
}

}  // namespace

void add_generate(CLI::App& app) {
  auto generate = std::make_shared<GenerateCommand>();
  CLI::App* command = app.add_subcommand("generate", "Make a video from a prompt");
  generate->options.add_to(*command);
  command->add_flag("--dry-run", generate->dry_run, "Say what the run would take and stop: see opensora plan")
      ->group("Machine");
  command->footer(
      "Examples:\n"
      "  opensora generate -p \"a red circle moving right on a blue background\"\n"
      "  opensora generate -p \"raining, sea\" --model-dir ./ckpts --config 768px -s 42 -o sea.mp4\n"
      "  opensora generate -p \"raining, sea\" -W 128 -H 64 --num-frames 17 --json\n"
      "  opensora generate -p \"the ship sails away\" --image ship.png\n"
      "  opensora generate -p \"the ship sails away\" --video ship.mp4 --cond-type v2v_tail\n"
      "  opensora generate -p \"raining, sea\" --config t2i2v_768px\n"
      "  opensora generate --config 768px --aspect-ratio list\n"
      "  opensora generate --prompts-file prompts.csv --output-dir videos --resume");
  command->callback([generate, command] {
    generate->options.log.apply();
    check_quality(*command, generate->options.settings);
    if (generate->dry_run) return print_plans(generate->options, *command);
    run_traced(generate->options.settings.trace, [&] { run(generate->options, *command); });
  });
}

}  // namespace opensora::cli
