#include "cli/option_table.h"

#include <algorithm>

#include "opensora/config.h"
#include "opensora/error.h"

namespace opensora::cli {
namespace {

// CLI11 puts what a validator allows into the type's name: "TEXT:{fp32,bf16,fp16}".
std::vector<std::string> choices_in(const std::string& type_name) {
  const size_t begin = type_name.find('{'), end = type_name.rfind('}');
  std::vector<std::string> choices;
  if (begin == std::string::npos || end == std::string::npos) return choices;
  std::string list = type_name.substr(begin + 1, end - begin - 1);
  for (size_t at = 0; at <= list.size();) {
    const size_t comma = std::min(list.find(',', at), list.size());
    choices.push_back(list.substr(at, comma - at));
    at = comma + 1;
  }
  return choices;
}

// Options that take paths say so by their type's name.
std::string paths_of(const std::string& type) {
  if (type == "DIR") return "directory";
  return type == "FILE" || type == "PATH" || type.ends_with("|FILE") ? "file" : "";
}

// The names of the bundled configurations; none where the program was moved away from them.
std::vector<std::string> config_names() {
  std::vector<std::string> names;
  try {
    for (const auto& entry : std::filesystem::directory_iterator(bundled_configs_dir())) {
      if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
    }
  } catch (const UsageError&) {
    return {};
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  if (!option.nonpositional()) return {option.get_name(/*positional=*/true)};
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

std::string join(const std::vector<std::string>& words, char separator) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += separator;
    text += word;
  }
  return text;
}

OptionRow option_row(const CLI::Option& option) {
  const std::string full_type = option.get_type_name();
  const std::string type = full_type.substr(0, full_type.find(':'));
  OptionRow row;
  row.names = names_of(option);
  row.positional = !option.nonpositional();
  row.required = option.get_required();
  row.group = option.get_group();
  row.description = option.get_description();
  row.default_value = option.get_default_str();
  if (option.get_items_expected_max() == 0) return row;  // a flag
  row.repeatable = option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
  row.choices = choices_in(full_type);
  row.value = row.choices.empty() ? type : join(row.choices, '|');
  if (row.choices.empty()) row.paths = paths_of(type);
  if (row.names.back() == "--config") row.choices = config_names();
  return row;
}

}  // namespace

std::vector<OptionRow> option_rows(const CLI::App& command) {
  std::vector<OptionRow> rows;
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_group().empty()) rows.push_back(option_row(*option));  // no group: hidden
  }
  return rows;
}

std::vector<const CLI::App*> shown_commands(const CLI::App& app) {
  std::vector<const CLI::App*> commands = app.get_subcommands(nullptr);
  std::erase_if(commands, [](const CLI::App* command) { return command->get_group().empty(); });
  return commands;
}

}  // namespace opensora::cli
