// A failure with --json: an object on stdout that says what the line on stderr says, for every command.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/app.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using nlohmann::json;
using test::run_program;

// Runs and expects that exit code, the object and the line. Returns the object.
json expect_failure(const std::vector<std::string>& arguments, int exit_code) {
  const test::ProgramResult result = run_program(arguments);
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  const std::string mark = "opensora: error: ";
  const size_t at = result.err.find(mark);
  if (at == std::string::npos) {
    ADD_FAILURE() << "no error: " << result.err;
    return {};
  }
  const std::string message = result.err.substr(at + mark.size(), result.err.size() - at - mark.size() - 1);
  json object = json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(object.is_object()) << result.out;
  EXPECT_EQ(object["error"], message);
  EXPECT_EQ(object["code"], exit_code);
  EXPECT_TRUE(object["flags"].is_array()) << result.out;
  return object;
}

TEST(FailureJson, OfEveryCommand) {
  const std::map<std::string, std::pair<std::vector<std::string>, int>> failures = {
      {"generate", {{"-p", "a", "--steps", "0"}, 2}},
      {"decode", {{"nothere.latent.safetensors"}, 4}},
      {"plan", {{"-p", "a", "--image", "a.png", "--video", "a.mp4"}, 2}},
      {"bench", {{"--stages", "nonsense"}, 2}},
      {"tokenize", {{"sea", "--model-dir", "/nowhere"}, 4}},
      {"inspect", {{"nothere.safetensors"}, 4}},
      {"verify", {{"/nowhere"}, 4}},
      {"quantize", {{"nothere.safetensors", "x.safetensors"}, 4}},
      {"reconstruct", {{"nothere.png", "-o", "/nowhere/x.png"}, 7}},
      {"compare", {{"nothere.png", "nothere.png"}, 9}},
      {"calibrate", {{"/nowhere/table.json", "-p", "a", "--steps", "0"}, 2}},
      {"encode-text", {{"--output-dir", "/nowhere/x"}, 2}},
      {"doctor", {{"--model-dir", "/nowhere"}, 4}},
      {"selftest", {{"--dtype", "fp8"}, 2}},
  };
  CLI::App app;
  cli::set_up(app);
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (command->get_option_no_throw("--json") == nullptr) continue;
    SCOPED_TRACE(command->get_name());
    const auto found = failures.find(command->get_name());
    ASSERT_NE(found, failures.end()) << "a new command with --json: how does it fail?";
    std::vector<std::string> arguments = {command->get_name()};
    arguments.insert(arguments.end(), found->second.first.begin(), found->second.first.end());
    arguments.emplace_back("--json");
    expect_failure(arguments, found->second.second);
  }
}

TEST(FailureJson, WhereverTheFlagStands) {
  expect_failure({"generate", "--json", "--stepz", "3"}, 2);
  expect_failure({"generate", "a cat", "--json"}, 2);
  EXPECT_EQ(run_program({"generate", "-p", "--json", "--steps", "0"}).out, "") << "--json is the prompt";
  EXPECT_EQ(run_program({"generate", "--steps", "0"}).out, "");
  EXPECT_EQ(run_program({"man", "--json"}).out, "") << "man has no such flag";
}

// A report that ends in a failure stays one object, with its own fields.
TEST(FailureJson, IsPartOfAReport) {
  const test::TemporaryFolder folder;
  const json verified = expect_failure({"verify", folder.path(), "--json"}, 4);
  EXPECT_EQ(verified["ok"], false);
  EXPECT_GT(verified["problems"], 0);
  const json doctor = expect_failure({"doctor", "--model-dir", "/nowhere", "--json"}, 4);
  EXPECT_TRUE(doctor["findings"].is_array());
}

TEST(FailureJson, OutOfMemoryNamesFlagsThatFit) {
  const test::TemporaryFolder folder;
  const std::vector<std::string> arguments = {"generate",
                                              "-p",
                                              "a",
                                              "-s",
                                              "1",
                                              "--steps",
                                              "1",
                                              "--num-frames",
                                              "33",
                                              "-W",
                                              "256",
                                              "-H",
                                              "256",
                                              "--device",
                                              "cpu",
                                              "--threads",
                                              "1",
                                              "--max-memory",
                                              "300MiB",
                                              "--json",
                                              "-q",
                                              "-o",
                                              folder.path() / "a.mp4"};
  const json failure = expect_failure(arguments, 6);
  EXPECT_FALSE(failure["flags"].empty()) << failure;
  EXPECT_TRUE(test::contains(failure["error"].get<std::string>(), "--max-memory 300 MiB: "));
  EXPECT_FALSE(test::contains(failure["error"].get<std::string>(), "--device cpu")) << "it is on the CPU";
}

TEST(FailureJson, ALimitBelowWhatTheProgramItselfTakes) {
  const json failure = expect_failure({"generate", "-p", "a", "--device", "cpu", "--max-memory", "1MiB", "--json", "-q",
                                       "--dtype", "fp32", "-o", "/dev/shm/none-of-this.mp4"},
                                      6);
  EXPECT_TRUE(test::contains(failure["error"].get<std::string>(), "the program itself takes")) << failure;
}

// Limits to the address space, from what the libraries just need to plenty: whatever fails first, it is memory.
TEST(Memory, OfTheAddressSpaceIsExitCode6) {
  const test::TemporaryFolder folder;
  bool ran_out = false;
  for (const long mebibytes : {540, 590, 640, 700, 800, 1000, 1400}) {
    SCOPED_TRACE(mebibytes);
    test::ProgramOptions options;
    options.max_address_space = mebibytes << 20;
    options.environment = {"OMP_NUM_THREADS=1"};
    const test::ProgramResult result =
        run_program({"generate", "-p", "a", "-s", "1", "--steps", "1", "--num-frames", "5", "--threads", "1", "-q",
                     "--overwrite", "-o", folder.path() / "a.mp4"},
                    options);
    constexpr int kLoader = 127;  // it cannot even start
    EXPECT_TRUE(result.exit_code == 0 || result.exit_code == 6 || result.exit_code == kLoader)
        << result.exit_code << ": " << result.err;
    if (result.exit_code == 6) EXPECT_TRUE(test::contains(result.err, "opensora: error: out of memory")) << result.err;
    ran_out = ran_out || result.exit_code == 6;
  }
  EXPECT_TRUE(ran_out);
}

// OpenMP would end the program in its own words, and XNNPACK would wait for the thread forever.
TEST(Memory, ThreadsThatCannotBeStarted) {
  const test::TemporaryFolder folder;
  test::ProgramOptions options;
  options.max_address_space = 3L << 30;
  for (const std::vector<std::string> command :
       {std::vector<std::string>{"generate", "-p", "a", "-o", folder.path() / "a.mp4"},
        {"plan", "-p", "a"},
        {"encode-text", "-p", "a", "--output-dir", folder.path()}}) {
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), {"--threads", "1024", "-q", "--device", "cpu"});
    const test::ProgramResult result = run_program(arguments, options);
    EXPECT_EQ(result.exit_code, 6) << command[0] << result.err;
    EXPECT_TRUE(test::contains(result.err, "and computing with 1024 takes 2047")) << command[0] << result.err;
  }
}

}  // namespace
}  // namespace opensora
