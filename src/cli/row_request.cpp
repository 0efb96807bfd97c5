#include "cli/row_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "batch/output_name.h"
#include "cli/parameter_options.h"
#include "core/local_file.h"
#include "core/text.h"
#include "opensora/error.h"
#include "opensora/metadata.h"

namespace opensora::cli {
namespace {

namespace fs = std::filesystem;

void check_reference(const std::filesystem::path& file) {
  if (const std::string name = file.string(); is_remote_url(name)) {
    throw UsageError(fmt::format("reference {}: {}", shorten_url(name), remote_url_advice(name)));
  }
  std::error_code unreadable;
  const auto status = std::filesystem::status(file, unreadable);
  if (!std::filesystem::exists(status)) throw UsageError("reference " + file.string() + ": no such file");
  if (std::filesystem::is_directory(status)) {
    throw UsageError("reference " + file.string() + ": is a folder, expected an image or a video");
  }
}

// Returns the row's values that are flags; its name and seeds go into `target`.
FlagValues take_flags(const batch::Row& row, RowRequest& target) {
  FlagValues flags;
  for (const auto& [name, text] : row.values) {
    if (name == "name") {
      target.name = text;
      continue;
    }
    if (name == "seed") {
      const std::vector<uint64_t> seeds = request::seeds({"`seed`", text});
      target.seeds.insert(target.seeds.end(), seeds.begin(), seeds.end());
      continue;
    }
    flags.emplace_back(name, text);
  }
  return flags;
}

std::string name_of(const batch::Row& row) {
  const auto found =
      std::find_if(row.values.begin(), row.values.end(), [](const auto& value) { return value.first == "name"; });
  return found == row.values.end() ? std::string() : found->second;
}

// Where all rows have names and there is no template, videos are called by these. A name that comes twice is then an
// error of the file, and told with the others.
void check_unique_names(const std::vector<batch::Row>& rows, batch::RowErrors& errors) {
  std::vector<batch::NamedVideo> names;
  names.reserve(rows.size());
  for (const batch::Row& row : rows) {
    const std::string name = name_of(row);
    if (name.empty()) return;
    batch::RowErrors told("");  // as resolve_rows() does
    batch::check_row_name(row.line, name, told);
    if (told.empty()) names.push_back({row.line, 0, name});
  }
  batch::check_names(names, errors);
}

// Adds what is wrong with sizes, lengths and conditions.
void check_videos(const std::vector<RowRequest>& requests, batch::RowErrors& errors) {
  for (const RowRequest& row : requests) {
    try {
      GenerateRequest anywhere = row.request;
      anywhere.device = "cpu";  // a plan's device need not be here
      effective_values(anywhere);
    } catch (const UsageError& error) {
      errors.add(row.line, error.what());
    }
  }
}

// The flags that would give other references than those that --from names.
std::string replacing_flags(const std::string& cond_type) {
  if (cond_type == "i2v_loop") return "--image FILE --end-image FILE";
  if (cond_type == "i2v_tail") return "--end-image FILE";
  if (cond_type == "v2v_head") return "--video FILE";
  return cond_type.starts_with("v2v") ? "--video FILE --cond-type " + cond_type : "--image FILE";
}

std::string last_of(const FlagValues& values, std::string_view name) {
  const auto found =
      std::find_if(values.rbegin(), values.rend(), [&](const auto& value) { return value.first == name; });
  return found == values.rend() ? std::string() : found->second;
}

// Videos of all rows and shards together.
int64_t count_all(const std::vector<RowRequest>& rows, const request::Settings& settings) {
  int64_t videos = 0;
  for (const RowRequest& row : rows) videos += count_videos(row, settings);
  return videos;
}

// "prompts" for data/prompts.csv; "videos" where that would be empty or a hidden folder.
std::string folder_name(const std::vector<RowRequest>& rows, const std::string& prompts_file) {
  if (prompts_file.empty()) return prompt_slug(rows.front().request.prompt);
  const std::string name = fs::path(prompts_file).stem().string();
  return name.empty() || name.starts_with('.') ? "videos" : name;
}

// The last of NAME, NAME-2, NAME-3, … that is there; empty where not even the first is.
fs::path last_folder(const std::string& name) {
  std::error_code ignored;
  fs::path last;
  for (int number = 1;; ++number) {
    const fs::path folder = number == 1 ? name : fmt::format("{}-{}", name, number);
    if (!fs::exists(folder, ignored)) return last;
    if (fs::is_directory(folder, ignored)) last = folder;
  }
}

// Without --output-dir older versions put the journal into the current folder.
bool has_journal_here() {
  std::error_code ignored;
  return fs::exists("run.jsonl", ignored);
}

void refuse_with_several(const char* flag, const fs::path& file, int64_t videos, const char* instead) {
  if (file.empty() || videos == 1) return;
  throw UsageError(
      fmt::format("{} {}: is for one video, and {} are to be made; {}", flag, file.string(), videos, instead));
}

// Refuses flags that name the one file (-o, --save-tensors, --contact-sheet) or folder (--save-frames) of one video
// where several are to be made, and -o beside --output-dir or --name-template.
void check_outputs(const std::vector<RowRequest>& rows, const CommandOptions& options) {
  const GenerateRequest& request = options.settings.request;
  const BatchOptions& batch = options.settings.batch;
  const int64_t videos = count_all(rows, options.settings);
  refuse_with_several("-o", request.output, videos,
                      "give --output-dir DIR instead, and --name-template for the names in it");
  if (!request.output.empty() && !batch.output_dir.empty()) {
    throw UsageError(
        fmt::format("-o {}: excludes --output-dir, in which videos name themselves; give -o {} alone, or "
                    "--name-template",
                    request.output.string(), (batch.output_dir / request.output.filename()).string()));
  }
  if (!request.output.empty() && !batch.name_template.empty()) {
    throw UsageError(fmt::format("-o {}: excludes --name-template; give one of them", request.output.string()));
  }
  constexpr const char* kAlone = "leave it out, or make the videos one at a time";
  refuse_with_several("--save-tensors", request.save_tensors, videos, kAlone);
  refuse_with_several("--contact-sheet", request.contact_sheet, videos, kAlone);
  refuse_with_several("--save-frames", request.save_frames, videos, kAlone);
}

// calibrate writes a table, and no videos.
bool is_of_calibrate(const request::Parameter& parameter) {
  static const std::set<std::string> others = {"trace", "gpu", "device-memory"};
  if (parameter.group != "Output" && parameter.group != "Batch") return !others.contains(parameter.name());
  return parameter.name() == "overwrite" || parameter.name().starts_with("prompts-");
}

bool is_taken(const request::Parameter& parameter, const CommandOptions& options) {
  if (options.only_calibrates) return is_of_calibrate(parameter);
  return !options.only_plans || parameter.name() != "trace";
}

std::vector<RowRequest> rows_of_flags(const CommandOptions& options, const CLI::App& command, const FlagValues& from) {
  const request::Settings& settings = options.settings;
  FlagValues flags = request::lay_over(from, given_flags(command), true);
  if (settings.batch.prompts_file.empty()) {
    if (options.only_plans && !request::has(flags, "prompt")) flags.emplace_back("prompt", "");
    RowRequest row;
    row.request = resolve_flags(flags);
    return {row};
  }
  const std::filesystem::path model_dir = resolve_model_dir(settings.request.model_dir);
  return read_rows({.file = settings.batch.prompts_file,
                    .format = settings.prompts_format,
                    .ignored = {},
                    .names_videos = settings.batch.name_template.empty()},
                   command, flags, model_dir, resolve_config(settings.config, model_dir));
}

}  // namespace

void add_generate_options(CLI::App& command, CommandOptions& options) {
  add_parameters(command, options.settings,
                 [&options](const request::Parameter& parameter) { return is_taken(parameter, options); });
  if (options.only_plans) command.get_option("--prompt")->description("What to show (default: empty)");
  options.add_json_to(command, "Print one JSON object instead of the file's name", "Output");
  options.add_progress_to(command);
  command
      .add_option("--from", options.from,
                  "Make a video again, from an MP4 or its .json: the same frames, with as many --threads the same "
                  "file; flags override what it says")
      ->type_name("FILE");
  command.add_flag("--print-config", options.print_config, "Print every value and where it comes from, and stop");
  options.add_log_to(command);
}

GenerateRequest resolve_flags(const FlagValues& flags) {
  const std::filesystem::path model_dir = resolve_model_dir(last_of(flags, "model-dir"));
  return request::resolve(flags, model_dir, resolve_config(last_of(flags, "config"), model_dir));
}

std::vector<RowRequest> resolve_rows(const std::vector<batch::Row>& rows, const FlagValues& flags,
                                     const std::filesystem::path& model_dir, const Config& config,
                                     batch::RowErrors& errors) {
  std::vector<RowRequest> requests;
  requests.reserve(rows.size());
  for (const batch::Row& row : rows) {
    RowRequest resolved;
    resolved.line = row.line;
    resolved.place = fmt::format("{}:{}", errors.file(), row.line);
    resolved.values = row.values;
    try {
      FlagValues own = take_flags(row, resolved);
      if (row.lacks_columns) own.insert(own.begin(), {"prompt", ""});  // it may stand in one of those: told once
      resolved.request = request::resolve(request::lay_over(flags, own, false), model_dir, config);
      resolved.request.output.clear();
      if (!resolved.seeds.empty()) resolved.request.seed = resolved.seeds.front();
      for (const std::filesystem::path& file : resolved.request.references) check_reference(file);
    } catch (const Error& error) {
      errors.add(row.line, error.what());
      continue;
    }
    batch::check_row_name(row.line, resolved.name, errors);
    requests.push_back(std::move(resolved));
  }
  return requests;
}

std::vector<RowRequest> read_rows(const PromptsFile& prompts, const CLI::App& command, const FlagValues& flags,
                                  const std::filesystem::path& model_dir, const Config& config) {
  batch::RowErrors errors(prompts.file == "-" ? "stdin" : prompts.file);
  batch::PromptsFileOptions options{.format = {}, .other_flags = other_flags(command)};
  if (!prompts.format.empty()) options.format = batch::parse_prompts_format(prompts.format);
  std::vector<batch::Row> rows = batch::read_prompts_file(prompts.file, options, errors);
  for (batch::Row& row : rows) {
    std::erase_if(row.values, [&](const auto& value) { return prompts.ignored.contains(value.first); });
  }
  std::vector<RowRequest> requests = resolve_rows(rows, flags, model_dir, config, errors);
  if (prompts.makes_videos) check_videos(requests, errors);
  if (prompts.names_videos) check_unique_names(rows, errors);
  errors.throw_if_any();
  if (requests.empty()) throw UsageError(errors.file() + ": has no prompts");
  return requests;
}

FlagValues values_of_from(const CommandOptions& options) {
  return options.from.empty() ? FlagValues{} : read_request_flags(options.from);
}

std::vector<RowRequest> requested_rows(const CommandOptions& options, const CLI::App& command, const FlagValues& from) {
  std::vector<RowRequest> rows = rows_of_flags(options, command, from);
  check_outputs(rows, options);
  if (makes_single_video(rows, options)) rows.front().request.output = options.settings.request.output;
  return rows;
}

void check_references_of_from(const CommandOptions& options, const GenerateRequest& request) {
  if (options.from.empty() || !options.settings.request.references.empty()) return;
  for (const std::filesystem::path& file : request.references) {
    std::error_code unreadable;
    if (std::filesystem::exists(file, unreadable)) continue;
    throw InputMediaError(
        fmt::format("{}: was made from {}, which is not here; say where it is, or give another, with {}",
                    options.from.string(), file.string(), replacing_flags(request.config.cond_type)));
  }
}

void check_quality(const CLI::App& command, const request::Settings& settings) {
  if (settings.request.codec == "ffv1" && command.count("--crf") > 0) {
    throw UsageError("--crf: ffv1 is lossless and has no quality to set; leave --crf out or give --codec h264");
  }
}

int64_t count_videos(const RowRequest& row, const request::Settings& settings) {
  const auto seeds = static_cast<int64_t>((row.seeds.empty() ? settings.seeds : row.seeds).size());
  return std::max(seeds, settings.batch.samples);
}

bool makes_single_video(const std::vector<RowRequest>& rows, const CommandOptions& options) {
  const request::Settings& settings = options.settings;
  if (!settings.batch.output_dir.empty() || count_all(rows, settings) != 1) return false;
  return settings.batch.prompts_file.empty() || !settings.request.output.empty();
}

std::vector<BatchRow> batch_rows(const std::vector<RowRequest>& rows, const std::vector<uint64_t>& seeds) {
  std::vector<BatchRow> result;
  result.reserve(rows.size());
  for (const RowRequest& row : rows) {
    result.push_back(
        {.request = row.request, .seeds = row.seeds.empty() ? seeds : row.seeds, .name = row.name, .line = row.line});
  }
  return result;
}

BatchOptions batch_options(const request::Settings& settings) {
  const GenerateRequest& request = settings.request;
  BatchOptions batch = settings.batch;
  if (batch.prompts_file == "-") batch.prompts_file = "stdin";
  if (batch.shards > 1 && batch.output_dir.empty()) {
    throw UsageError("--shard needs --output-dir: the shards of a run share it");
  }
  batch.overwrite = request.overwrite;
  batch.keep_models = request.keep_models;
  batch.strict = request.strict;
  return batch;
}

void settle_folder(const std::vector<RowRequest>& rows, BatchOptions& batch) {
  if (!batch.output_dir.empty()) return;
  const std::string name = folder_name(rows, batch.prompts_file);
  if (!batch.resume) {
    batch.output_dir = name;
    batch.new_output_dir = true;
    return;
  }
  batch.output_dir = last_folder(name);
  if (batch.output_dir.empty() && has_journal_here()) batch.output_dir = ".";
  if (batch.output_dir.empty()) {
    throw UsageError("--resume needs --output-dir: the run's journal is there, and there is no folder " + name +
                     " here to go on with");
  }
}

}  // namespace opensora::cli
