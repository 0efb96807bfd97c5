// What ends a run from outside: signals of every kind, limits on files, a folder that is gone, names that a file system
// does not take; and files of others where the program's own would lie.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "support/contains.h"
#include "support/death.h"
#include "support/program.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::Arguments;
using test::contains;
using test::ProgramOptions;
using test::ProgramResult;
using test::read_file;

class Endings : public ::testing::Test {
 protected:
  Endings() { fs::create_directory(out()); }

  // The reference checkpoint in one step, into the folder out().
  ProgramResult generate(const std::string& output, const Arguments& more = {}, ProgramOptions options = {}) const {
    Arguments arguments = {"generate", "--model-dir", test::checkpoint_dir(), "--config",
                           test::checkpoint_dir() / "tiny.json"};
    for (const char* word : {"-p", "rain", "-W", "32", "-H", "32", "--num-frames", "5", "--steps", "1", "-s", "1",
                             "--device", "cpu", "--threads", "1"}) {
      arguments.emplace_back(word);
    }
    arguments.insert(arguments.end(), {"-o", fs::path(output).is_absolute() ? fs::path(output) : out() / output});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return test::run_program(arguments, options);
  }
  // With what tests/preload/death.cpp can do at the first step.
  ProgramResult generate_with(const std::string& death, const Arguments& more, ProgramOptions options = {}) const {
    options.environment = test::environment_of_death(death, R"("event":"step")", folder_);
    Arguments arguments = {"--events", folder_.path() / "events"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return generate("v.mp4", arguments, options);
  }
  ProgramResult generate_with_signal(int signal, const Arguments& more = {}, const ProgramOptions& options = {}) const {
    return generate_with("signal:" + std::to_string(signal), more, options);
  }
  fs::path out() const { return folder_.path() / "out"; }
  std::set<std::string> names() const {
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(out())) found.insert(entry.path().filename());
    return found;
  }

  test::TemporaryFolder folder_;
};

TEST_F(Endings, SignalsOfEveryKindCleanUp) {
  for (const int signal : {SIGQUIT, SIGUSR1, SIGALRM, SIGXCPU, SIGRTMIN + 3}) {
    const ProgramResult result = generate_with_signal(signal, {"--steps", "4", "--preview-every", "1"});
    EXPECT_EQ(result.exit_code, 128 + signal) << result.err;
    EXPECT_TRUE(contains(result.err, "stopped by signal " + std::to_string(signal))) << result.err;
    EXPECT_TRUE(names().empty()) << signal;
  }
}

