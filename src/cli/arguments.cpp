#include "cli/arguments.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>

#include "cli/synonyms.h"
#include "cli/validators.h"
#include "core/nearest.h"
#include "opensora/error.h"

namespace opensora::cli {
namespace {

std::string before_equals(const std::string& argument) { return argument.substr(0, argument.find('=')); }

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (command->get_name() == name) return command;
  }
  return nullptr;
}

// Calls `visit` with the command and the place of each argument that stands where an option may: not those of values
// and commands, nor what follows "--".
void visit_options(const CLI::App& app, const std::vector<std::string>& arguments,
                   const std::function<void(const CLI::App& command, size_t place)>& visit) {
  const CLI::App* command = &app;
  for (size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
    const std::string& argument = arguments[i];
    if (!argument.starts_with("-")) {
      const CLI::App* sub = command == &app ? find_command(app, argument) : nullptr;
      if (sub != nullptr) command = sub;
      continue;
    }
    visit(*command, i);
    const CLI::Option* option = command->get_option_no_throw(argument);
    if (option != nullptr && takes_value(*option)) ++i;
  }
}

// "--crf=": the parser would take the next argument for its value.
bool is_given_nothing(const std::string& argument) { return argument.starts_with("--") && argument.ends_with("="); }

void refuse_empty(const CLI::Option& option, const std::string& flag) {
  if (!takes_value(option)) throw UsageError(flag + ": is a switch and takes no value");
  if (may_be_empty(option)) return;
  throw UsageError(flag + ": expected a value, found \"\"; leave the flag out if there is none");
}

// "-steps" is no "-s teps", nor "-pix_fmt" a prompt.
void refuse_one_dash(const CLI::App& command, const std::string& argument) {
  const std::string flag = before_equals(argument);
  if (flag.size() < 3 || flag.starts_with("--")) return;
  if (const auto answer = answer_for(command, flag)) throw UsageError("unknown option " + flag + ": " + *answer);
}

// The command that was given, or the program itself.
const CLI::App& selected(const CLI::App& app) {
  const auto commands = app.get_subcommands();
  return commands.empty() ? app : *commands.front();
}

std::vector<std::string> flags_of(const CLI::App& command) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
    for (const std::string& name : option->get_fnames()) flags.push_back("--" + name);
  }
  return flags;
}

std::string see_help(const std::string& command) {
  return " (see opensora " + command + (command.empty() ? "" : " ") + "--help)";
}

std::string unknown_option(const CLI::App& command, const std::string& argument) {
  const std::string flag = before_equals(argument);
  if (const auto answer = answer_for(command, flag)) return "unknown option " + flag + ": " + *answer;
  const auto nearest = flag.size() > 2 ? nearest_name(flag, flags_of(command)) : std::nullopt;
  return "unknown option " + flag + (nearest ? "; did you mean " + *nearest + "?" : "") + see_help(command.get_name());
}

// A text that belongs to no option: most often a prompt, as other programs take it.
std::string stray_text(const CLI::App& command, const std::string& text) {
  const CLI::Option* prompt = command.get_option_no_throw("--prompt");
  const std::string unknown = "unknown argument \"" + text + "\"";
  if (prompt == nullptr) return unknown + see_help(command.get_name());
  if (prompt->count() == 0) {
    return fmt::format("{}; a prompt is given with -p: opensora {} -p \"{}\"", unknown, command.get_name(), text);
  }
  return unknown + "; a prompt of several words is put in quotes" + see_help(command.get_name());
}

// What other programs call commands.
const std::map<std::string, std::string>& known_commands() {
  static const std::map<std::string, std::string> commands = {
      {"run", "generate"},   {"make", "generate"},      {"create", "generate"},    {"sample", "generate"},
      {"infer", "generate"}, {"inference", "generate"}, {"txt2vid", "generate"},   {"t2v", "generate"},
      {"i2v", "generate"},   {"img2vid", "generate"},   {"txt2video", "generate"}, {"info", "inspect"},
      {"show", "inspect"},   {"benchmark", "bench"},    {"check", "verify"},       {"test", "selftest"},
      {"estimate", "plan"},  {"embed", "encode-text"},  {"encode", "encode-text"}, {"tokenise", "tokenize"}};
  return commands;
}

