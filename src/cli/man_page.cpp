// opensora man: the man page.
#include "cli/man_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <sstream>

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "opensora/version.h"

namespace opensora::cli {
namespace {

// A text as roff shows it as it is: backslashes and hyphens (which it would make typographic) escaped, and no line that
// starts like a request.
std::string roff(const std::string& text) {
  std::string escaped;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) escaped += "\\&";
    if (c == '\\') {
      escaped += "\\e";
    } else if (c == '-') {
      escaped += "\\-";
    } else if (c == '|') {
      escaped += "|\\:";  // a long list of choices may go on in the next line
    } else {
      escaped += c;
    }
    line_begins = c == '\n';
  }
  return escaped;
}

std::string option_heading(const OptionRow& option) {
  std::string heading;
  for (const std::string& name : option.names) {
    heading += (heading.empty() ? "\\fB" : "\\fR, \\fB") + roff(name);
  }
  if (!option.value.empty() && !option.positional) heading += "\\fR \\fI" + roff(option.value);
  return heading + "\\fR";
}

// ".", unless the text has a full stop of its own.
std::string sentence(const std::string& text) { return text.empty() || text.ends_with('.') ? text : text + "."; }

std::string option_text(const OptionRow& option) {
  std::string text = ".TP\n" + option_heading(option) + "\n" + roff(sentence(option.description)) + "\n";
  if (option.required) text += "Required.\n";
  if (option.repeatable) text += "May be given several times.\n";
  if (!option.default_value.empty()) text += "Default: " + roff(option.default_value) + ".\n";
  return text;
}

// Options in the order of their groups' first appearance, as --help shows them.
std::string options_text(const CommandRow& command) {
  std::vector<std::string> groups;
  for (const OptionRow& option : command.options) {
    if (std::find(groups.begin(), groups.end(), option.group) == groups.end()) groups.push_back(option.group);
  }
  std::string text;
  for (const std::string& group : groups) {
    text += ".PP\n\\fI" + roff(group) + "\\fR\n";
    for (const OptionRow& option : command.options) {
      if (option.group == group) text += option_text(option);
    }
  }
  return text;
}

std::string synopsis(const CommandRow& command) {
  std::string line = ".B opensora " + roff(command.name) + "\n[\\fIoptions\\fR]";
  for (const OptionRow& option : command.options) {
    if (option.positional) line += " \\fI" + roff(option.names.front()) + "\\fR";
  }
  return line + "\n";
}

// A footer's lines; those that are indented are commands.
std::string footer_text(const std::string& footer) {
  std::string text;
  std::istringstream lines(footer);
  bool in_example = false;
  for (std::string line; std::getline(lines, line);) {
    const bool is_example = line.starts_with("  ");
    if (is_example != in_example) text += is_example ? ".PP\n.nf\n.RS\n" : ".RE\n.fi\n.PP\n";
    in_example = is_example;
    text += roff(is_example ? line.substr(2) : line) + "\n";
  }
  return text + (in_example ? ".RE\n.fi\n" : "");
}

std::string exit_status() {
  std::string text = ".SH EXIT STATUS\n";
  for (const ExitCodeRow& row : kExitCodes) {
    text += fmt::format(".TP\n.B {}\n{}\n", row.code, roff(sentence(row.meaning)));
  }
  return text;
}

constexpr const char* kEnvironmentAndFiles =
    ".SH ENVIRONMENT\n"
    ".TP\n.B OPENSORA_MODEL_DIR\nFolder with the weights, where \\fB\\-\\-model\\-dir\\fR is not given.\n"
    ".TP\n.B NO_COLOR\nIf set and not empty, the log has no colours.\n"
    ".SH FILES\n"
    ".TP\n.I ./ckpts\nThe model folder where nothing else is given and it is there.\n"
    ".TP\n.I config.json\nIn the model folder: its configuration.\n"
    ".TP\n.I PREFIX/share/opensora/configs\nThe bundled configurations and the demo model.\n";

}  // namespace

std::string man_page(const std::vector<CommandRow>& table) {
  const CommandRow& program = table.front();
  std::string text = fmt::format(
      ".\\\" Made by \"opensora man\".\n.TH OPENSORA 1 \"\" \"opensora {}\" \"User Commands\"\n", version());
  text += ".SH NAME\nopensora \\- " + roff(program.description) + "\n.SH SYNOPSIS\n";
  for (size_t i = 1; i < table.size(); ++i) text += synopsis(table[i]) + ".br\n";
  text +=
      ".SH DESCRIPTION\nResults go to standard output, the log to standard error. A failure prints one line,\n"
      "\\fBopensora: error:\\fR and what was expected, what was found and what to do.\n"
      ".SH OPTIONS\n" +
      options_text(program) + ".SH COMMANDS\n";
  for (size_t i = 1; i < table.size(); ++i) {
    text += ".SS " + roff(table[i].name) + "\n" + roff(sentence(table[i].description)) + "\n" + options_text(table[i]) +
            ".PP\n" + footer_text(table[i].footer);
  }
  return text + exit_status() + kEnvironmentAndFiles + ".SH EXAMPLES\n" + footer_text(program.footer);
}

void add_man(CLI::App& app) {
  CLI::App* command = app.add_subcommand("man", "Print the man page, in roff");
  command->footer("Example:\n  opensora man | man -l -");
  command->callback([&app] { std::cout << man_page(option_table(app)); });
}

}  // namespace opensora::cli
