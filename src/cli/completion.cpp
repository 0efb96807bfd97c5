// opensora completion: what a shell completes after "opensora".
#include "cli/completion.h"

#include <fmt/format.h>

#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/validators.h"

namespace opensora::cli {
namespace {

std::string replaced(std::string text, char from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, 1, to);
  return text;
}

// --- bash -------------------------------------------------------------------------------------------

std::string bash_action(const OptionRow& option) {
  std::string action;
  if (!option.choices.empty()) {
    action = fmt::format("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", fmt::join(option.choices, " "));
  }
  const char* compgen = option.hint == ValueHint::kFolder ? "-d" : option.hint == ValueHint::kFile ? "-f" : nullptr;
  if (compgen == nullptr) return action.empty() ? "return" : action + "; return";
  if (!action.empty()) action += "; ";
  return action + fmt::format("_opensora_paths {} \"$cur\"; return", compgen);
}

std::string bash_command(const CommandRow& command) {
  std::string words, values, positional;
  for (const OptionRow& option : command.options) {
    if (option.positional) {
      if (positional.empty()) positional = bash_action(option);
      continue;
    }
    for (const std::string& name : option.names) words += (words.empty() ? "" : " ") + name;
    if (!option.value.empty()) {
      values += fmt::format("        {}) {} ;;\n", fmt::join(option.names, "|"), bash_action(option));
    }
  }
  std::string text = fmt::format("    {})\n", command.name);
  if (!values.empty()) text += "      case \"$prev\" in\n" + values + "      esac\n";
  text += fmt::format("      [[ \"$cur\" == -* ]] && COMPREPLY=($(compgen -W '{}' -- \"$cur\")) && return\n", words);
  if (!positional.empty()) text += "      " + positional + "\n";
  return text + "      ;;\n";
}

// --- zsh --------------------------------------------------------------------------------------------

// Within '...' and the brackets of _arguments.
std::string zsh_text(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return replaced(escaped, '\'', "'\\''");
}

std::string zsh_action(const OptionRow& option) {
  const std::string files = option.hint == ValueHint::kFolder ? "_files -/" : "_files";
  if (option.choices.empty()) return option.hint == ValueHint::kText ? " " : files;
  const std::string list = fmt::format("({})", fmt::join(option.choices, " "));
  // The space in front: as it is, without the arguments that _arguments adds.
  return option.hint == ValueHint::kText ? list : fmt::format(" _opensora_or_files {}", fmt::join(option.choices, " "));
}

std::string zsh_option(const OptionRow& option) {
  const std::string what = zsh_text(option.positional ? option.names.front() : option.value);
  const std::string value = option.value.empty() ? "" : ":" + what + ":" + zsh_action(option);
  if (option.positional) return fmt::format("        '1{}'", value);
  std::string text;
  for (const std::string& name : option.names) {
    text += fmt::format("{}        '{}{}[{}]{}'", text.empty() ? "" : " \\\n", option.repeatable ? "*" : "", name,
                        zsh_text(option.description), value);
  }
  return text;
}

std::string zsh_command(const CommandRow& command) {
  std::string text = fmt::format("    {})\n      _arguments", command.name);
  for (const OptionRow& option : command.options) text += " \\\n" + zsh_option(option);
  return text + "\n      ;;\n";
}

// --- fish -------------------------------------------------------------------------------------------

std::string fish_text(const std::string& text) {
  return "'" + replaced(replaced(text, '\\', "\\\\"), '\'', "\\'") + "'";
}

std::string fish_option(const CommandRow& command, const OptionRow& option) {
  std::string line = "complete -c opensora";
  line += command.name.empty() ? " -n __fish_use_subcommand" : " -n '__fish_seen_subcommand_from " + command.name + "'";
  if (!option.positional) {
    for (const std::string& name : option.names) {
      line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    }
    if (!option.value.empty()) line += " -r";
  }
  const bool takes_paths = option.hint == ValueHint::kFile || option.hint == ValueHint::kFolder;
  line += takes_paths ? " -F" : " -f";
  if (!option.choices.empty()) line += " -a " + fish_text(fmt::format("{}", fmt::join(option.choices, " ")));
  if (!option.positional) line += " -d " + fish_text(option.description);
  return line + "\n";
}

struct CompletionOptions {
  std::string shell;
};

}  // namespace

