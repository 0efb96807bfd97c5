// opensora bench: how fast this machine is, stage by stage.
#include "opensora/bench.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/parameter_options.h"
#include "cli/process.h"
#include "cli/standard_error.h"
#include "cli/standard_output.h"
#include "request/settings.h"

namespace opensora::cli {
namespace {

using nlohmann::ordered_json;

struct BenchOptions : CommandOptions {
  BenchRequest request;
  std::string stages;  // "step,decode"; empty: all
  bool scaling = false;
};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  for (size_t at = 0; at < list.size();) {
    const size_t comma = std::min(list.find(',', at), list.size());
    parts.push_back(list.substr(at, comma - at));
    at = comma + 1;
  }
  return parts;
}

double gigaflops(double flops, double seconds) { return flops / seconds / 1e9; }

ordered_json to_json(const BenchStage& stage) {
  const auto [fastest, slowest] = std::minmax_element(stage.seconds.begin(), stage.seconds.end());
  const bool computes = stage.flops() > 0;
  return {{"stage", stage.stage},
          {"median_seconds", stage.median()},
          {"min_seconds", *fastest},
          {"max_seconds", *slowest},
          {"seconds", stage.seconds},
          {"tokens", stage.tokens > 0 ? ordered_json(stage.tokens) : ordered_json()},
          {"flops", stage.flops()},
          {"attention_flops", stage.attention_flops},
          {"gflops_per_second", computes ? ordered_json(gigaflops(stage.flops(), stage.median())) : ordered_json()},
          {"share_of_peak", stage.share_of_peak ? ordered_json(*stage.share_of_peak) : ordered_json()},
          {"peak_memory_bytes", stage.peak_resident_bytes},
          {"peak_device_memory_bytes", stage.peak_device_bytes}};
}

ordered_json to_json(const BenchReport& report) {
  ordered_json probes = ordered_json::array(), stages = ordered_json::array();
  for (const BenchProbe& probe : report.probes) {
    probes.push_back(
        {{"name", probe.name}, {"shape", probe.shape}, {"gflops_per_second", probe.flops_per_second / 1e9}});
  }
  for (const BenchStage& stage : report.stages) stages.push_back(to_json(stage));
  return {{"device", report.device},
          {"dtype", report.dtype},
          {"computing", report.computing},
          {"cpu", report.cpu},
          {"threads", report.threads},
          {"config", report.config},
          {"random_weights", report.random_weights},
          {"width", report.width},
          {"height", report.height},
          {"frames", report.frames},
          {"probes", probes},
          {"stages", stages}};
}

ordered_json to_json(const ScalingPoint& point) {
  return {{"quantity", point.quantity},
          {"value", point.value},
          {"width", point.width},
          {"height", point.height},
          {"frames", point.frames},
          {"tokens", point.tokens},
          {"stage", point.stage},
          {"seconds", point.seconds},
          {"flops", point.flops},
          {"gflops_per_second", gigaflops(point.flops, point.seconds)},
          {"peak_memory_bytes", point.peak_resident_bytes},
          {"peak_device_memory_bytes", point.peak_device_bytes}};
}

double mebibytes(int64_t bytes) { return static_cast<double>(bytes) / 1048576; }

void print_table(const BenchReport& report) {
  std::cout << fmt::format("{}, {} threads, {} {}; {}{}, {}x{}, {} frames\n", report.cpu, report.threads, report.device,
                           report.computing, report.config, report.random_weights ? " with random weights" : "",
                           report.width, report.height, report.frames);
  for (const BenchProbe& probe : report.probes) {
    std::cout << fmt::format("{:<9}  {:>8.1f} GFLOP/s  {}\n", probe.name, probe.flops_per_second / 1e9, probe.shape);
  }
  std::cout << fmt::format("{:<6}  {:>10}  {:>10}  {:>10}  {:>7}  {:>9}  {:>8}  {:>7}  {:>9}\n", "stage", "median/s",
                           "min/s", "max/s", "tokens", "GFLOP", "GFLOP/s", "of peak", "peak/MiB");
  for (const BenchStage& stage : report.stages) {
    const auto [fastest, slowest] = std::minmax_element(stage.seconds.begin(), stage.seconds.end());
    const bool computes = stage.flops() > 0;
    std::cout << fmt::format("{:<6}  {:>10.4f}  {:>10.4f}  {:>10.4f}  {:>7}  {:>9}  {:>8}  {:>7}  {:>9.0f}\n",
                             stage.stage, stage.median(), *fastest, *slowest,
                             stage.tokens > 0 ? std::to_string(stage.tokens) : "",
                             computes ? fmt::format("{:.1f}", stage.flops() / 1e9) : "",
                             computes ? fmt::format("{:.1f}", gigaflops(stage.flops(), stage.median())) : "",
                             stage.share_of_peak ? fmt::format("{:.0f} %", 100 * *stage.share_of_peak) : "",
                             mebibytes(std::max(stage.peak_resident_bytes, stage.peak_device_bytes)));
  }
}

void print_table(const std::vector<ScalingPoint>& points) {
  std::cout << fmt::format("{:<8}  {:>7}  {:>9}  {:>6}  {:<7}  {:>10}  {:>10}  {:>8}  {:>9}\n", "quantity", "value",
                           "size", "frames", "stage", "seconds", "GFLOP", "GFLOP/s", "peak/MiB");
  for (const ScalingPoint& point : points) {
    std::cout << fmt::format("{:<8}  {:>7}  {:>9}  {:>6}  {:<7}  {:>10.3f}  {:>10.1f}  {:>8.1f}  {:>9.0f}\n",
                             point.quantity, point.value, fmt::format("{}x{}", point.width, point.height), point.frames,
                             point.stage, point.seconds, point.flops / 1e9, gigaflops(point.flops, point.seconds),
                             mebibytes(std::max(point.peak_resident_bytes, point.peak_device_bytes)));
  }
}

// Draws FLOPs a second as bars. Where they are equally long, the cost is in proportion to the work.
void print_chart(const std::vector<ScalingPoint>& points) {
  constexpr double kLongest = 40;
  double highest = 0;
  for (const ScalingPoint& point : points) highest = std::max(highest, point.flops / point.seconds);
  std::cout << "GFLOP/s; bars of one length: cost in proportion to work\n";
  for (const ScalingPoint& point : points) {
    const double rate = point.flops / point.seconds;
    const auto length = static_cast<size_t>(std::lround(kLongest * rate / highest));
    std::cout << fmt::format("{:<18}  {:>7}  {:>8.1f}  {}\n", point.stage + " by " + point.quantity, point.value,
                             rate / 1e9, std::string(length, '#'));
  }
}

// Without a model folder the weights are random, and the default is the small configuration that is there for that.
GenerateRequest resolve_run(const BenchOptions& options, const CLI::App& command) {
  const std::string& config = options.settings.config;
  std::filesystem::path model_dir = options.settings.request.model_dir;
  request::Settings run;
  if (model_dir.empty()) {
    run.request.config = load_config(find_config(config.empty() ? "bench" : config));
  } else {
    model_dir = resolve_model_dir(model_dir);
    run.request.config = resolve_config(config, model_dir);
  }
  request::apply(given_flags(command), run);
  run.request.model_dir = model_dir;
  return run.request;
}

void run_scaling(const BenchOptions& options, const GenerateRequest& run, ProgressReporter& reporter) {
  const std::vector<ScalingPoint> points = bench_scaling(run, std::ref(reporter));
  if (options.json) {
    ordered_json list = ordered_json::array();
    for (const ScalingPoint& point : points) list.push_back(to_json(point));
    return print_json(list);
  }
  print_table(points);
  std::cout << '\n';
  print_chart(points);
}

void run(const BenchOptions& options, const CLI::App& command) {
  options.apply_log();
  const ProgressStyle style = resolve_progress_style(options.progress, options.quiet);
  BenchRequest request = options.request;
  request.run = resolve_run(options, command);
  request.stages = split(options.stages);
  catch_signals();
  ProgressReporter reporter(style);
  if (options.scaling) return run_scaling(options, request.run, reporter);
  const BenchReport report = bench(request, std::ref(reporter));
  if (options.json) return print_json(to_json(report));
  print_table(report);
}

void add_measuring_options(CLI::App& command, BenchOptions& options) {
  auto* stages = command.add_option("--stages", options.stages,
                                    fmt::format("Some of {}, with commas (default: all; load only with --model-dir)",
                                                fmt::join(bench_stages(), ",")));
  BenchRequest& request = options.request;
  auto* warmup = add_whole(command, "--warmup", request.warmup, {0, 1000}, "Runs of each stage that are not counted")
                     ->default_str(std::to_string(request.warmup));
  auto* repetitions = add_whole(command, "--repetitions", request.repetitions, {1, 1000}, "Runs of each stage that are")
                          ->default_str(std::to_string(request.repetitions));
  command
      .add_flag("--scaling", options.scaling,
                "Instead: seconds against tokens, frames and steps, each 1, 2, 4 and 8 times, as a table and a chart")
      ->excludes(stages)
      ->excludes(warmup)
      ->excludes(repetitions);
}

}  // namespace

