#include "cli/app.h"

#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <string>

#include "cli/commands.h"
#include "cli/logging.h"
#include "core/nearest.h"
#include "opensora/error.h"
#include "opensora/version.h"

namespace opensora::cli {
namespace {

std::string version_text() {
  std::string text = "opensora " + version();
  for (const auto& [name, value] : library_versions()) text.append("\n  ").append(name).append(" ").append(value);
  return text;
}

// The subcommand that was given, or the program itself.
const CLI::App& selected(const CLI::App& app) {
  const auto commands = app.get_subcommands();
  return commands.empty() ? app : *commands.front();
}

std::string unknown_argument(const CLI::App& app) {
  const std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  const std::string found = extras.empty() ? "" : extras.front();
  const CLI::App& command = selected(app);
  std::vector<std::string> known;
  if (found.starts_with("-")) {
    for (const CLI::Option* option : command.get_options()) {
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
      for (const std::string& name : option->get_fnames()) known.push_back("--" + name);
    }
  } else {
    for (const CLI::App* sub : command.get_subcommands(nullptr)) known.push_back(sub->get_name());
  }
  const std::string flag = found.substr(0, found.find('='));
  std::string message = "unknown argument \"" + found + "\"";
  if (const auto nearest = nearest_name(flag, known)) message += "; did you mean " + *nearest + "?";
  return message + " (see opensora " + (&command == &app ? "" : command.get_name() + " ") + "--help)";
}

int fail(ExitCode code, const std::string& message) {
  std::cerr << "opensora: error: " << message << '\n';
  return static_cast<int>(code);
}

// CLI11's own messages may span lines.
std::string one_line(std::string text) {
  for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos;) text.replace(at, 1, "; ");
  return text;
}

int parse_and_run(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);  // runs the subcommand's callback
    return static_cast<int>(ExitCode::kSuccess);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ExtrasError&) {
    return fail(ExitCode::kUsage, unknown_argument(app));
  } catch (const CLI::RequiredError& error) {  // also what CLI11 says of a mistyped subcommand
    const bool mistyped = app.get_subcommands().empty() && !app.remaining().empty();
    return fail(ExitCode::kUsage, mistyped ? unknown_argument(app) : one_line(error.what()));
  } catch (const CLI::ParseError& error) {
    return fail(ExitCode::kUsage, one_line(error.what()));
  } catch (const Error& error) {
    return fail(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return fail(ExitCode::kOutOfMemory, "out of memory");
  } catch (const std::exception& error) {
    return fail(ExitCode::kInternal, one_line(error.what()));
  }
}

}  // namespace

int run(int argc, char** argv) {
  init_logging();
  CLI::App app("Video from text with Open-Sora 2.0.");
  app.name("opensora");
  app.set_version_flag("--version", version_text, "Print the versions of the program and of its libraries");
  app.require_subcommand(1);
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);  // as in other programs: the last wins
  app.footer(
      "Examples:\n"
      "  opensora generate --prompt \"raining, sea\"\n"
      "  opensora generate --help");
  add_generate(app);
  add_decode(app);
  add_plan(app);
  add_bench(app);
  add_tokenize(app);
  add_inspect(app);
  add_verify(app);
  add_reconstruct(app);
  add_encode_text(app);
  add_completion(app);
  add_man(app);
  add_doctor(app);
  add_random_model(app);
  add_selftest(app);
  return parse_and_run(app, argc, argv);
}

}  // namespace opensora::cli