std::optional<std::string> nearest_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names, starting;
  for (const CLI::App* sub : app.get_subcommands(nullptr)) names.push_back(sub->get_name());
  std::copy_if(names.begin(), names.end(), std::back_inserter(starting),
               [&](const std::string& name) { return word.size() > 1 && name.starts_with(word); });
  if (starting.size() == 1) return starting.front();
  if (const auto found = known_commands().find(word); found != known_commands().end()) return found->second;
  return nearest_name(word, names);
}

std::string no_command(const CLI::App& app, const std::vector<std::string>& extras) {
  if (extras.empty()) {
    std::vector<std::string> names;
    for (const CLI::App* sub : app.get_subcommands(nullptr)) names.push_back(sub->get_name());
    return fmt::format("give a command: {}{}", fmt::join(names, ", "), see_help(""));
  }
  const std::string& word = extras.front();
  if (word.starts_with("-")) {
    const CLI::App& generate = *app.get_subcommand("generate");
    const std::string flag = before_equals(word);
    if (generate.get_option_no_throw(flag) != nullptr || answer_for(generate, flag)) {
      return fmt::format("{}: a command comes first: opensora generate {} …{}", flag, flag, see_help(""));
    }
    return unknown_option(app, word);
  }
  if (const auto nearest = nearest_command(app, word)) {
    return fmt::format("unknown command \"{}\"; did you mean {}?{}", word, *nearest, see_help(""));
  }
  return fmt::format("unknown command \"{}\"{}; a video of a prompt: opensora generate -p \"{}\"", word, see_help(""),
                     word);
}

std::string unknown_argument(const CLI::App& app) {
  const std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  const CLI::App& command = selected(app);
  if (&command == &app) return no_command(app, extras);
  const std::string found = extras.empty() ? "" : extras.front();
  return found.starts_with("-") && found.size() > 1 ? unknown_option(command, found) : stray_text(command, found);
}

std::string required(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = selected(app);
  const std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  const bool has_unknown =
      std::any_of(extras.begin(), extras.end(), [](const std::string& extra) { return extra.starts_with("--"); });
  if (&command == &app || has_unknown) return unknown_argument(app);
  return parse_error_text(error) + see_help(command.get_name());
}

// "Could not convert: --json = maybe" -> "--json"
std::string flag_in(const std::string& text) {
  const size_t begin = text.find("--");
  return begin == std::string::npos ? "" : text.substr(begin, text.find_first_of(" :=", begin) - begin);
}

}  // namespace

std::vector<std::string> prepare_arguments(const CLI::App& app, std::vector<std::string> arguments) {
  if (!arguments.empty() && arguments.front() == "help") {
    arguments.erase(arguments.begin());
    arguments.insert(arguments.begin() + (arguments.empty() ? 0 : 1), "--help");
  }
  std::vector<size_t> empty_prompts;
  visit_options(app, arguments, [&](const CLI::App& command, size_t place) {
    const std::string flag = before_equals(arguments[place]);
    const CLI::Option* option = command.get_option_no_throw(flag);
    if (option == nullptr) return refuse_one_dash(command, arguments[place]);
    if (!is_given_nothing(arguments[place])) return;
    refuse_empty(*option, flag);
    empty_prompts.push_back(place);
  });
  for (auto place = empty_prompts.rbegin(); place != empty_prompts.rend(); ++place) {
    arguments[*place].pop_back();
    arguments.insert(arguments.begin() + static_cast<std::ptrdiff_t>(*place) + 1, "");
  }
  return arguments;
}

std::string parse_error_text(const CLI::ParseError& error) {
  std::string text = error.what();
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    const std::string name = text.substr(0, text.find(": "));
    if (name.starts_with("-")) return name + ": expected a value, found none";
  }
  if (dynamic_cast<const CLI::ConversionError*>(&error) != nullptr) {
    const std::string flag = flag_in(text);
    if (!flag.empty()) return flag + ": is a switch and takes no value but true or false";
  }
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) return unknown_argument(app);
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) return required(app, error);
  return parse_error_text(error);
}

bool asks_for_json(const CLI::App& app, const std::vector<std::string>& arguments) {
  bool asks = false;
  visit_options(app, arguments, [&](const CLI::App& command, size_t place) {
    asks = asks || (arguments[place] == "--json" && command.get_option_no_throw("--json") != nullptr);
  });
  return asks;
}

}  // namespace opensora::cli
