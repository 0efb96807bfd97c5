// `opensora generate` as its users run it, in a folder of its own.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "support/program.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora::test {

class GenerateCommand : public ::testing::Test {
 protected:
  // A quick run on the reference checkpoint: five frames of 32x32 in one step.
  std::vector<std::string> quick(const std::string& output = "out.mp4") const {
    return {"generate",
            "--model-dir",
            checkpoint_dir(),
            "--config",
            checkpoint_dir() / "tiny.json",
            "-p",
            "rain",
            "-W",
            "32",
            "-H",
            "32",
            "--num-frames",
            "5",
            "--steps",
            "1",
            "-s",
            "1",
            "--device",
            "cpu",
            "-o",
            folder_.path() / output};
  }

  // Runs and expects failure: this exit code, one error line that holds all of `words`, and no file left behind.
  void expect_error(const std::vector<std::string>& arguments, int exit_code, const std::vector<std::string>& words,
                    const ProgramOptions& options = {}) const {
    const std::vector<std::filesystem::path> before = files();
    const ProgramResult result = run_program(arguments, options);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_EQ(result.out, "");
    const std::string mark = "opensora: error: ";
    const size_t at = result.err.find(mark);
    ASSERT_NE(at, std::string::npos) << result.err;
    const std::string message = result.err.substr(at + mark.size());
    EXPECT_EQ(message.find(mark), std::string::npos) << "two errors: " << result.err;
    for (const std::string& word : words) EXPECT_NE(message.find(word), std::string::npos) << word << " in " << message;
    EXPECT_EQ(files(), before) << "a failed run left something behind";
  }

  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path())) {
      found.push_back(entry.path());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  // A copy of the reference checkpoint that a test may damage.
  std::filesystem::path copy_of_checkpoint() const {
    const std::filesystem::path copy = folder_.path() / "ckpts";
    std::filesystem::copy(checkpoint_dir(), copy, std::filesystem::copy_options::recursive);
    return copy;
  }
  std::vector<std::string> quick_with(const std::filesystem::path& model_dir) const {
    std::vector<std::string> arguments = quick();
    arguments[2] = model_dir;
    return arguments;
  }

  TemporaryFolder folder_;
};

}  // namespace opensora::test
