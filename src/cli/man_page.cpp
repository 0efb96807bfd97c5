// opensora man: the man page, made from the table of options.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <sstream>
#include <utility>

#include "cli/commands.h"
#include "cli/option_table.h"
#include "cli/reference_tables.h"
#include "opensora/process.h"

namespace opensora::cli {
namespace {

// Escapes a text so that roff shows it as it is: backslashes, hyphens (which it would make typographic), and lines that
// start like a request.
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

// Adds a full stop, unless the text has one.
std::string sentence(const std::string& text) { return text.empty() || text.ends_with('.') ? text : text + "."; }

std::string option_text(const OptionRow& option) {
  std::string text = ".TP\n" + option_heading(option) + "\n" + roff(sentence(option.description)) + "\n";
  if (option.required) text += "Required.\n";
  if (option.repeatable) text += "May be given several times.\n";
  if (!option.default_value.empty()) text += "Default: " + roff(option.default_value) + ".\n";
  return text;
}

// Options in the order of their groups' first appearance, as --help shows them.
std::string options_text(const std::vector<OptionRow>& options) {
  std::vector<std::string> groups;
  for (const OptionRow& option : options) {
    if (std::find(groups.begin(), groups.end(), option.group) == groups.end()) groups.push_back(option.group);
  }
  std::string text;
  for (const std::string& group : groups) {
    text += ".PP\n\\fI" + roff(group) + "\\fR\n";
    for (const OptionRow& option : options) {
      if (option.group == group) text += option_text(option);
    }
  }
  return text;
}

std::string synopsis(const CLI::App& command) {
  std::string line = ".B opensora " + roff(command.get_name()) + "\n[\\fIoptions\\fR]";
  for (const OptionRow& option : option_rows(command)) {
    if (option.positional) line += " \\fI" + roff(option.names.front()) + "\\fR";
  }
  return line + "\n";
}

// A help text's footer, whose indented lines are commands.
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
  for (const auto& [code, meaning] : kExitCodes) {
    text += fmt::format(".TP\n.B {}\n{}\n", code, roff(sentence(meaning)));
  }
  return text;
}

// A cell of a table in Markdown, whose `code` becomes bold.
std::string roff_of_markdown(const std::string& text) {
  std::string result;
  bool bold = false;
  std::string piece;
  for (const char c : text) {
    if (c != '`') {
      piece += c;
      continue;
    }
    result += roff(std::exchange(piece, {})) + (bold ? "\\fR" : "\\fB");
    bold = !bold;
  }
  return result + roff(piece);
}

std::string events_text() {
  std::string text =
      ".SH EVENTS\n"
      "\\fB\\-\\-events\\fR and the journal are lines of JSON. Each has \\fBschema_version\\fR (1: it changes when a "
      "field goes\nor changes its meaning, not when one is added), \\fBevent\\fR and \\fBtime\\fR (UTC). Lines about a "
      "video have \\fBrow\\fR,\n\\fBsample\\fR, \\fBkey\\fR, \\fBseed\\fR, \\fBoutput\\fR, and "
      "\\fBplace\\fR (FILE:LINE) where there is a prompts file.\nThose with a star are in the journal too.\n";
  for (const EventRow& row : kEvents) {
    text += fmt::format(".TP\n.B {}{}\n{}\n", row.name, row.in_journal ? "*" : "", roff_of_markdown(row.fields));
  }
  return text;
}

constexpr const char* kBatches =
    ".SH BATCHES\n"
    "\\fB\\-\\-prompts\\-file\\fR has a video a row: a prompt a line (.txt), or columns that are flags of a video "
    "(.csv, .json, .jsonl).\nAll rows are checked before any weight is loaded, and all errors come at once, with their "
    "lines.\nWhat a video shows depends on its row and seed alone.\n"
    ".PP\nThe journal, \\fIrun.jsonl\\fR in \\fB\\-\\-output\\-dir\\fR, gets a line for each thing that happens, "
    "on disk before the next\nthing happens. \\fB\\-\\-resume\\fR leaves what is finished and intact (SHA\\-256), "
    "decodes latents that are there,\nand makes the rest: after a crash, a signal or a full disk the files are those "
    "of an "
    "undisturbed run.\nRows that have changed are made again. A video that fails does not stop the others unless\n"
    "\\fB\\-\\-fail\\-fast\\fR is given; the exit code is then 3.\n"
    ".PP\n\\fB\\-\\-shard\\fR I/N makes every N\\-th row from the I\\-th on, with a journal of its own,\n"
    "\\fIrun\\-I\\-of\\-N.jsonl\\fR. On Slurm:\n"
    ".PP\n.nf\n.RS\n"
    "#SBATCH \\-\\-array=1\\-8 \\-\\-gres=gpu:1 \\-\\-requeue\n"
    "srun opensora generate \\-\\-prompts\\-file prompts.csv \\-\\-output\\-dir videos \\e\n"
    "  \\-\\-shard $SLURM_ARRAY_TASK_ID/8 \\-\\-resume\n"
    ".RE\n.fi\n";

constexpr const char* kEnvironmentAndFiles =
    ".SH ENVIRONMENT\n"
    ".TP\n.B OPENSORA_MODEL_DIR\nFolder with the weights, where \\fB\\-\\-model\\-dir\\fR is not given.\n"
    ".TP\n.B NO_COLOR\nIf set and not empty, the log has no colours.\n"
    ".SH FILES\n"
    ".TP\n.I ./ckpts\nThe model folder where nothing else is given and it is there.\n"
    ".TP\n.I config.json\nIn the model folder: its configuration.\n"
    ".TP\n.I PREFIX/share/opensora/configs\nThe bundled configurations and the demo model.\n";

// opensora.1 in roff with the man macros.
std::string man_page(const CLI::App& program) {
  const std::vector<const CLI::App*> commands = shown_commands(program);
  std::string text = fmt::format(
      ".\\\" Made by \"opensora man\".\n.TH OPENSORA 1 \"\" \"opensora {}\" \"User Commands\"\n", version());
  text += ".SH NAME\nopensora \\- " + roff(program.get_description()) + "\n.SH SYNOPSIS\n";
  for (const CLI::App* command : commands) text += synopsis(*command) + ".br\n";
  text +=
      ".SH DESCRIPTION\nResults go to standard output, the log to standard error. A failure prints one line,\n"
      "\\fBopensora: error:\\fR and what was expected, what was found and what to do.\n"
      ".SH OPTIONS\n" +
      options_text(option_rows(program)) + ".SH COMMANDS\n";
  for (const CLI::App* command : commands) {
    text += ".SS " + roff(command->get_name()) + "\n" + roff(sentence(command->get_description())) + "\n" +
            options_text(option_rows(*command)) + ".PP\n" + footer_text(command->get_footer());
  }
  return text + kBatches + events_text() + exit_status() + kEnvironmentAndFiles + ".SH EXAMPLES\n" +
         footer_text(program.get_footer());
}

}  // namespace

void add_man(CLI::App& app) {
  CLI::App* command = app.add_subcommand("man", "Print the man page, in roff");
  command->footer("Example:\n  opensora man | man -l -");
  command->callback([&app] { std::cout << man_page(app); });
}

}  // namespace opensora::cli
