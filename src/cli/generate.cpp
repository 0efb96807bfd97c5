// opensora generate: a video from a prompt.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "batch/events.h"
#include "cli/commands.h"
#include "cli/parameter_options.h"
#include "cli/process.h"
#include "cli/row_request.h"
#include "cli/standard_error.h"
#include "cli/standard_output.h"
#include "core/failure.h"
#include "opensora/batch.h"
#include "opensora/config.h"
#include "opensora/error.h"
#include "opensora/metadata.h"
#include "request/preset.h"

namespace opensora::cli {
namespace {

using nlohmann::ordered_json;

// For --aspect-ratio list: the sizes of the resolution that the flags or the configuration name, else of all.
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

void list_sizes(const CommandOptions& options, const CLI::App& command) {
  request::Settings settings;
  settings.request.config =
      resolve_config(options.settings.config, resolve_model_dir(options.settings.request.model_dir));
  request::apply(given_flags(command), settings);
  print_sizes(settings.request.config);
}

// Where values come from, topmost first: what the table calls the place (empty: the flag itself), and what is given
// there.
using Layers = std::vector<std::pair<std::string, FlagValues>>;

FlagValues without(const FlagValues& values, const FlagValues& above) {
  FlagValues rest;
  std::copy_if(values.begin(), values.end(), std::back_inserter(rest),
               [&](const auto& value) { return !request::has(above, value.first); });
  return rest;
}

Layers layers_of(const RowRequest& row, const FlagValues& given, const FlagValues& from,
                 const CommandOptions& options) {
  const FlagValues flags = row.line > 0 ? request::lay_over(given, row.values, false) : given;
  return {{row.place, row.values},
          {"", without(flags, row.values)},
          {"--preset", request::preset_values(flags)},
          {options.from.string(), without(request::lay_over(from, flags, true), flags)}};
}

std::string source_of(const request::Parameter& parameter, const Layers& layers,
                      const std::map<std::string, std::filesystem::path>& config_files) {
  std::vector<std::string> flags = {parameter.name()};
  flags.insert(flags.end(), parameter.decided_by.begin(), parameter.decided_by.end());
  for (const auto& [place, values] : layers) {
    for (const std::string& flag : flags) {
      if (request::has(values, flag)) return place.empty() ? "--" + flag : place;
    }
  }
  for (const std::string& key : parameter.config_keys) {
    if (const auto file = config_files.find(key); file != config_files.end()) return file->second.string();
  }
  return "built-in";
}

// {"value", "source"} of every parameter but those that are only another way to give one of the others.
ordered_json values_and_sources(const RowRequest& row, const Layers& layers, const CommandOptions& options) {
  request::Settings settings = options.settings;
  settings.request = row.request;
  const auto config_files = config_origins(row.request.config.name);
  const ordered_json content = ordered_json::parse(effective_values(row.request));
  ordered_json object;
  for (const request::Parameter& parameter : request::parameters()) {
    if (!parameter.get) continue;
    const std::string key = parameter.key();
    object[key] = {{"value", content.contains(key) ? content[key] : parameter.get(settings)},
                   {"source", source_of(parameter, layers, config_files)}};
  }
  return object;
}

std::string table_text(const ordered_json& value) {
  if (value.is_null() || (value.is_array() && value.empty())) return "-";
  return value.dump();
}

void print_table(const ordered_json& parameters) {
  constexpr size_t kWidest = 60;
  size_t width = 0;
  for (const ordered_json& parameter : parameters) width = std::max(width, table_text(parameter["value"]).size());
  width = std::min(width, kWidest);
  for (const auto& [key, parameter] : parameters.items()) {
    std::cout << fmt::format("{:<16} {:<{}}  {}\n", key, table_text(parameter["value"]), width,
                             parameter["source"].get_ref<const std::string&>());
  }
}

// --print-config: for each row a table, or with --json a line with an object. Throws as generate() does for a request
// that cannot be run.
void print_config(const CommandOptions& options, const CLI::App& command) {
  const FlagValues from = values_of_from(options), given = given_flags(command);
  const std::vector<RowRequest> rows = requested_rows(options, command, from);
  for (const RowRequest& row : rows) {
    const ordered_json parameters = values_and_sources(row, layers_of(row, given, from, options), options);
    if (options.json) {
      print_json(parameters);
      continue;
    }
    if (!row.place.empty()) std::cout << (&row == &rows.front() ? "" : "\n") << row.place << ":\n";
    print_table(parameters);
  }
}

// Prints a line on stdout for a video that is there, and its error on stderr for one that failed.
void print_end(const BatchVideo& video, bool json) {
  const std::string place = video.place.empty() ? "" : video.place + ": ";
  if (video.state == BatchState::kFailed) {
    Failure failure = describe_failure(video.error);
    failure.flags = video.flags;
    failure = in_flags(std::move(failure));
    const std::string output = video.result.output.string();
    const bool names_it = failure.message.find(output) != std::string::npos;
    spdlog::error("{}{}{}", place, names_it ? "" : output + ": ", failure.message);
    if (!json) return;
    return print_json({{"output", video.result.output.string()},
                       {"state", "failed"},
                       {"seed", video.result.seed},
                       {"code", failure.code},
                       {"error", failure.message},
                       {"flags", failure.flags}});
  }
  if (!json) {
    std::cout << video.result.output.string() << std::endl;
    return;
  }
  ordered_json line = result_to_json(video.result);
  line["state"] = video.state == BatchState::kSkipped ? "skipped" : "done";
  print_json(line);
}

void run_many(const std::vector<BatchRow>& rows, const BatchOptions& batch, const CommandOptions& options,
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
                     result.videos.size(), rest > 0 ? fmt::format(", {} were not made", rest) : "", folder));
  }
  if (result.exit_code(batch.strict) != 0) {
    fail(ExitCode::kSuspicious, "a video in " + folder + " is suspicious: see the log");
  }
}

