// The commands and options of the program as CLI11 knows them: what shell completion and the man page are made from.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace opensora::cli {

struct OptionRow {
  std::vector<std::string> names;  // with dashes, short ones first; of a positional argument its name alone
  bool positional = false;
  bool required = false;
  bool repeatable = false;           // each time counts; otherwise the last
  std::string group;                 // "Options" where it has none of its own
  std::string value;                 // what it takes, for people: "TEXT", "INT", "fp32|bf16|fp16"; empty: a flag
  std::vector<std::string> choices;  // the only values, or (of --config) the usual ones
  std::string paths;                 // what completion offers: "file" (or folder), "directory"; empty: no paths
  std::string default_value;         // empty: none, or the description says it
  std::string description;           // one line
};

// The options of a command, or of the program itself, but for hidden ones; positional ones too. They are in order of
// definition, so that groups stay together.
std::vector<OptionRow> option_rows(const CLI::App& command);

// The commands of the program, but for hidden ones.
std::vector<const CLI::App*> shown_commands(const CLI::App& app);

}  // namespace opensora::cli
