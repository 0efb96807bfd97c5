#include "cli/parameter_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <stdexcept>

namespace opensora::cli {
namespace {

using request::Kind;
using request::Parameter;
using request::Settings;

CLI::Option* find_option(CLI::App& command, const std::string& name) {
  return command.get_option_no_throw("--" + name);
}

// Given only where the command takes rows, and takes this parameter as generate does.
std::string hint(const CLI::App& command, const Parameter& parameter, const std::string& text) {
  const bool takes_rows = command.get_option_no_throw("--prompts-file") != nullptr &&
                          command.get_option("--" + parameter.name())->get_group() == parameter.group;
  return takes_rows ? request::rows_hint(parameter, text) : "";
}

// CLI11 would let the exception of its own conversion through.
std::string switch_error(const std::string& text) {
  try {
    CLI::detail::to_flag_value(text);
    return {};
  } catch (const std::logic_error&) {  // invalid_argument, out_of_range
    return "is a switch and takes no value but true or false";
  }
}

CLI::Option* add_parameter(CLI::App& command, Settings& settings, const Parameter& parameter) {
  const auto set = [&command, &settings, &parameter](const std::string& text) {
    request::set_parameter(parameter, settings, text, hint(command, parameter, text));
  };
  switch (parameter.kind) {
    case Kind::kSwitch:
      return command
          .add_flag_function(
              parameter.names, [set](int64_t count) { set(count > 0 ? "true" : "false"); }, parameter.help)
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
          ->check(CLI::Validator(switch_error, ""));
    case Kind::kPaths:
      return command
          .add_option_function<std::vector<std::string>>(
              parameter.names,
              [set](const std::vector<std::string>& texts) { std::for_each(texts.begin(), texts.end(), set); },
              parameter.help)
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
          ->allow_extra_args(false)
          ->type_name(parameter.type);
    default:
      return command.add_option_function<std::string>(parameter.names, set, parameter.help)->type_name(parameter.type);
  }
}

bool is_column(const std::string& name) { return request::find_parameter(name)->is_column(); }

// Of the parameters that it needs or excludes, those that the command has. What it needs may stand in a prompts file:
// that is checked row by row.
void relate(CLI::App& command, const Parameter& parameter) {
  CLI::Option* option = find_option(command, parameter.name());
  const bool takes_rows = find_option(command, "prompts-file") != nullptr;
  for (const std::string& name : parameter.needs) {
    CLI::Option* other = find_option(command, name);
    if (other != nullptr && !(takes_rows && is_column(name))) option->needs(other);
  }
  for (const std::string& name : parameter.excludes) {
    if (CLI::Option* other = find_option(command, name)) option->excludes(other);
  }
}

CLI::Option* add_number(CLI::App& command, const std::string& names, const std::string& description,
                        const std::function<void(const request::Given&)>& set) {
  const std::string flag = names.substr(names.find("--"));
  return command
      .add_option_function<std::string>(
          names,
          [set, flag](const std::string& text) {
            set({flag, text});
          },
          description)
      ->type_name("INT");
}

std::string with_range(const std::string& description, request::WholeRange range) {
  return fmt::format("{}; {} to {}", description, range.min, range.max);
}

}  // namespace

void add_parameters(CLI::App& command, Settings& settings, const std::function<bool(const Parameter&)>& wanted) {
  for (const Parameter& parameter : request::parameters()) {
    if (!wanted(parameter)) continue;
    CLI::Option* option = add_parameter(command, settings, parameter);
    if (!parameter.choices.empty()) option->check(one_of(parameter.choices));
    if (!parameter.default_text.empty()) option->default_str(parameter.default_text);
    if (!parameter.group.empty()) option->group(parameter.group);
  }
  for (const Parameter& parameter : request::parameters()) {
    if (wanted(parameter)) relate(command, parameter);
  }
}

void add_parameters(CLI::App& command, Settings& settings, const std::vector<std::string>& names) {
  add_parameters(command, settings, [&](const Parameter& parameter) {
    return std::find(names.begin(), names.end(), parameter.name()) != names.end();
  });
}

std::string flag_name(const CLI::Option& option) {
  return option.get_lnames().empty() ? std::string() : option.get_lnames().front();
}

std::vector<std::string> other_flags(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = flag_name(*option);
    if (!name.empty() && request::find_parameter(name) == nullptr) names.push_back(name);
  }
  return names;
}

FlagValues given_flags(const CLI::App& command) {
  FlagValues values;
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = flag_name(*option);
    if (name.empty()) continue;
    const bool is_switch = option->get_items_expected_max() == 0;
    for (const std::string& text : option->results()) {
      values.emplace_back(name, !is_switch ? text : CLI::detail::to_flag_value(text) > 0 ? "true" : "false");
    }
  }
  return values;
}

CLI::Option* add_whole(CLI::App& command, const std::string& names, int& target, request::WholeRange range,
                       const std::string& description) {
  return add_number(command, names, with_range(description, range), [&target, range](const request::Given& given) {
    target = static_cast<int>(request::whole_number(given, range));
  });
}

CLI::Option* add_whole(CLI::App& command, const std::string& names, int64_t& target, request::WholeRange range,
                       const std::string& description) {
  return add_number(command, names, with_range(description, range),
                    [&target, range](const request::Given& given) { target = request::whole_number(given, range); });
}

CLI::Option* add_seed(CLI::App& command, const std::string& names, uint64_t& target, const std::string& description) {
  return add_number(command, names, description,
                    [&target](const request::Given& given) { target = request::seed(given); });
}

CLI::Validator one_of(const std::vector<std::string>& words) {
  return {[words](std::string& text) { return request::choice_error(text, words); },
          fmt::format("{{{}}}", fmt::join(words, ","))};
}

bool may_be_empty(const CLI::Option& option) {
  if (!option.nonpositional()) return option.get_name() == "TEXT";
  const request::Parameter* parameter =
      option.get_lnames().empty() ? nullptr : request::find_parameter(option.get_lnames().front());
  return parameter != nullptr && parameter->kind == request::Kind::kPrompt;
}

void refuse_empty_values(CLI::App& command) {
  for (CLI::Option* option : command.get_options()) {
    if (option->get_items_expected_max() == 0 || may_be_empty(*option)) continue;
    option->check(CLI::Validator([](std::string& text) { return request::blank_error(text); }, ""));
  }
  for (CLI::App* sub : command.get_subcommands(nullptr)) refuse_empty_values(*sub);
}

}  // namespace opensora::cli