void run_one(const std::vector<BatchRow>& rows, const BatchOptions& batch, const CommandOptions& options,
             ProgressReporter& reporter) {
  const BatchResult result = run_batch(rows, batch, {.progress = std::ref(reporter), .on_end = {}});
  try {
    const GenerateResult video = single_result(result, batch.strict);
    if (options.json) return print_json(result_to_json(video));
    std::cout << video.output.string() << '\n';
  } catch (const SuspiciousError& error) {  // the video is there
    if (!options.json) throw;
    print_failed_report(result_to_json(result.videos.front().result), error.code(), error.what());
  }
}

// The rows of the run; `batch` becomes its options, which have no folder where a single video is to be made. A failure
// is told as an event, too.
std::vector<BatchRow> prepare(const CommandOptions& options, const CLI::App& command, BatchOptions& batch) try {
  batch = batch_options(options.settings);
  const std::vector<RowRequest> rows = requested_rows(options, command, values_of_from(options));
  check_references_of_from(options, rows.front().request);
  if (!makes_single_video(rows, options)) {
    settle_folder(rows, batch);
  } else if (batch.resume) {
    throw UsageError("--resume needs --output-dir: the run's journal is there");
  }
  return batch_rows(rows, options.settings.seeds);
} catch (...) {
  batch::tell_failed_start(options.settings.batch.events, std::current_exception());
  throw;
}

// They would look as if they chose the device.
void refuse_flags_of_plans(const CLI::App& command) {
  for (const char* flag : {"--gpu", "--device-memory"}) {
    if (command.count(flag) == 0) continue;
    throw UsageError(fmt::format("{}: for opensora plan and --dry-run alone; --device says where a run goes", flag));
  }
}

void run(const CommandOptions& options, const CLI::App& command) {
  const ProgressStyle style = resolve_progress_style(options.progress, options.quiet);
  if (options.settings.request.config.sampling.aspect_ratio == "list") return list_sizes(options, command);
  if (options.print_config) return print_config(options, command);
  refuse_flags_of_plans(command);
  BatchOptions batch;
  const std::vector<BatchRow> rows = prepare(options, command, batch);
  catch_signals();
  ProgressReporter reporter(style);
  if (batch.output_dir.empty()) return run_one(rows, batch, options, reporter);
  run_many(rows, batch, options, reporter);
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<CommandOptions>();
  auto dry_run = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("generate", "Make a video from a prompt");
  add_generate_options(*command, *options);
  command->add_flag("--dry-run", *dry_run, "Say what the run would take and stop: see opensora plan")->group("Machine");
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
  command->callback([options, dry_run, command] {
    options->apply_log();
    check_quality(*command, options->settings);
    if (*dry_run) return print_plans(*options, *command);
    run_traced(options->settings.trace, [&] { run(*options, *command); });
  });
}

}  // namespace opensora::cli
