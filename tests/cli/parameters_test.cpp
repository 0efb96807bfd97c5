// Every row of the parameter table is where people look for it.
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "cli/app.h"
#include "cli/commands.h"
#include "request/parameter.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using request::Parameter;
using request::parameters;
using test::contains;
using test::output_of;
using test::readme;

std::string with_dashes_escaped(const std::string& text) {
  std::string escaped;
  for (const char c : text) escaped += c == '-' ? std::string("\\-") : std::string(1, c);
  return escaped;
}

std::set<std::string> long_flags(const CLI::App& command) {
  std::set<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    names.insert(option->get_lnames().begin(), option->get_lnames().end());
    for (const std::string& name : option->get_fnames()) names.insert(name);
  }
  return names;
}

// "`-s`, `--seed TEXT`"
std::string spelling(const Parameter& parameter) {
  std::string text = "`";
  for (const char c : parameter.names) text += c == ',' ? "`, `" : c == '!' ? "" : std::string(1, c);
  if (parameter.kind != request::Kind::kSwitch) text.append(" ").append(parameter.type);
  return text + "`";
}

std::string in_markdown(const std::string& text) {
  return std::regex_replace(std::regex_replace(text, std::regex("\\|"), "\\|"), std::regex("<"), "&lt;");
}

// The manual's table of flags, as the parameter table has them, in the groups of the help.
std::string flags_table() {
  std::vector<std::string> groups;
  std::map<std::string, std::string> rows;  // by group
  for (const Parameter& parameter : parameters()) {
    if (!rows.contains(parameter.group)) groups.push_back(parameter.group);
    const std::string by_default = parameter.default_text.empty() ? "" : " (default: " + parameter.default_text + ")";
    rows[parameter.group].append("| ").append(in_markdown(spelling(parameter))).append(" | ");
    rows[parameter.group].append(in_markdown(parameter.help + by_default)).append(" |\n");
  }
  std::string table = "| flag | meaning |\n| --- | --- |\n";
  for (const std::string& group : groups) {
    if (!group.empty()) table.append("| **").append(group).append("** | |\n");
    table.append(rows[group]);
  }
  return table;
}

// OPENSORA_UPDATE_README=1 in the environment writes it there.
TEST(ParameterTable, IsTheReadmesTableOfFlags) {
  const std::string begin =
                        "<!-- The parameter table's rows, written by ParameterTable.IsTheReadmesTableOfFlags. -->\n\n",
                    end = "\n<!-- The end of these rows. -->\n";
  std::string manual = readme();
  const size_t from = manual.find(begin), to = manual.find(end);
  ASSERT_TRUE(from != std::string::npos && to != std::string::npos && from < to);
  const size_t first = from + begin.size();
  if (std::getenv("OPENSORA_UPDATE_README") != nullptr) {
    manual.replace(first, to - first, flags_table());
    std::ofstream(test::readme_file()) << manual;
    return;
  }
  EXPECT_EQ(manual.substr(first, to - first), flags_table()) << "OPENSORA_UPDATE_README=1 ctest -R ParameterTable";
}

TEST(ParameterTable, IsInTheHelpTheManPageAndTheReadme) {
  const std::string help = output_of({"generate", "--help"}), page = output_of({"man"}), manual = readme();
  for (const Parameter& parameter : parameters()) {
    const std::string flag = "--" + parameter.name();
    EXPECT_TRUE(contains(help, flag)) << flag;
    EXPECT_TRUE(contains(page, with_dashes_escaped(flag))) << flag;
    EXPECT_TRUE(contains(manual, flag) || contains(manual, "--[no-]" + parameter.name())) << flag;
  }
}

TEST(ParameterTable, TheReadmeNamesNoFlagThatIsNotThere) {
  std::set<std::string> flags = {"array",  "build",  "cuda",   "gres",    "install",  // of Slurm, CMake and scripts/
                                 "prefix", "preset", "python", "requeue", "under",   "weights"};
  CLI::App app;
  cli::set_up(app);
  flags.merge(long_flags(app));
  for (const CLI::App* command : app.get_subcommands(nullptr)) flags.merge(long_flags(*command));
  const std::string manual = readme();
  const std::regex pattern(R"(--(?:\[no-\])?([a-z0-9]+(-[a-z0-9]+)*))");
  size_t found = 0;
  for (std::sregex_iterator match(manual.begin(), manual.end(), pattern), end; match != end; ++match, ++found) {
    EXPECT_TRUE(flags.contains((*match)[1])) << (*match)[0];
  }
  EXPECT_GT(found, 200U);
}

TEST(ParameterTable, IsWhatPrintConfigPrints) {
  const auto json = nlohmann::json::parse(output_of({"generate", "-q", "-p", "x", "--strict", "--name-template",
                                                     "{slug}", "--num-samples", "2", "--print-config", "--json"}));
  size_t reported = 0;
  for (const Parameter& parameter : parameters()) {
    EXPECT_EQ(json.contains(parameter.key()), parameter.get != nullptr) << parameter.name();
    if (parameter.get) ++reported;
  }
  EXPECT_EQ(json.size(), reported);
  EXPECT_EQ(json["strict"], (nlohmann::json{{"value", true}, {"source", "--strict"}}));
  EXPECT_EQ(json["name_template"], (nlohmann::json{{"value", "{slug}"}, {"source", "--name-template"}}));
  EXPECT_EQ(json["num_samples"], (nlohmann::json{{"value", 2}, {"source", "--num-samples"}}));
  EXPECT_EQ(json["contact_sheet"], (nlohmann::json{{"value", nullptr}, {"source", "built-in"}}));
}

TEST(ParameterTable, CompletionOffersWhatAParameterTakes) {
  CLI::App app;
  cli::set_up(app);
  for (const Parameter& parameter : parameters()) {
    const std::string& type = parameter.type;
    if (type != "FILE" && type != "PATH" && type != "DIR") continue;
    testing::internal::CaptureStdout();
    cli::print_completions(app, {"generate", "--" + parameter.name(), ""});
    std::cout.flush();
    EXPECT_EQ(testing::internal::GetCapturedStdout(), type == "DIR" ? ":directory\n" : ":file\n") << parameter.name();
  }
}

}  // namespace
}  // namespace opensora
