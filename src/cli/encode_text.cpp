// opensora encode-text: text embeddings ahead of time.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "batch/stage_seconds.h"
#include "cli/commands.h"
#include "cli/logging.h"
#include "cli/model_folder.h"
#include "cli/parameter_options.h"
#include "cli/progress_reporter.h"
#include "cli/result_json.h"
#include "cli/row_request.h"
#include "cli/signals.h"
#include "cli/validators.h"
#include "opensora/encode_text.h"
#include "opensora/error.h"
#include "request/layers.h"

namespace opensora::cli {
namespace {

struct EncodeTextOptions {
  EncodeTextRequest request;
  std::vector<std::string> prompts;
  std::string prompts_file;  // in place of `prompts`; "-": standard input
  std::string negative_prompt;
  std::string encoder = "both";
  bool exact = false;
  std::string progress = "auto";
  bool json = false;
  request::Settings settings;  // models, machine, and of the texts' suffixes fps and motion score
  LogOptions log;
};

nlohmann::ordered_json to_json(const EncodeTextResult& result) {
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const EncodedTextFile& file : result.files) {
    files.push_back({{"text", file.text}, {"file", file.file.string()}, {"kept", file.kept}});
  }
  return {{"files", files},
          {"device", result.device},
          {"dtype", result.dtype},
          {"seconds", batch::stage_seconds(result.seconds)},
          {"peak_memory_bytes", result.peak_resident_bytes},
          {"peak_device_memory_bytes", result.peak_device_bytes}};
}

// What decides the texts of a video.
struct Prompt {
  std::string prompt, negative;
  Config config;  // its fps and motion score
};

// The rows as `generate` reads them, but for their references: these need not be on this machine.
std::vector<Prompt> prompts_of_file(const EncodeTextOptions& options, const CLI::App& command,
                                    const std::filesystem::path& model_dir, const Config& config) {
  const PromptsFile file{.file = options.prompts_file,
                         .format = {},
                         .ignored = {"image", "end-image", "video", "cond-type"},
                         .makes_videos = false};
  std::vector<Prompt> prompts;
  for (const RowRequest& row : read_rows(file, command, given_flags(command), model_dir, config)) {
    prompts.push_back({row.request.prompt, row.request.negative_prompt, row.request.config});
  }
  return prompts;
}

std::vector<Prompt> wanted_prompts(const EncodeTextOptions& options, const CLI::App& command,
                                   const std::filesystem::path& model_dir, const Config& config) {
  if (!options.prompts_file.empty()) return prompts_of_file(options, command, model_dir, config);
  if (options.prompts.empty()) throw UsageError("give prompts with -p or --prompts-file");
  std::vector<Prompt> prompts;
  prompts.reserve(options.prompts.size());
  for (const std::string& prompt : options.prompts) prompts.push_back({prompt, options.negative_prompt, config});
  return prompts;
}

std::vector<std::string> texts_to_encode(const std::vector<Prompt>& prompts, bool exact) {
  std::vector<std::string> texts;
  for (const auto& [prompt, negative, config] : prompts) {
    const auto looked_for = exact ? std::vector{prompt} : embedded_texts(prompt, negative, config);
    texts.insert(texts.end(), looked_for.begin(), looked_for.end());
  }
  return texts;
}

void run(const EncodeTextOptions& options, const CLI::App& command) {
  options.log.apply();
  EncodeTextRequest request = options.request;
  const ProgressStyle style = resolve_progress_style(options.progress, options.log.quiet);
  request.t5 = options.encoder != "clip";
  request.clip = options.encoder != "t5";
  request.model_dir = resolve_model_dir(options.settings.request.model_dir);
  request::Settings settings;
  settings.request.config = resolve_config(options.settings.config, request.model_dir);
  request::apply(given_flags(command), settings);
  request.config = settings.request.config;
  request.files = settings.request.files;
  request.device = settings.request.device;
  request.dtype = settings.request.dtype;
  request.threads = settings.request.threads;
  request.texts = texts_to_encode(wanted_prompts(options, command, request.model_dir, request.config), options.exact);

  catch_signals();
  ProgressReporter reporter(style);
  const EncodeTextResult result = encode_text(request, std::ref(reporter));
  if (options.json) return print_json(to_json(result));
  for (const EncodedTextFile& file : result.files) std::cout << file.file.string() << '\n';
}

void add_text_options(CLI::App& command, EncodeTextOptions& options) {
  auto* exact = command.add_flag("--exact", options.exact, "Encode only the prompts themselves, without suffixes");
  auto* prompt = command.add_option("-p,--prompt", options.prompts, "A prompt; may be given several times")
                     ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
                     ->allow_extra_args(false);
  command
      .add_option(
          "--prompts-file", options.prompts_file,
          "The prompts of a file as generate reads it: .txt, .csv, .json or .jsonl; - for a text on standard input")
      ->excludes(prompt)
      ->type_name("FILE");
  command.add_option("-n,--negative-prompt", options.negative_prompt, "Encoded too (default: the empty text)")
      ->excludes(exact);
  add_parameters(command, options.settings, {"fps", "motion-score"});
  const std::string group = exact->get_group();
  command.get_option("--fps")->description("Of the suffix, rounded (default: configuration)");
  command.get_option("--motion-score")->description("Of the suffix, a number, or none");
  for (const char* flag : {"--fps", "--motion-score"}) command.get_option(flag)->excludes(exact)->group(group);
  command.add_option("--encoder", options.encoder, "Which encoder to run")
      ->check(one_of({"t5", "clip", "both"}))
      ->capture_default_str();
}

void add_output_options(CLI::App& command, EncodeTextOptions& options) {
  const char* group = "Output";
  command.add_option("--output-dir", options.request.output_dir, "Folder for the files, one a text")
      ->required()
      ->type_name("DIR")
      ->group(group);
  command.add_flag("--overwrite", options.request.overwrite, "Encode anew what is there")->group(group);
  command.add_flag("--json", options.json, "Print one JSON object instead of the files' names")->group(group);
  add_progress_option(command, options.progress);
}

}  // namespace

void add_encode_text(CLI::App& app) {
  auto options = std::make_shared<EncodeTextOptions>();
  CLI::App* command = app.add_subcommand("encode-text", "Encode texts ahead of time, for generate --text-embeddings");
  add_text_options(*command, *options);
  add_parameters(*command, options->settings, {"model-dir", "config", "t5xxl", "clip-l", "device", "dtype", "threads"});
  add_output_options(*command, *options);
  options->log.add_to(*command);
  command->footer(
      "Each prompt is encoded as it is and with the suffixes that generate adds to it; the negative prompt too. Files\n"
      "that are there and fit are kept.\n"
      "Examples:\n"
      "  opensora encode-text -p \"raining, sea\" --output-dir embeddings\n"
      "  opensora generate -p \"raining, sea\" --text-embeddings embeddings\n"
      "  opensora encode-text --prompts-file prompts.csv --output-dir embeddings\n"
      "  opensora encode-text -p \"raining, sea\" --encoder t5 --output-dir embeddings --json");
  command->callback([options, command] { run(*options, *command); });
}

}  // namespace opensora::cli