std::string bash_completion(const std::vector<CommandRow>& table) {
  std::string names, cases;
  for (const CommandRow& command : table) {
    if (!command.name.empty()) names += (names.empty() ? "" : " ") + command.name;
    if (!command.name.empty()) cases += bash_command(command);
  }
  std::string own;
  for (const OptionRow& option : table.front().options) own += fmt::format(" {}", fmt::join(option.names, " "));
  return "# bash completion for opensora\n"
         "_opensora_paths() {\n"
         "  compopt -o filenames 2>/dev/null\n"
         "  local path\n"
         "  while IFS= read -r path; do COMPREPLY+=(\"$path\"); done < <(compgen \"$1\" -- \"$2\")\n"
         "}\n"
         "_opensora() {\n"
         "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
         "  COMPREPLY=()\n"
         "  if ((COMP_CWORD == 1)); then\n"
         "    COMPREPLY=($(compgen -W '" +
         names + own +
         "' -- \"$cur\"))\n"
         "    return\n"
         "  fi\n"
         "  case \"${COMP_WORDS[1]}\" in\n" +
         cases +
         "  esac\n"
         "}\n"
         "complete -F _opensora opensora\n";
}

std::string zsh_completion(const std::vector<CommandRow>& table) {
  std::string commands, cases, own;
  for (const CommandRow& command : table) {
    if (command.name.empty()) {
      for (const OptionRow& option : command.options) own += zsh_option(option) + " \\\n";
      continue;
    }
    commands += fmt::format("    '{}:{}'\n", command.name, zsh_text(command.description));
    cases += zsh_command(command);
  }
  return "#compdef opensora\n"
         "_opensora_or_files() { compadd -- \"$@\"; _files }\n"
         "_opensora() {\n"
         "  local -a commands\n"
         "  commands=(\n" +
         commands +
         "  )\n"
         "  if ((CURRENT == 2)); then\n"
         "    _describe command commands\n"
         "    _arguments \\\n" +
         own +
         "        && return\n"
         "    return\n"
         "  fi\n"
         "  local command=${words[2]}\n"
         "  shift words\n"
         "  ((CURRENT--))\n"
         "  case $command in\n" +
         cases +
         "  esac\n"
         "}\n"
         "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _opensora \"$@\"; else compdef _opensora opensora; fi\n";
}

std::string fish_completion(const std::vector<CommandRow>& table) {
  std::string text = "# fish completion for opensora\ncomplete -c opensora -f\n";
  for (const CommandRow& command : table) {
    if (!command.name.empty()) {
      text += fmt::format("complete -c opensora -n __fish_use_subcommand -a {} -d {}\n", command.name,
                          fish_text(command.description));
    }
    for (const OptionRow& option : command.options) text += fish_option(command, option);
  }
  return text;
}

void add_completion(CLI::App& app) {
  auto options = std::make_shared<CompletionOptions>();
  CLI::App* command = app.add_subcommand("completion", "Print a script that completes commands and options in a shell");
  command->add_option("SHELL", options->shell, "Which shell")->required()->check(one_of({"bash", "zsh", "fish"}));
  command->footer(
      "Examples:\n"
      "  eval \"$(opensora completion bash)\"\n"
      "  mkdir -p ~/.zfunc && opensora completion zsh > ~/.zfunc/_opensora\n"
      "  mkdir -p ~/.config/fish/completions && opensora completion fish > ~/.config/fish/completions/opensora.fish");
  command->callback([options, &app] {
    const std::vector<CommandRow> table = option_table(app);
    std::cout << (options->shell == "bash"  ? bash_completion(table)
                  : options->shell == "zsh" ? zsh_completion(table)
                                            : fish_completion(table));
  });
}

}  // namespace opensora::cli