// oneDNN's products have the stack register point into the heap, where a handler's frame would overwrite what is there.
TEST_F(Endings, SignalsThatArePassedOverChangeNothing) {
  for (const char* threads : {"1", "3"}) {
    const Arguments more = {"--steps", "200", "--threads", threads, "--overwrite"};
    ASSERT_EQ(generate("v.mp4", more).exit_code, 0);
    const std::string expected = read_file(out() / "v.mp4");
    const ProgramResult result = generate_with("flood", more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_TRUE(read_file(out() / "v.mp4") == expected);
  }
}

TEST_F(Endings, WhatWasIgnoredAtTheStartStaysIgnored) {
  const ProgramResult result = generate_with_signal(SIGHUP, {}, {.ignored_signal = SIGHUP});  // as nohup does
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(names(), std::set<std::string>{"v.mp4"});
}

TEST_F(Endings, AFileThatGrowsBeyondTheLimitIsNotTheProgramsEnd) {
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto limited = [&](const std::string& output, const Arguments& more) {
    const rlimit limit{4096, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    const ProgramResult result = generate(output, more);
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_EQ(result.exit_code, 7) << result.err;
    EXPECT_TRUE(contains(result.err, "File too large")) << result.err;
    EXPECT_EQ(names().count(output), 0U);
    for (const std::string& name : names()) EXPECT_FALSE(name.ends_with(".part")) << name;
  };
  limited("v.mkv", {"--codec", "ffv1"});
  limited("w.mp4", {"--save-tensors", out() / "t.safetensors"});
  limited("x.mp4", {"--crf", "51", "--save-frames", out() / "frames", "--contact-sheet", out() / "sheet.png"});
  EXPECT_FALSE(fs::exists(out() / "frames/frame-00001.png"));
}

TEST_F(Endings, TheCurrentFolderMayBeGone) {
  const fs::path before = fs::current_path(), gone = folder_.path() / "gone";
  fs::create_directory(gone);
  fs::current_path(gone);
  fs::remove(gone);
  const ProgramResult absolute = generate("v.mp4"), inspected = test::run_program({"inspect", "v.mp4"});
  Arguments relative = {"--output-size", "32x32"};
  relative.insert(relative.end(), {"-o", "v.mp4"});
  const ProgramResult nowhere = generate("w.mp4", relative);
  fs::current_path(before);
  EXPECT_EQ(absolute.exit_code, 0) << absolute.err;
  EXPECT_EQ(nowhere.exit_code, 7) << nowhere.err;
  EXPECT_TRUE(contains(nowhere.err, "v.mp4: the current folder was removed; give an absolute path")) << nowhere.err;
  EXPECT_NE(inspected.exit_code, 0);
  EXPECT_TRUE(contains(inspected.err, "v.mp4")) << inspected.err;
}

TEST_F(Endings, NamesAsLongAsTheFileSystemTakes) {
  std::string letters;
  while (letters.size() < 250) letters += "é";  // two bytes
  for (const std::string& name : {std::string(251, 'x') + ".mp4", letters + ".mp4"}) {
    const ProgramResult result = generate(name, {"--sidecar"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_TRUE(fs::exists(out() / name));
    EXPECT_EQ(names().size(), 2U) << "the sidecar has a name of its own";
    for (const std::string& made : names()) fs::remove(out() / made);
  }
  const ProgramResult longer = generate(std::string(252, 'x') + ".mp4");
  EXPECT_EQ(longer.exit_code, 7);
  EXPECT_TRUE(contains(longer.err, "a name of 256 bytes, where at most 255 are possible")) << longer.err;
  EXPECT_FALSE(contains(longer.err, "denoise"));
  EXPECT_EQ(generate(out()).exit_code, 7) << "a folder";
  EXPECT_EQ(generate("").exit_code, 7) << "a folder with a slash";
}

TEST_F(Endings, FilesOfOthersAreNoLeftovers) {
  folder_.write("out/v.latent.safetensors", "mine");
  for (const Arguments& more : {Arguments{}, Arguments{"--overwrite"}}) {
    const ProgramResult result = generate("v.mp4", more);
    EXPECT_EQ(result.exit_code, 7);
    EXPECT_TRUE(contains(result.err, "v.latent.safetensors exists, and no unfinished run has left it")) << result.err;
    EXPECT_EQ(read_file(out() / "v.latent.safetensors"), "mine");
    EXPECT_FALSE(fs::exists(out() / "v.mp4"));
  }
  fs::remove(out() / "v.latent.safetensors");
  folder_.write("out/v.preview.png", "mine");
  EXPECT_EQ(generate("v.mp4", {"--preview-every", "1"}).exit_code, 7);
  EXPECT_EQ(read_file(out() / "v.preview.png"), "mine");
  EXPECT_EQ(generate("v.mp4").exit_code, 0) << "nothing is written there";
}

TEST_F(Endings, AKeptLatentOfTheSameVideoIsUsedAndStays) {
  ASSERT_EQ(generate("v.mp4", {"--keep-latents"}).exit_code, 0);
  const std::string video = read_file(out() / "v.mp4"), latent = read_file(out() / "v.latent.safetensors");
  fs::remove(out() / "v.mp4");
  const ProgramResult again = generate("v.mp4");
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_TRUE(contains(again.err, "it is not sampled again"));
  EXPECT_TRUE(read_file(out() / "v.mp4") == video);
  EXPECT_TRUE(read_file(out() / "v.latent.safetensors") == latent);
  EXPECT_EQ(generate("v.mp4", {"--overwrite", "-s", "2"}).exit_code, 7) << "it would be lost";
}

// A leftover of another request does not block, and goes.
TEST_F(Endings, ALeftoverOfAnotherRequestIsReplaced) {
  ASSERT_EQ(generate_with_signal(SIGKILL, {"--preview-every", "1", "--steps", "4"}).exit_code, 128 + SIGKILL);
  EXPECT_FALSE(names().empty());
  ProgramOptions full;
  full.environment = test::environment_of_death("disk", R"("event":"stage_started"|"stage":"decode")", folder_);
  EXPECT_EQ(generate("v.mp4", {"--events", folder_.path() / "events"}, full).exit_code, 7);
  EXPECT_EQ(names(), std::set<std::string>{"v.latent.safetensors"});
  const ProgramResult other = generate("v.mp4", {"-s", "2"});
  EXPECT_EQ(other.exit_code, 0) << other.err;
  EXPECT_TRUE(contains(other.err, "left by an unfinished run")) << other.err;
  EXPECT_EQ(names(), std::set<std::string>{"v.mp4"});
}

}  // namespace
}  // namespace opensora
