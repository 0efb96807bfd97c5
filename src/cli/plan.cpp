// opensora plan: what a run would take.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/parameter_options.h"
#include "cli/row_request.h"
#include "cli/standard_output.h"
#include "core/units.h"
#include "opensora/error.h"
#include "opensora/metadata.h"
#include "opensora/plan.h"

namespace opensora::cli {
namespace {

using nlohmann::ordered_json;

constexpr const char* kPublished =
    "the weights are not here: names and shapes are those that the configuration asks for, in the published types\n";

std::string flops_text(double flops) {
  if (flops >= 1e15) return fmt::format("{:.2f} P", flops / 1e15);
  if (flops >= 1e12) return fmt::format("{:.2f} T", flops / 1e12);
  return fmt::format("{:.2f} G", flops / 1e9);
}

std::string joined(const std::vector<std::string>& flags) {
  std::string text;
  for (const std::string& flag : flags) text.append(text.empty() ? "" : " ").append(flag);
  return text;
}

ordered_json value_or_null(const std::optional<double>& value) { return value ? ordered_json(*value) : ordered_json(); }

ordered_json to_json(const MemoryVerdict& memory) {
  return {{"available_bytes", memory.available_bytes},
          {"source", request::with_flags(memory.source)},
          {"needed_bytes", memory.needed_bytes},
          {"reserve_bytes", memory.reserve_bytes},
          {"fits", memory.fits},
          {"flags", request::with_flags(memory.flags)},
          {"peak_with_flags_bytes", memory.flags.empty() ? ordered_json() : ordered_json(memory.peak_with_flags)},
          {"seconds_with_flags", value_or_null(memory.seconds_with_flags)}};
}

struct PlannedRow {
  std::string place;   // "prompts.csv:12"; empty: the command line
  int64_t videos = 1;  // that the row makes
  RunPlan plan;        // of one of them
};

ordered_json to_json(const RunPlan& plan) {
  ordered_json stages = ordered_json::array();
  for (const StagePlan& stage : plan.stages) {
    stages.push_back({{"stage", stage.stage},
                      {"model", stage.model.empty() ? ordered_json() : ordered_json(stage.model)},
                      {"stored_bytes", stage.stored_bytes},
                      {"weight_bytes", stage.weight_bytes},
                      {"streams_blocks", stage.streams_blocks},
                      {"peak_memory_bytes", stage.peak_bytes},
                      {"anonymous_bytes", stage.anonymous_bytes},
                      {"forwards", stage.forwards},
                      {"forwards_are_estimated", stage.forwards_are_estimated},
                      {"flops", stage.flops},
                      {"product_bytes", stage.product_bytes},
                      {"attention_bytes", stage.attention_bytes},
                      {"convolution_bytes", stage.convolution_bytes},
                      {"elementwise_bytes", stage.elementwise_bytes},
                      {"loaded_bytes", stage.loaded_bytes},
                      {"streamed_bytes", stage.streamed_bytes},
                      {"load_seconds", value_or_null(stage.load_seconds)},
                      {"seconds", value_or_null(stage.seconds)}});
  }
  return {{"output", plan.output.string()},
          {"condition", plan.condition},
          {"width", plan.width},
          {"height", plan.height},
          {"frames", plan.frames},
          {"steps", plan.steps},
          {"tokens", plan.tokens},
          {"device", plan.device},
          {"dtype", plan.dtype},
          {"computing", plan.computing},
          {"stages", stages},
          {"peak_memory_bytes", plan.peak_bytes},
          {"anonymous_bytes", plan.anonymous_bytes},
          {"flops", plan.flops},
          {"seconds", value_or_null(plan.seconds)},
          {"speed_of", plan.speed_of.empty() ? ordered_json() : ordered_json(plan.speed_of)},
          {"weights", plan.published ? "published" : "model folder"},
          {"estimated_output_bytes", plan.output_bytes},
          {"memory", plan.memory ? to_json(*plan.memory) : ordered_json()}};
}

std::string verdict_text(const RunPlan& plan) {
  if (!plan.memory) return "memory: how much the device has is not known; say so with --device-memory";
  const MemoryVerdict& memory = *plan.memory;
  const std::string have = format_bytes(memory.available_bytes) + " (" + request::with_flags(memory.source) + ")";
  std::string need = format_bytes(memory.needed_bytes);
  if (plan.device == "cpu") {
    need += " beside mapped files";
  } else if (memory.reserve_bytes > 0) {
    need += ", with " + format_bytes(memory.reserve_bytes) + " for CUDA's context and libraries,";
  } else {
    need += ", without CUDA's context and libraries,";
  }
  if (memory.fits) return "fits: " + need + " of " + have;
  const std::string lack = "does not fit: " + need + " is more than " + have;
  if (memory.flags.empty()) return lack + "; none of the tried flags makes it fit";
  return lack + "; with " + joined(request::with_flags(memory.flags)) + " it does, with " +
         format_bytes(memory.peak_with_flags) +
         (memory.seconds_with_flags ? " and in about " + format_duration(*memory.seconds_with_flags) : "");
}

// Empty where no model's are.
std::string streaming_text(const RunPlan& plan) {
  std::string models;
  for (const StagePlan& stage : plan.stages) {
    if (stage.streams_blocks) models.append(models.empty() ? "" : ", ").append(stage.model);
  }
  return models.empty() ? "" : "streamed block by block (`offload`): " + models + "\n";
}

std::string time_text(const RunPlan& plan) {
  if (!plan.seconds) return "time: not known of this GPU; --gpu names some that are known";
  const std::string about = "estimated time: about " + format_duration(*plan.seconds);
  if (plan.device == "cpu") {
    return about + " on this CPU, by a trial of its kernels; reading weights and writing files not counted";
  }
  double loading = 0;
  for (const StagePlan& stage : plan.stages) loading += stage.load_seconds.value_or(0);
  return fmt::format("{} on {}, {} of it loading models; by published figures, without the writing of files", about,
                     plan.speed_of, format_duration(loading));
}

// With the loading of its model, where that is known.
std::string stage_time(const StagePlan& stage) {
  if (stage.model.empty()) return "";
  return stage.seconds ? format_duration(*stage.seconds + stage.load_seconds.value_or(0)) : "?";
}

// "~33" where a cache decides.
std::string forwards_text(const StagePlan& stage) {
  return (stage.forwards_are_estimated ? "~" : "") + std::to_string(stage.forwards);
}

void print_table(const RunPlan& plan) {
  if (plan.published) std::cout << kPublished;
  std::cout << fmt::format("{}: {}x{}, {} frames, {} steps, {} tokens, {} {}\n", plan.condition, plan.width,
                           plan.height, plan.frames, plan.steps, plan.tokens, plan.device, plan.computing);
  constexpr const char* kFormat = "{:<8}  {:<11}  {:>10}  {:>10}  {:>11}  {:>8}  {:>9}  {:>11}\n";
  std::cout << fmt::format(kFormat, "stage", "model", "stored", "weights", "peak memory", "forwards", "FLOP", "time");
  for (const StagePlan& stage : plan.stages) {
    const bool has_model = !stage.model.empty();
    std::cout << fmt::format(kFormat, stage.stage, stage.model, has_model ? format_bytes(stage.stored_bytes) : "",
                             has_model ? format_bytes(stage.weight_bytes) : "", format_bytes(stage.peak_bytes),
                             has_model ? forwards_text(stage) : "", has_model ? flops_text(stage.flops) : "",
                             stage_time(stage));
  }
  std::cout << fmt::format("peak memory {}, {}FLOP, {} of about {}\n", format_bytes(plan.peak_bytes),
                           flops_text(plan.flops), plan.output.string(), format_bytes(plan.output_bytes));
  std::cout << request::with_flags(streaming_text(plan)) << time_text(plan) << '\n' << verdict_text(plan) << '\n';
}

ordered_json to_json(const PlannedRow& row) {
  if (row.place.empty()) return to_json(row.plan);
  ordered_json object = {{"place", row.place}, {"videos", row.videos}};
  object.update(to_json(row.plan));
  return object;
}

// The values of a request that decide its plan. Rows that differ only in texts and seeds have the same.
std::string plan_key(const GenerateRequest& request) {
  GenerateRequest anywhere = request;
  anywhere.device = "cpu";  // what is planned for need not be here
  ordered_json values = ordered_json::parse(effective_values(anywhere));
  values["device"] = request.device;
  for (const char* name : {"prompt", "negative_prompt", "seed"}) values.erase(name);
  return values.dump();
}

std::vector<PlannedRow> plan_rows(const std::vector<RowRequest>& rows, const request::Settings& settings,
                                  PlanOptions options) {
  options.base = base_memory();  // the same for all rows: planning itself takes memory that stays
  std::map<std::string, RunPlan> known;
  std::vector<PlannedRow> plans;
  plans.reserve(rows.size());
  for (const RowRequest& row : rows) {
    const std::string key = plan_key(row.request);
    if (!known.contains(key)) known.emplace(key, plan_run(row.request, options));
    plans.push_back({row.place, count_videos(row, settings), known.at(key)});
  }
  return plans;
}

void print_rows(const std::vector<PlannedRow>& rows) {
  if (rows.front().plan.published) std::cout << kPublished;
  size_t width = 3;
  for (const PlannedRow& row : rows) width = std::max(width, row.place.size());
  constexpr const char* kFormat = "{:<{}}  {:>6}  {:<13}  {:<9}  {:>6}  {:>5}  {:>7}  {:>11}  {:>9}\n";
  std::cout << fmt::format(kFormat, "row", width, "videos", "condition", "size", "frames", "steps", "tokens",
                           "peak memory", "FLOP");
  int64_t videos = 0;
  double flops = 0, bytes = 0;
  for (const auto& [place, count, plan] : rows) {
    std::cout << fmt::format(kFormat, place, width, count, plan.condition,
                             fmt::format("{}x{}", plan.width, plan.height), plan.frames, plan.steps, plan.tokens,
                             format_bytes(plan.peak_bytes), flops_text(plan.flops));
    videos += count;
    flops += static_cast<double>(count) * plan.flops;
    bytes += static_cast<double>(count * plan.output_bytes);
  }
  const PlannedRow& largest = *std::max_element(
      rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.plan.peak_bytes < b.plan.peak_bytes; });
  std::cout << fmt::format("{} videos, {}FLOP, about {} of files\n", videos, flops_text(flops),
                           format_bytes(static_cast<int64_t>(bytes)));
  std::cout << fmt::format("{}: {}\n", largest.place, verdict_text(largest.plan));
}

bool is_streamed(const RunPlan& plan) {
  return std::any_of(plan.stages.begin(), plan.stages.end(), [](const auto& stage) { return stage.streams_blocks; });
}

// How a run on a GPU fits, and how long it then takes.
std::string remedy_text(const RunPlan& plan) {
  if (plan.memory->fits) return is_streamed(plan) ? "blocks are streamed" : "";
  return plan.memory->flags.empty() ? "does not fit" : "with " + joined(request::with_flags(plan.memory->flags));
}

std::optional<double> fitting_seconds(const RunPlan& plan) {
  return plan.memory->fits ? plan.seconds : plan.memory->seconds_with_flags;
}

void print_all_gpus(const GenerateRequest& request, const PlanOptions& options, bool json) {
  const std::vector<KnownGpu> gpus = known_gpus();
  const std::vector<RunPlan> plans = plan_for_all_gpus(request, options);
  if (json) {
    for (size_t i = 0; i < gpus.size(); ++i) {
      ordered_json object = {{"gpu", gpus[i].key}};
      object.update(to_json(plans[i]));
      print_json(object);
    }
    return;
  }
  const RunPlan& first = plans.front();
  if (first.published) std::cout << kPublished;
  std::cout << fmt::format("{}: {}x{}, {} frames, {} steps, {}\n", first.condition, first.width, first.height,
                           first.frames, first.steps, first.computing);
  constexpr const char* kFormat = "{:<13}  {:<22}  {:>10}  {:>10}  {:>10}  {}\n";
  std::cout << fmt::format(kFormat, "--gpu", "name", "usable", "needed", "time", "");
  for (size_t i = 0; i < gpus.size(); ++i) {
    const MemoryVerdict& memory = *plans[i].memory;
    const std::optional<double> seconds = fitting_seconds(plans[i]);
    const bool fits_somehow = memory.fits || !memory.flags.empty();
    std::cout << fmt::format(kFormat, gpus[i].key, gpus[i].name, format_bytes(memory.available_bytes),
                             format_bytes(memory.fits || !fits_somehow ? memory.needed_bytes : memory.peak_with_flags),
                             seconds ? format_duration(*seconds) : "", remedy_text(plans[i]));
  }
  std::cout << "estimates by published figures; loading counts, the writing of files does not\n";
}

// Weights that somebody named must be there; others may be missing.
bool may_lack_weights(const request::Settings& settings) {
  const auto names_weights = [&](const request::Parameter& parameter) {
    return parameter.group == "Model" && parameter.name() != "model-dir" && parameter.name() != "config" &&
           !parameter.get(settings).is_null();
  };
  return !std::any_of(request::parameters().begin(), request::parameters().end(), names_weights) &&
         !choose_model_folder(settings.request.model_dir).was_named;
}

}  // namespace

