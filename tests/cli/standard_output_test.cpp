// What is printed and does not arrive: full and closed standard outputs, and readers of pipes that go away.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "support/contains.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::contains;

struct ShellResult {
  int exit_code = -1;
  std::string err;
};

class StandardOutput : public ::testing::Test {
 protected:
  // Runs a line of bash in the test's folder; $P is the program.
  ShellResult shell(const std::string& line) const {
    // IFS: $P is one word, whatever spaces it has.
    folder_.write("line.sh",
                  "export OMP_NUM_THREADS=1 P='" OPENSORA_PROGRAM "'\nIFS=$'\\n'\nunset OPENSORA_MODEL_DIR\n" + line);
    const int status = std::system(("cd '" + folder_.path().string() + "' && bash line.sh 2>err").c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), test::read_file(folder_.path() / "err")};
  }

  static void expect_one_error(const ShellResult& result, const std::string& words) {
    EXPECT_EQ(result.exit_code, 7) << result.err;
    EXPECT_TRUE(contains(result.err, "opensora: error: standard output: " + words)) << result.err;
    std::istringstream lines(result.err);
    int errors = 0;
    for (std::string line; std::getline(lines, line);) errors += contains(line, "error") ? 1 : 0;
    EXPECT_EQ(errors, 1) << result.err;
  }

  const std::string run_ = "$P generate -p a -s 1 --steps 1 --num-frames 5 --threads 1 -q -o ";
  test::TemporaryFolder folder_;
};

// Each way of printing that commands have; all of them end in the same place.
TEST_F(StandardOutput, ThatIsFullIsAnError) {
  const std::string checkpoint = (test::checkpoint_dir() / "hunyuan_vae.safetensors").string();
  for (const std::string& command : std::vector<std::string>{
           "$P --help", "$P --version", "$P help plan", "$P man", "$P completion zsh", "$P tokenize sea",
           "$P tokenize sea --json", "$P inspect '" + checkpoint + "'", "$P inspect '" + checkpoint + "' --json",
           "$P verify --json", "$P doctor", "$P plan -p a --json", "$P generate -p a --print-config",
           "$P generate -p a --dry-run", "$P generate --aspect-ratio list", "$P encode-text -p a --output-dir e -q",
           run_ + "a.mp4", run_ + "b.mp4 --json", run_ + "c.mp4 --events -"}) {
    SCOPED_TRACE(command);
    expect_one_error(shell(command + " > /dev/full"), "No space left on device");
  }
  for (const char* made : {"a.mp4", "b.mp4", "c.mp4"}) EXPECT_TRUE(fs::exists(folder_.path() / made)) << made;
}

TEST_F(StandardOutput, ThatIsClosedIsAnErrorAndNoOtherFileGetsIt) {
  for (const std::string& command : {std::string("$P --version"), std::string("$P plan -p a"), run_ + "a.mp4 --json"}) {
    SCOPED_TRACE(command);
    expect_one_error(shell(command + " >&-"), "Bad file descriptor");
  }
  EXPECT_EQ(shell("$P inspect a.mp4 > /dev/null").exit_code, 0) << "the video is whole";
  EXPECT_EQ(shell(run_ + "b.mp4 <&- 2>&- > /dev/null").exit_code, 0) << "nothing is printed there";
  EXPECT_EQ(shell("$P inspect b.mp4 > /dev/null").exit_code, 0);
}

TEST_F(StandardOutput, AReaderThatGoesAwayEndsTheProgramAsOthers) {
  // Descriptor 3 writes into a pipe that nobody reads any more.
  const std::string no_reader = "rm -f pipe; mkfifo pipe; exec 4<>pipe 3>pipe 4>&-\n";
  for (const std::string& command : {std::string("$P man"), run_ + "a.mp4"}) {
    SCOPED_TRACE(command);
    const ShellResult plain = shell(no_reader + command + " >&3");
    EXPECT_EQ(plain.exit_code, 141) << plain.err;
    EXPECT_FALSE(contains(plain.err, "error")) << plain.err;
  }
  EXPECT_TRUE(fs::exists(folder_.path() / "a.mp4"));
  for (const std::string& command : {std::string("$P --version"), run_ + "b.mp4 --json"}) {
    expect_one_error(shell(no_reader + "trap '' PIPE\n" + command + " >&3"), "Broken pipe");
  }
  EXPECT_EQ(shell("$P man | head -1 > /dev/null").err, "");
}

// The run's own failure comes first.
TEST_F(StandardOutput, DoesNotHideAnotherFailure) {
  EXPECT_EQ(shell("$P generate --steps 0 --json > /dev/full").exit_code, 2);
  EXPECT_EQ(shell("$P inspect nothere --json >&-").exit_code, 4);
}

}  // namespace
}  // namespace opensora
