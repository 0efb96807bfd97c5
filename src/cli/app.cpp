#include "cli/app.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/parameter_options.h"
#include "cli/process.h"
#include "cli/standard_error.h"
#include "cli/standard_output.h"
#include "core/failure.h"
#include "core/temporary.h"
#include "opensora/error.h"
#include "opensora/process.h"

namespace opensora::cli {
namespace {

std::string version_text() {
  std::string text = "opensora " + version();
  for (const auto& [name, value] : library_versions()) {
    text.append("\n  ").append(name).append(" ").append(request::with_flags(value));
  }
  return text;
}

// `failure` as the user is to be told it.
int fail(const Failure& failure, bool json) {
  // The line that waits says what led to the failure, which does not help somebody who mistyped a flag.
  if (failure.code == static_cast<int>(ExitCode::kUsage)) {
    drop_waiting_line();
  } else {
    log_waiting_line();
  }
  if (json) print_json(failure_json(failure));
  if (!failure.detail.empty()) spdlog::debug("{}", failure.detail);
  std::cerr << "opensora: error: " << failure.message << '\n';
  return failure.code;
}

int fail_usage(const std::string& message, bool json) {
  return fail({.code = static_cast<int>(ExitCode::kUsage), .message = message, .flags = {}, .detail = {}}, json);
}

// As `failure` is told by a command: what it writes is named by an argument of its own where it has no -o, "another
// OUT".
Failure in_words_of(const CLI::App& command, Failure failure) {
  constexpr std::string_view kOutput = "`output`";
  const bool has_output = command.get_option_no_throw("--output") != nullptr;
  for (const std::string name : {"OUT", "TABLE", "--worst"}) {
    if (has_output || command.get_option_no_throw(name) == nullptr) continue;
    for (size_t at = 0; (at = failure.message.find(kOutput, at)) != std::string::npos; at += name.size()) {
      failure.message.replace(at, kOutput.size(), name);
    }
  }
  return in_flags(std::move(failure), other_flags(command));
}

int parse_and_run(CLI::App& app, std::vector<std::string> arguments) {
  const bool json = asks_for_json(app, arguments);
  try {
    arguments = prepare_arguments(app, std::move(arguments));
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    app.parse(std::move(arguments));                   // runs the subcommand's callback
    log_waiting_line();
    return static_cast<int>(ExitCode::kSuccess);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    return fail_usage(usage_message(app, error), json);
  } catch (const ToldError&) {
    return fail(in_flags(describe_failure(std::current_exception())), /*json=*/false);
  } catch (...) {
    return fail(in_words_of(selected(app), describe_failure(std::current_exception())), json);
  }
}

bool pipes_end_programs() {
  struct sigaction action {};
  return sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_DFL;
}

// The exit code, given that of the run and the errno with which printing its results failed (0: it did not). The run's
// own failure comes first.
int exit_code(int code, int error, bool ends_by_pipe) {
  if (code != 0 || error == 0) return code;
  if (error == EPIPE && ends_by_pipe) {  // the reader has seen enough, as in `| head -1`: end as other programs do
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
  }
  return fail({.code = static_cast<int>(ExitCode::kOutput),
               .message = "standard output: " + std::generic_category().message(error),
               .flags = {},
               .detail = {}},
              /*json=*/false);
}

int run_with_output(int argc, char** argv) {
  const bool ends_by_pipe = pipes_end_programs();
  StandardOutput output;
  init_logging();
  CLI::App app("Video from text with Open-Sora 2.0.");
  set_up(app);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  int code = 0;
  if (!arguments.empty() && arguments.front() == kCompleteCommand) {
    print_completions(app, {arguments.begin() + 1, arguments.end()});
  } else {
    code = parse_and_run(app, arguments);
  }
  return exit_code(code, output.finish(), ends_by_pipe);
}

}  // namespace

void set_up(CLI::App& app) {
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
  add_calibrate(app);
  add_tokenize(app);
  add_inspect(app);
  add_verify(app);
  add_reconstruct(app);
  add_compare(app);
  add_encode_text(app);
  add_completion(app);
  add_man(app);
  add_doctor(app);
  add_random_model(app);
  add_quantize(app);
  add_selftest(app);
  refuse_empty_values(app);
}

int run(int argc, char** argv) {
  occupy_closed_descriptors();
  watch_for_early_exit();
  try {
    return run_with_output(argc, argv);
  } catch (const std::bad_alloc&) {  // not even an error could be told
    std::cerr << "opensora: error: out of memory\n";
    return static_cast<int>(ExitCode::kOutOfMemory);
  }
}

void run_process(int argc, char** argv) {
  install_fault_handler();
  ignore_file_size_signal();
  const int code = run(argc, argv);
  // The process ends here and now. LibTorch would take a tenth of a second to unregister its operators, and after a
  // stop a thread may still be within an encoder, from under which nothing must be taken. Its file goes before.
  if (stop_signal() != 0) remove_own_temporaries();
  std::cout.flush();
  std::fflush(nullptr);
#ifdef __SANITIZE_ADDRESS__
  __lsan_do_leak_check();
#endif
  _exit(code);
}

}  // namespace opensora::cli
