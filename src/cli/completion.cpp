// opensora completion: the scripts with which shells ask the program itself what may follow.
#include <algorithm>
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/option_table.h"
#include "cli/parameter_options.h"

namespace opensora::cli {
namespace {

constexpr const char* kBash = R"sh(# bash completion for opensora
_opensora() {
  local line path cur=${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == :* ]]; then
      compopt -o filenames 2>/dev/null
      while IFS= read -r path; do COMPREPLY+=("$path"); done < <(compgen -A "${line#:}" -- "$cur")
    else
      COMPREPLY+=("${line%%$'\t'*}")
    fi
  done < <("${COMP_WORDS[0]/#\~/$HOME}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _opensora opensora
)sh";

constexpr const char* kZsh = R"sh(#compdef opensora
_opensora() {
  local line
  local -a found
  for line in ${(f)"$(${~words[1]} __complete "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)"}; do
    case $line in
      :file) _files ;;
      :directory) _files -/ ;;
      *) found+=("${${line//:/\\:}/$'\t'/:}") ;;
    esac
  done
  (($#found)) && _describe value found
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _opensora "$@"; else compdef _opensora opensora; fi
)sh";

constexpr const char* kFish = R"sh(# fish completion for opensora
function __opensora_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  set -l program (string replace -r '^~' $HOME -- $words[1])
  for line in ($program __complete $words[2..] "$current" 2>/dev/null)
    switch $line
      case :file
        __fish_complete_path "$current"
      case :directory
        __fish_complete_directories "$current"
      case '*'
        echo $line
    end
  end
end
complete -c opensora -f -a '(__opensora_complete)'
)sh";

void offer(const std::string& word, const std::string& description, const std::string& start) {
  if (word.starts_with(start)) std::cout << word << '\t' << description << '\n';
}

void offer_values(const OptionRow& option, const std::string& start) {
  for (const std::string& choice : option.choices) offer(choice, "", start);
  if (!option.paths.empty()) std::cout << ':' << option.paths << '\n';
}

void offer_options(const std::vector<OptionRow>& options, const std::string& start) {
  for (const OptionRow& option : options) {
    if (option.positional) continue;
    for (const std::string& name : option.names) offer(name, option.description, start);
  }
}

}  // namespace

void print_completions(const CLI::App& app, const std::vector<std::string>& words) {
  const std::vector<const CLI::App*> commands = shown_commands(app);
  const std::string start = words.empty() ? "" : words.back();
  if (words.size() < 2) {
    for (const CLI::App* command : commands) offer(command->get_name(), command->get_description(), start);
    return offer_options(option_rows(app), start);
  }
  const auto command = std::ranges::find(commands, words.front(), &CLI::App::get_name);
  if (command == commands.end()) return;
  const std::vector<OptionRow> options = option_rows(**command);
  const std::string& previous = words[words.size() - 2];
  for (const OptionRow& option : options) {
    const bool is_previous = std::ranges::find(option.names, previous) != option.names.end();
    if (is_previous && !option.positional && !option.value.empty()) return offer_values(option, start);
  }
  if (start.starts_with("-")) return offer_options(options, start);
  const auto argument = std::ranges::find(options, true, &OptionRow::positional);
  if (argument != options.end()) offer_values(*argument, start);
}

void add_completion(CLI::App& app) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "Print a script that completes commands and options in a shell");
  command->add_option("SHELL", *shell, "Which shell")->required()->check(one_of({"bash", "zsh", "fish"}));
  command->footer(
      "Examples:\n"
      "  eval \"$(opensora completion bash)\"\n"
      "  mkdir -p ~/.zfunc && opensora completion zsh > ~/.zfunc/_opensora\n"
      "  mkdir -p ~/.config/fish/completions && opensora completion fish > ~/.config/fish/completions/opensora.fish");
  command->callback([shell] { std::cout << (*shell == "bash" ? kBash : *shell == "zsh" ? kZsh : kFish); });
}

}  // namespace opensora::cli
