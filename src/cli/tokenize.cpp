// opensora tokenize: what the text encoders read of a text.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/parameter_options.h"
#include "cli/standard_output.h"
#include "opensora/error.h"
#include "opensora/text.h"

namespace opensora::cli {
namespace {

nlohmann::json to_json(const TokenizedText& text) {
  nlohmann::json object = {{"ids", text.ids},
                           {"pieces", text.pieces},
                           {"count", text.pieces.size()},
                           {"total", text.total},
                           {"cut_before", nullptr}};
  if (text.cut_before) object["cut_before"] = *text.cut_before;
  return object;
}

void print(const char* name, const TokenizedText& text) {
  std::cout << name << ": " << text.pieces.size() << " of " << text.total << " tokens";
  if (text.cut_before) std::cout << ", cut before \"" << *text.cut_before << '"';
  std::cout << '\n';
  for (size_t i = 0; i < text.pieces.size(); ++i) std::cout << "  " << text.ids[i] << '\t' << text.pieces[i] << '\n';
}

void run(const CommandOptions& options, int64_t t5_max_length) {
  options.apply_log();
  const std::filesystem::path folder = resolve_model_dir(options.settings.request.model_dir);
  Config config = resolve_config(options.settings.config, folder);
  if (t5_max_length > 0) config.t5.max_length = t5_max_length;
  const TokenizedPrompt tokens = tokenize(options.settings.request.prompt, folder, config);
  if (options.json) return print_json(nlohmann::json{{"clip", to_json(tokens.clip)}, {"t5", to_json(tokens.t5)}});
  print("clip", tokens.clip);
  print("t5", tokens.t5);
}

}  // namespace

void add_tokenize(CLI::App& app) {
  auto options = std::make_shared<CommandOptions>();
  auto t5_max_length = std::make_shared<int64_t>(0);
  CLI::App* command = app.add_subcommand("tokenize", "Show the tokens of a text, and where the encoders cut it");
  command->add_option("TEXT", options->settings.request.prompt, "The text, as it is (generate adds suffixes)")
      ->required();
  add_whole(*command, "--t5-max-length", *t5_max_length, {1, 1 << 20},
            "T5's limit in tokens (default: the configuration's)");
  options->add_json_to(*command, "Print one JSON object: clip and t5, each with ids, pieces, count");
  add_parameters(*command, options->settings, {"model-dir", "config"});
  options->add_log_to(*command);
  command->footer("Example:\n  opensora tokenize \"raining, sea\" --json");
  command->callback([options, t5_max_length] { run(*options, *t5_max_length); });
}

}  // namespace opensora::cli
