// opensora verify: whether a model folder holds all that a run needs.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/parameter_options.h"
#include "cli/standard_output.h"
#include "opensora/checkpoint.h"
#include "opensora/error.h"

namespace opensora::cli {
namespace {

nlohmann::ordered_json to_json(const VerifiedComponent& component) {
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const VerifiedFile& file : component.files) {
    nlohmann::ordered_json object = {{"path", file.path.string()}, {"bytes", file.bytes}};
    if (!file.sha256.empty()) object["sha256"] = file.sha256;
    files.push_back(std::move(object));
  }
  return {{"name", component.name},
          {"path", component.path.string()},
          {"files", files},
          {"tensors", component.tensors},
          {"parameters", component.parameters},
          {"problems", request::with_flags(component.problems)}};
}

void print(const VerifiedComponent& component) {
  const std::string where = component.path.empty() ? "not found" : component.path.string();
  std::cout << fmt::format("{}: {}: {}\n", component.name, where,
                           component.problems.empty()
                               ? fmt::format("ok, {} tensors, {} parameters", component.tensors, component.parameters)
                               : fmt::format("{} problem(s)", component.problems.size()));
  for (const VerifiedFile& file : component.files) {
    std::cout << fmt::format("  {} {} bytes{}\n", file.path.string(), file.bytes,
                             file.sha256.empty() ? "" : " sha256 " + file.sha256);
  }
  for (const std::string& problem : component.problems) {
    std::cout << "  problem: " << request::with_flags(problem) << '\n';
  }
}

void run(const CommandOptions& options, bool full) {
  options.apply_log();
  const std::filesystem::path folder = resolve_model_dir(options.settings.request.model_dir);
  const Config config = resolve_config(options.settings.config, folder);
  const VerifyReport report = verify(
      folder, config, full, [](const std::filesystem::path& file) { spdlog::info("reading {}", file.string()); });
  const std::string failure =
      fmt::format("model folder {}: {} problem(s) for the configuration {}{}{}", folder.string(), report.problems(),
                  config.name, report.advice.empty() ? "" : "; ", report.advice);
  if (options.json) {
    nlohmann::ordered_json components = nlohmann::ordered_json::array();
    for (const VerifiedComponent& component : report.components) components.push_back(to_json(component));
    const nlohmann::ordered_json root = {{"config", config.name},
                                         {"ok", report.problems() == 0},
                                         {"problems", report.problems()},
                                         {"components", components}};
    if (report.problems() > 0) print_failed_report(root, ExitCode::kCheckpoint, failure);
    print_json(root);
  } else {
    for (const VerifiedComponent& component : report.components) print(component);
  }
  if (report.problems() > 0) throw CheckpointError(failure);
}

}  // namespace

void add_verify(CLI::App& app) {
  auto options = std::make_shared<CommandOptions>();
  auto full = std::make_shared<bool>(false);
  CLI::App* command =
      app.add_subcommand("verify", "Check that a model folder holds all that a run needs, without loading weights");
  command->add_option("DIR", options->settings.request.model_dir, "Folder with the weights (default: as for generate)")
      ->type_name("DIR");
  add_parameters(*command, options->settings, {"config"});
  command->add_flag("--full", *full, "Also read every tensor (NaN, infinity) and print each file's SHA-256");
  options->add_json_to(*command, "Print one JSON object");
  options->add_log_to(*command);
  command->footer(
      "Examples:\n"
      "  opensora verify ckpts\n"
      "  opensora verify ckpts --config 768px --json\n"
      "  opensora verify ckpts --full");
  command->callback([options, full] { run(*options, *full); });
}

}  // namespace opensora::cli