void print_plans(const CommandOptions& options, const CLI::App& command, bool for_all_gpus) {
  PlanOptions plan_options;
  plan_options.gpu = options.settings.gpu;
  plan_options.may_lack_weights = may_lack_weights(options.settings);
  plan_options.measures_time = true;
  if (options.settings.device_memory > 0) plan_options.device_memory = options.settings.device_memory;
  const std::vector<RowRequest> rows = requested_rows(options, command, values_of_from(options));
  if (for_all_gpus) return print_all_gpus(rows.front().request, plan_options, options.json);
  const std::vector<PlannedRow> plans = plan_rows(rows, options.settings, plan_options);
  if (options.json) {
    for (const PlannedRow& row : plans) print_json(to_json(row));
  } else if (options.settings.batch.prompts_file.empty()) {
    print_table(plans.front().plan);
  } else {
    print_rows(plans);
  }
}

void add_plan(CLI::App& app) {
  auto plan = std::make_shared<CommandOptions>();
  CLI::App* command = app.add_subcommand(
      "plan", "Say what a run of generate would take: weights, memory, FLOPs, and whether it fits; the same flags");
  plan->only_plans = true;
  add_generate_options(*command, *plan);
  auto for_all_gpus = std::make_shared<bool>(false);
  command
      ->add_flag("--all-gpus", *for_all_gpus, "For each GPU that is known: whether it fits, with which flags, how long")
      ->excludes(command->get_option("--gpu"))
      ->excludes(command->get_option("--device-memory"))
      ->excludes(command->get_option("--prompts-file"))
      ->group("Machine");
  command->footer(
      "No weights are read. A run that does not fit is an answer too: the exit code is 0, \"fits\" in --json says so.\n"
      "Where no model folder is named and the weights are not there, the plan of a published configuration is that of\n"
      "the published files, and says so: ask before you download. The prompt may be left out.\n"
      "Examples:\n"
      "  opensora plan --config 768px --gpu 4090\n"
      "  opensora plan --config 768px --all-gpus\n"
      "  opensora plan --config 256px --num-frames 33 --device cpu --json\n"
      "  opensora plan -p \"raining, sea\" --model-dir ./ckpts");
  command->callback([plan, command, for_all_gpus] {
    plan->apply_log();
    print_plans(*plan, *command, *for_all_gpus);
  });
}

}  // namespace opensora::cli
