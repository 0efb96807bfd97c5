#include "cli/row_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "batch/output_name.h"
#include "cli/batch_outputs.h"
#include "cli/model_folder.h"
#include "core/local_file.h"
#include "opensora/error.h"
#include "opensora/metadata.h"
#include "request/layers.h"

namespace opensora::cli {
namespace {

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

// The row's values that are flags; `name` and seeds go into `target`.
FlagValues take_flags(const batch::Row& row, RowRequest& target) {
  FlagValues flags;
  for (const auto& [name, text] : row.values) {
    if (name == "name") {
      target.name = text;
      continue;
    }
    if (name == "seed") {
      const std::vector<uint64_t> seeds = request::seeds({"--seed", text});
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

// Where all rows have names and there is no template, their videos are called so: one that comes twice is an error of
// the file, to be told with the others.
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

// Sizes, lengths, conditions.
void check_videos(const std::vector<RowRequest>& requests, batch::RowErrors& errors) {
  for (const RowRequest& row : requests) {
    try {
      effective_values(row.request);
    } catch (const UsageError& error) {
      errors.add(row.line, error.what());
    }
  }
}

// The flags that give other references in place of those that --from names.
std::string replacing_flags(const std::string& cond_type) {
  if (cond_type == "i2v_loop") return "--image FILE --end-image FILE";
  if (cond_type == "i2v_tail") return "--end-image FILE";
  if (cond_type == "v2v_head") return "--video FILE";
  return cond_type.starts_with("v2v") ? "--video FILE --cond-type " + cond_type : "--image FILE";
}

// The command's flags that are no parameters.
std::vector<std::string> other_flags(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = flag_name(*option);
    if (!name.empty() && request::find_parameter(name) == nullptr) names.push_back(name);
  }
  return names;
}

std::string last_of(const FlagValues& values, std::string_view name) {
  const auto found =
      std::find_if(values.rbegin(), values.rend(), [&](const auto& value) { return value.first == name; });
  return found == values.rend() ? std::string() : found->second;
}

}  // namespace

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

FlagValues values_of_from(const GenerateOptions& options) {
  return options.from.empty() ? FlagValues{} : read_request_flags(options.from);
}

namespace {

std::vector<RowRequest> rows_of_flags(const GenerateOptions& options, const CLI::App& command, const FlagValues& from) {
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

std::vector<RowRequest> requested_rows(const GenerateOptions& options, const CLI::App& command,
                                       const FlagValues& from) {
  std::vector<RowRequest> rows = rows_of_flags(options, command, from);
  check_outputs(rows, options);
  if (makes_single_video(rows, options)) rows.front().request.output = options.settings.request.output;
  return rows;
}

void check_references_of_from(const GenerateOptions& options, const GenerateRequest& request) {
  if (options.from.empty() || !options.settings.request.references.empty()) return;
  for (const std::filesystem::path& file : request.references) {
    std::error_code unreadable;
    if (std::filesystem::exists(file, unreadable)) continue;
    throw InputMediaError(
        fmt::format("{}: was made from {}, which is not here; say where it is, or give another, with {}",
                    options.from.string(), file.string(), replacing_flags(request.config.cond_type)));
  }
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

}  // namespace opensora::cli