void add_bench(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand("bench", "Measure how fast each stage of a run is on this machine");
  add_measuring_options(*command, *options);
  add_parameters(*command, options->settings,
                 {"model-dir",  "config",     "diffusion-model", "vae",           "t5xxl",   "clip-l",     "flux",
                  "flux-ae",    "resolution", "aspect-ratio",    "width",         "height",  "num-frames", "fps",
                  "vae-tiling", "device",     "dtype",           "quant-compute", "threads", "trace"});
  command->get_option("--model-dir")->description("Folder with the weights (default: none, but random ones in memory)");
  command->get_option("--config")
      ->description(
          "Configuration: a file or a name (default: the model folder's config.json, else 256px; without a "
          "folder bench, 159 M parameters)");
  command->get_option("--aspect-ratio")->description("16:9, 9:16, 1:1, …");
  options->add_progress_to(*command);
  options->add_json_to(*command, "Print one JSON object instead of a table", "Output");
  options->add_log_to(*command);
  command->footer(
      "\"of peak\" is the time that the two probes predict for a stage's FLOPs, against the one that it took.\n"
      "Examples:\n"
      "  opensora bench\n"
      "  opensora bench --model-dir ./ckpts --config 256px --num-frames 17 --stages load,step\n"
      "  opensora bench --config 256px --stages decode,encode,write --device cpu --json\n"
      "  opensora bench --scaling --json > scaling.json");
  command->callback([options, command] { run_traced(options->settings.trace, [&] { run(*options, *command); }); });
}

}  // namespace opensora::cli
