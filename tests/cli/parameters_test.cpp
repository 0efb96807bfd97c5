// Every row of the parameter table is where people look for it.
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

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
                                 "prefix", "preset", "python", "requeue", "under"};
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
