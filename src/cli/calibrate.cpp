// opensora calibrate: the table that --calibration reads.
#include "opensora/calibrate.h"

#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/process.h"
#include "cli/row_request.h"
#include "cli/standard_error.h"
#include "cli/standard_output.h"

namespace opensora::cli {
namespace {

void run(const CommandOptions& options, const CLI::App& command, CalibrateRequest request) {
  options.apply_log();
  const ProgressStyle style = resolve_progress_style(options.progress, options.quiet);
  for (const RowRequest& row : requested_rows(options, command, values_of_from(options))) {
    request.runs.push_back(row.request);
  }
  catch_signals();
  ProgressReporter reporter(style);
  const CalibrateResult result = calibrate(request, std::ref(reporter));
  if (options.json) {
    return print_json({{"output", result.output.string()},
                       {"videos", request.runs.size()},
                       {"forwards", result.forwards},
                       {"changes", result.changes}});
  }
  std::cout << result.output.string() << '\n';
}

}  // namespace

void add_calibrate(CLI::App& app) {
  auto options = std::make_shared<CommandOptions>();
  auto request = std::make_shared<CalibrateRequest>();
  CLI::App* command = app.add_subcommand(
      "calibrate", "Measure how the velocity changes in exact runs, for generate --speed --calibration");
  command->add_option("TABLE", request->output, "JSON file to write")->required()->type_name("FILE");
  options->only_calibrates = true;
  add_generate_options(*command, *options);
  command->footer(
      "Takes as long as the denoising of the videos; they are not decoded. Several, by --prompts-file, are averaged, "
      "and\n"
      "have the same steps, size and oscillation. The table fits runs of other steps and sizes, too.\n"
      "Example:\n"
      "  opensora calibrate table.json -p \"raining, sea\" --num-frames 17\n"
      "  opensora generate -p \"a ship\" --num-frames 17 --steps 30 --speed 2 --calibration table.json");
  command->callback([options, command, request] {
    request->overwrite = options->settings.request.overwrite;
    run(*options, *command, *request);
  });
}

}  // namespace opensora::cli
