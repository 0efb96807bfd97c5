// opensora encode-text: text embeddings ahead of time.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "batch/events.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/parameter_options.h"
#include "cli/process.h"
#include "cli/row_request.h"
#include "cli/standard_error.h"
#include "cli/standard_output.h"
#include "opensora/error.h"
#include "opensora/text.h"
#include "request/settings.h"

namespace opensora::cli {
namespace {

struct EncodeTextOptions : CommandOptions {
  EncodeTextRequest request;
  std::vector<std::string> prompts;
  std::string prompts_file;  // in place of `prompts`; "-": standard input
  std::string negative_prompt;
  std::string encoder = "both";
  bool exact = false;
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

// The rows as `generate` reads them, but without their references, which need not be on this machine.
std::vector<GenerateRequest> requests_of_file(const EncodeTextOptions& options, const CLI::App& command,
                                              const std::filesystem::path& model_dir, const Config& config) {
  const PromptsFile file{.file = options.prompts_file,
                         .format = {},
                         .ignored = {"image", "end-image", "video", "cond-type"},
                         .makes_videos = false};
  std::vector<GenerateRequest> requests;
  for (RowRequest& row : read_rows(file, command, given_flags(command), model_dir, config)) {
    requests.push_back(std::move(row.request));
  }
  return requests;
}

// A video's texts follow from its prompts, and from the fps and the motion score of its configuration.
std::vector<GenerateRequest> requested_videos(const EncodeTextOptions& options, const CLI::App& command,
                                              const std::filesystem::path& model_dir, const Config& config) {
  if (!options.prompts_file.empty()) return requests_of_file(options, command, model_dir, config);
  if (options.prompts.empty()) throw UsageError("give prompts with -p or --prompts-file");
  GenerateRequest request;
  request.negative_prompt = options.negative_prompt;
  request.config = config;
  std::vector<GenerateRequest> requests(options.prompts.size(), request);
  for (size_t i = 0; i < requests.size(); ++i) requests[i].prompt = options.prompts[i];
  return requests;
}

std::vector<std::string> texts_to_encode(const std::vector<GenerateRequest>& videos, bool exact) {
  std::vector<std::string> texts;
  for (const GenerateRequest& video : videos) {
    const auto looked_for =
        exact ? std::vector{video.prompt} : embedded_texts(video.prompt, video.negative_prompt, video.config);
    texts.insert(texts.end(), looked_for.begin(), looked_for.end());
  }
  return texts;
}

void run(const EncodeTextOptions& options, const CLI::App& command) {
  options.apply_log();
  EncodeTextRequest request = options.request;
  const ProgressStyle style = resolve_progress_style(options.progress, options.quiet);
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
  request.texts = texts_to_encode(requested_videos(options, command, request.model_dir, request.config), options.exact);

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
  options.add_json_to(command, "Print one JSON object instead of the files' names", group);
  options.add_progress_to(command);
}

}  // namespace

void add_encode_text(CLI::App& app) {
  auto options = std::make_shared<EncodeTextOptions>();
  CLI::App* command = app.add_subcommand("encode-text", "Encode texts ahead of time, for generate --text-embeddings");
  add_text_options(*command, *options);
  add_parameters(*command, options->settings, {"model-dir", "config", "t5xxl", "clip-l", "device", "dtype", "threads"});
  add_output_options(*command, *options);
  options->add_log_to(*command);
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
