// opensora completion and opensora man: what they say of the options, and that those who read it understand it.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <sstream>

#include "cli/reference_tables.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::output_of;
using test::readme;
using test::run_program;

struct ShellOutput {
  int exit_code = -1;
  std::string out;  // with stderr
};

ShellOutput shell(const std::string& command) {
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("popen");
  ShellOutput result;
  for (int c = fgetc(pipe); c != EOF; c = fgetc(pipe)) result.out += static_cast<char>(c);
  const int status = pclose(pipe);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

bool has(const std::string& program) { return shell("command -v " + program).exit_code == 0; }

// The scripts ask the program that is called.
std::string with_program_in_path() {
  return "PATH='" + fs::path(OPENSORA_PROGRAM).parent_path().string() + "':$PATH\n";
}

// What bash offers for the last of `words`, one a line, in the folder, which holds the script as "completion".
std::string complete(const test::TemporaryFolder& folder, const std::string& words) {
  folder.write("ask", "source ./completion\n" + with_program_in_path() + "COMP_WORDS=(opensora " + words +
                          ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_opensora\n"
                          "(( ${#COMPREPLY[@]} == 0 )) || printf '%s\\n' \"${COMPREPLY[@]}\"\n");
  return shell("cd '" + folder.path().string() + "' && bash --norc ask").out;
}

TEST(BashCompletion, OffersCommandsOptionsChoicesAndFiles) {
  const test::TemporaryFolder folder;
  folder.write("completion", output_of({"completion", "bash"}));
  EXPECT_EQ(complete(folder, "gen"), "generate\n");
  EXPECT_EQ(complete(folder, "--ver"), "--version\n");
  EXPECT_EQ(complete(folder, "generate --text-e"), "--text-embeddings\n");
  EXPECT_EQ(complete(folder, "generate --no-t2"), "--no-t2i2v\n");
  EXPECT_EQ(complete(folder, "generate --dtype ''"), "fp32\nbf16\nfp16\n");
  EXPECT_EQ(complete(folder, "generate --cond-type i2v_t"), "i2v_tail\n");
  EXPECT_EQ(complete(folder, "generate --config 768"), "768px\n");
  EXPECT_EQ(complete(folder, "completion z"), "zsh\n");
  fs::create_directory(folder.path() / "my models");
  folder.write("my picture.png", "");
  EXPECT_EQ(complete(folder, "generate --model-dir my"), "my models\n");
  EXPECT_EQ(complete(folder, "generate --image 'my p'"), "my picture.png\n");
  for (const char* flag : {"--contact-sheet", "--from", "--save-tensors", "--vae", "-o", "--events", "--config"}) {
    EXPECT_EQ(complete(folder, "generate " + std::string(flag) + " 'my p'"), "my picture.png\n") << flag;
  }
  // What takes no path.
  for (const char* flag : {"--steps", "--pix-fmt", "--name-template", "--max-memory", "--shard", "--output-size",
                           "--seed", "--fps", "--device", "--motion-score", "--timeout", "--resolution"}) {
    EXPECT_EQ(complete(folder, "generate " + std::string(flag) + " my"), "") << flag;
  }
  EXPECT_EQ(complete(folder, "bench --stages my"), "");
  EXPECT_EQ(complete(folder, "inspect 'my p'"), "my picture.png\n");
  EXPECT_EQ(complete(folder, "random-model my"), "my models\n");
  EXPECT_EQ(complete(folder, "generate --prompt my"), "");
  EXPECT_EQ(complete(folder, "nonsense --"), "");
}

TEST(Completion, TheProgramOffersWordsWithDescriptionsAndNamesPaths) {
  EXPECT_TRUE(contains(output_of({"__complete", ""}), "generate\tMake "));
  EXPECT_TRUE(contains(output_of({"__complete", "generate", "--cond"}), "--cond-type\t"));
  EXPECT_EQ(output_of({"__complete", "generate", "--dtype", ""}), "fp32\t\nbf16\t\nfp16\t\n");
  EXPECT_EQ(output_of({"__complete", "generate", "-o", "x"}), ":file\n");
  EXPECT_EQ(output_of({"__complete", "generate", "--model-dir", "x"}), ":directory\n");
  EXPECT_EQ(output_of({"__complete", "nonsense", "x"}), "");
}

TEST(ZshCompletion, IsReadByZsh) {
  const std::string script = output_of({"completion", "zsh"});
  if (!has("zsh")) GTEST_SKIP() << "zsh is not installed";
  const test::TemporaryFolder folder;
  const fs::path file = folder.write("_opensora", script);
  const ShellOutput result = shell("zsh -f -c 'autoload -Uz compinit; compinit -D; zsh -n " + file.string() +
                                   " && source " + file.string() + " && whence -w _opensora'");
  EXPECT_EQ(result.out, "_opensora: function\n");
}

TEST(FishCompletion, IsReadByFish) {
  const std::string script = output_of({"completion", "fish"});
  if (!has("fish")) GTEST_SKIP() << "fish is not installed";
  const test::TemporaryFolder folder;
  const fs::path file = folder.write("opensora.fish", script);
  const ShellOutput result =
      shell(with_program_in_path() + "HOME=" + folder.path().string() + " fish --no-config -c 'source " +
            file.string() + "; complete -C \"opensora generate --dtype \"'");
  EXPECT_TRUE(contains(result.out, "bf16"));
  EXPECT_FALSE(result.out.find("rror") != std::string::npos) << result.out;
}

TEST(Completion, OfAnotherShellIsRefused) {
  EXPECT_EQ(run_program({"completion", "csh"}).exit_code, 2);
  EXPECT_EQ(run_program({"completion"}).exit_code, 2);
}

TEST(ManPage, HasEveryCommandOptionAndExitCode) {
  const std::string page = output_of({"man"});
  for (const char* part :
       {".TH OPENSORA 1", ".SH NAME", ".SH SYNOPSIS", ".SS generate", ".SS encode\\-text", ".SH BATCHES", ".SH EVENTS",
        "SLURM_ARRAY_TASK_ID", ".B video_done*", ".SH EXIT STATUS", ".SH ENVIRONMENT", ".SH FILES", ".SH EXAMPLES",
        "OPENSORA_MODEL_DIR", "\\-\\-cond\\-type", "\\-\\-no\\-t2i2v", "fp32|\\:bf16", ".B 128 + n"}) {
    EXPECT_TRUE(contains(page, part));
  }
  std::istringstream lines(page);
  const std::string requests = ".TH .SH .SS .TP .PP .RS .RE .nf .fi .br .B .I .\\\"";
  for (std::string line; std::getline(lines, line);) {
    EXPECT_NE(line, "");
    if (line.starts_with(".")) EXPECT_TRUE(contains(requests, line.substr(0, line.find(' '))));
  }
}

TEST(ManPage, IsReadByGroffWithoutWarnings) {
  if (!has("groff")) GTEST_SKIP() << "groff is not installed";
  const test::TemporaryFolder folder;
  const fs::path file = folder.write("opensora.1", output_of({"man"}));
  const ShellOutput warnings = shell("groff -K utf8 -man -Tutf8 -ww -rLL=100n " + file.string() + " >/dev/null");
  EXPECT_EQ(warnings.exit_code, 0);
  EXPECT_EQ(warnings.out, "");
  const ShellOutput text = shell("groff -K utf8 -man -Tascii -P-cbou -rLL=100n " + file.string());
  EXPECT_TRUE(contains(text.out, "--text-embeddings"));
  EXPECT_TRUE(contains(text.out, "opensora generate -p \"raining, sea\" --config t2i2v_768px"));
}

TEST(ExitCodes, TheReadmeHasTheProgramsTable) {
  const std::string head = "| code | meaning |\n| --- | --- |\n";
  std::string table = head;
  for (const auto& [code, meaning] : cli::kExitCodes) {
    table.append("| ").append(code).append(" | ").append(meaning).append(" |\n");
  }
  EXPECT_TRUE(contains(readme(), table));
}

TEST(Events, TheReadmeHasTheProgramsTable) {
  std::string table = "| event | besides |\n| --- | --- |\n";
  for (const cli::EventRow& row : cli::kEvents) {
    table.append("| `").append(row.name).append(row.in_journal ? "`* | " : "` | ").append(row.fields).append(" |\n");
  }
  EXPECT_TRUE(contains(readme(), table));
}

}  // namespace
}  // namespace opensora
