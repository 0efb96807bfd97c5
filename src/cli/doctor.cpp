// opensora doctor: whether this machine can run the program.
#include "opensora/machine.h"

#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/parameter_options.h"
#include "cli/standard_output.h"

namespace opensora::cli {
namespace {

const char* health_name(Health health) {
  switch (health) {
    case Health::kOk:
      return "ok";
    case Health::kWarning:
      return "warning";
    case Health::kError:
      return "error";
  }
  return "";
}

nlohmann::ordered_json to_json(const Finding& finding) {
  return {{"topic", finding.topic},
          {"health", health_name(finding.health)},
          {"text", request::with_flags(finding.text)},
          {"advice", finding.advice.empty() ? nlohmann::ordered_json()
                                            : nlohmann::ordered_json(request::with_flags(finding.advice))}};
}

void print(const Finding& finding) {
  const std::string advice = finding.advice.empty() ? "" : "; " + finding.advice;
  std::cout << fmt::format("{:<7}  {:<8}  {}{}\n", health_name(finding.health), finding.topic,
                           request::with_flags(finding.text), request::with_flags(advice));
}

void run(const CommandOptions& options) {
  options.apply_log();
  const ModelFolder folder = choose_model_folder(options.settings.request.model_dir);
  const std::vector<Finding> findings = diagnose(folder.path, folder.source, options.settings.config);
  size_t errors = 0;
  const Finding* first = nullptr;
  for (const Finding& finding : findings) {
    if (finding.health != Health::kError) continue;
    ++errors;
    if (first == nullptr) first = &finding;
  }
  const std::string failure = first == nullptr ? "" : fmt::format("{} error(s), first: {}", errors, first->text);
  if (options.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Finding& finding : findings) list.push_back(to_json(finding));
    const nlohmann::ordered_json root = {{"ok", errors == 0}, {"findings", list}};
    if (first != nullptr) print_failed_report(root, first->code, failure);
    print_json(root);
  } else {
    for (const Finding& finding : findings) print(finding);
  }
  if (first != nullptr) throw Error(first->code, failure);
}

}  // namespace

void add_doctor(CLI::App& app) {
  auto options = std::make_shared<CommandOptions>();
  CLI::App* command = app.add_subcommand(
      "doctor", "Look at this machine: versions, memory, GPUs, encoders, models, folders, and what to do about them");
  add_parameters(*command, options->settings, {"model-dir", "config"});
  options->add_json_to(*command, "Print one JSON object");
  options->add_log_to(*command);
  command->footer(
      "Each line is ok, warning or error. With an error the exit code is that of a run that meets it.\n"
      "Examples:\n"
      "  opensora doctor\n"
      "  opensora doctor --model-dir ./ckpts --config 768px --json");
  command->callback([options] { run(*options); });
}

}  // namespace opensora::cli
