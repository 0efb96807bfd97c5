// tests/data/earlier: a finished batch of the demo model, written by commit 1da7c24 (version 0.1.0) with
// `generate --prompts-file prompts.csv --output-dir videos --device cpu --dtype fp32 --steps 2 --output-size none`.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "opensora/video.h"
#include "support/program.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;

class EarlierRun : public ::testing::Test {
 protected:
  EarlierRun() { fs::copy(fs::path(OPENSORA_TEST_DATA) / "earlier", folder_.path(), fs::copy_options::recursive); }

  std::vector<nlohmann::json> generate(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"generate", "-q", "--threads", "1", "--device", "cpu", "--json"});
    const test::ProgramResult result = test::run_program(arguments, {.folder = folder_.path()});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    std::istringstream lines(result.out);
    std::vector<nlohmann::json> objects;
    for (std::string line; std::getline(lines, line);) objects.push_back(nlohmann::json::parse(line));
    return objects;
  }

  test::TemporaryFolder folder_;
};

TEST_F(EarlierRun, IsFinishedForResume) {
  const auto videos = generate({"--prompts-file", "prompts.csv", "--output-dir", "videos", "--resume", "--dtype",
                                "fp32", "--steps", "2", "--output-size", "none"});
  ASSERT_EQ(videos.size(), 3U);
  for (const nlohmann::json& video : videos) EXPECT_EQ(video["state"], "skipped") << video["output"];
}

TEST_F(EarlierRun, IsMadeAgainWithTheSameDocument) {
  for (const char* name : {"circle-0", "circle-1", "square-0"}) {
    SCOPED_TRACE(name);
    const std::string video = std::string("videos/") + name + ".mp4";
    ASSERT_EQ(generate({"--from", video, "-o", "again.mp4", "--overwrite"}).size(), 1U);
    EXPECT_EQ(read_video_info(folder_.path() / "again.mp4").comment, read_video_info(folder_.path() / video).comment);
  }
}

}  // namespace
}  // namespace opensora
