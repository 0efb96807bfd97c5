// Batches through the program: what they make, and what is left when they are killed.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "support/batch_fixture.h"
#include "support/contains.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::ProgramOptions;
using test::ProgramResult;
using test::run_program;

class Batch : public test::BatchFixture {};

const char* const kTwelveVideos =
    "text,num_frames,steps,seed,name,neg,fps\n"
    "a red circle moving right on a blue background,17,8,1,one,,\n"
    "\"a green square, moving left\",5,6,\"2;3\",two,,\n"
    "a blue circle,1,5,4,pic,,\n"
    ",9,4,7,empty,,\n"
    "a yellow square moving right on a black background,5,3,5,three,blurry,\n"
    "a red circle moving right on a blue background,5,4,6,four,,12\n"
    "a white circle,9,2,8,five,,\n"
    "a white circle,9,2,9,six,dark,\n"
    "a green triangle moving left on a white background,13,5,10,seven,,\n"
    "a red square,5,10,11,eight,,\n"
    "a red square,5,2,12,nine,,24\n";

TEST_F(Batch, KilledTenTimesItEndsAsOneThatWasNot) {
  const fs::path prompts = folder_.write("p.csv", kTwelveVideos);
  ASSERT_EQ(run(prompts, "whole").exit_code, 0);
  const auto expected = files("whole");
  ASSERT_EQ(expected.size(), 12U);

  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  fs::create_directory(folder_.path() / "killed");
  for (int kill = 0; kill < 10; ++kill) {
    ProgramOptions options;
    const int after = std::uniform_int_distribution<int>(1, 24)(random);  // a run of one video has some ten events
    const fs::path events = folder_.path() / ("events-" + std::to_string(kill) + ".jsonl");
    options.meanwhile = [&](pid_t program) {
      test::wait_for_event(program, events, "", after);
      ::kill(program, SIGKILL);
    };
    run(prompts, "killed", {"--resume", "--events", events}, options);
  }
  const ProgramResult last = run(prompts, "killed", {"--resume"});
  EXPECT_EQ(last.exit_code, 0) << last.err;
  EXPECT_EQ(files("killed"), expected);

  for (const auto& [key, count] : how_often("killed", "video_sampled")) {
    EXPECT_EQ(count, 1) << key << " was sampled again after it had been saved";
  }
  const auto done = how_often("killed", "video_done");
  EXPECT_EQ(done.size(), 12U);
  for (const auto& [key, count] : done) EXPECT_EQ(count, 1) << key;
}

TEST_F(Batch, PlaceShardAndOverlapChangeNothing) {
  const fs::path prompts = folder_.write("p.csv",
                                         "text,num_frames,steps,seed,name\n"
                                         "a red circle,5,3,1,a\na blue square,9,2,2,b\na green circle,5,2,3,c\n");
  ASSERT_EQ(run(prompts, "whole").exit_code, 0);
  const auto expected = files("whole");
  ASSERT_EQ(expected.size(), 3U);
  ASSERT_EQ(run(prompts, "overlapped", {"--overlap", "on"}).exit_code, 0);
  EXPECT_EQ(files("overlapped"), expected);
  for (const char* shard : {"1/2", "2/2"}) ASSERT_EQ(run(prompts, "shards", {"--shard", shard}).exit_code, 0);
  EXPECT_EQ(files("shards"), expected);
  EXPECT_EQ(journal("shards", "run-2-of-2.jsonl").back()["done"], 1);
  const fs::path reversed = folder_.write("r.csv",
                                          "text,num_frames,steps,seed,name\n"
                                          "a green circle,5,2,3,c\na blue square,9,2,2,b\na red circle,5,3,1,a\n");
  ASSERT_EQ(run(reversed, "reversed").exit_code, 0);
  EXPECT_EQ(files("reversed"), expected);
}

TEST_F(Batch, DrawnSeedsSurvive) {
  const fs::path prompts = folder_.write("p.txt", "a red circle\na red circle\n");
  ASSERT_EQ(run(prompts, "out", {"--num-frames", "5", "--steps", "1"}).exit_code, 0);
  const auto before = files("out");
  ASSERT_EQ(before.size(), 2U);
  EXPECT_NE(before.begin()->second, before.rbegin()->second) << "equal rows are videos of their own";
  fs::remove(folder_.path() / "out" / before.begin()->first);
  ASSERT_EQ(run(prompts, "out", {"--num-frames", "5", "--steps", "1", "--resume"}).exit_code, 0);
  EXPECT_EQ(files("out"), before);
}

TEST_F(Batch, AFailureIsNotTheOthersBusiness) {
  folder_.write("bad.png", "this is no picture");
  const fs::path prompts =
      folder_.write("p.csv",
                    "text,ref,num_frames,steps,seed,name\n"
                    "a red circle,,5,1,1,a\na blue square,bad.png,5,1,2,b\na green circle,,5,1,3,c\n");
  const ProgramResult result = run(prompts, "out", {"--json"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_TRUE(contains(result.err, "p.csv:3"));
  const auto made = files("out");
  ASSERT_EQ(made.size(), 2U);
  EXPECT_TRUE(made.contains("a.mp4") && made.contains("c.mp4"));
  const auto lines = journal("out");
  const auto failed = std::find_if(lines.begin(), lines.end(),
                                   [](const nlohmann::json& line) { return line["event"] == "video_failed"; });
  ASSERT_NE(failed, lines.end());
  EXPECT_EQ((*failed)["code"], 9);
  EXPECT_EQ(lines.back()["failed"], 1);
  EXPECT_EQ(lines.back()["exit_code"], 3);

  EXPECT_EQ(run(prompts, "fast", {"--fail-fast"}).exit_code, 3);
  EXPECT_TRUE(files("fast").empty());
}

TEST_F(Batch, ASignalIsInTheJournalAndResumingEndsTheRun) {
  const fs::path prompts = folder_.write("p.txt", "a red circle\na blue square\n");
  ProgramOptions options;
  const fs::path events = folder_.path() / "events.jsonl";
  options.meanwhile = [&](pid_t program) {
    EXPECT_TRUE(test::wait_for_event(program, events, "step"));
    ::kill(program, SIGINT);
  };
  const std::vector<std::string> flags = {"--num-frames", "5",        "--steps", "150", "-s", "1",
                                          "--resume",     "--events", events};
  EXPECT_EQ(run(prompts, "out", flags, options).exit_code, 130);
  EXPECT_EQ(journal("out").back()["exit_code"], 130);
  EXPECT_EQ(run(prompts, "out", flags).exit_code, 0);
  EXPECT_EQ(files("out").size(), 2U);
}

TEST_F(Batch, FilesOfAFinishedRunAreNotWrittenOverByMistake) {
  const fs::path prompts = folder_.write("p.txt", "a red circle\n");
  const std::vector<std::string> flags = {"--num-frames", "1", "--steps", "1", "-s", "1"};
  ASSERT_EQ(run(prompts, "out", flags).exit_code, 0);
  const ProgramResult again = run(prompts, "out", flags);
  EXPECT_EQ(again.exit_code, 7);
  EXPECT_TRUE(contains(again.err, "--resume"));
  std::ofstream(folder_.path() / "out/run.jsonl", std::ios::app) << "{\"event\":\"vid";  // cut off by a crash
  std::vector<std::string> resume = flags;
  resume.emplace_back("--resume");
  EXPECT_EQ(run(prompts, "out", resume).exit_code, 0);
  std::ofstream(folder_.path() / "out/run.jsonl", std::ios::app) << "nonsense\n";
  const ProgramResult broken = run(prompts, "out", resume);
  EXPECT_EQ(broken.exit_code, 7);
  EXPECT_TRUE(contains(broken.err, "not a line of a journal"));
}

TEST_F(Batch, AVideoThatTakesTooLongFails) {
  const fs::path prompts = folder_.write("p.csv", "text,steps,name\na red circle,10000,slow\na red circle,1,quick\n");
  EXPECT_EQ(run(prompts, "out", {"--num-frames", "5", "--timeout", "1", "-s", "1"}).exit_code, 3);
  std::map<std::string, int>
      codes;  // of the videos that began and ended; on a busy machine the quick one too may be late
  for (const nlohmann::json& line : journal("out")) {
    if (line["event"] == "video_failed") codes[line["key"]] = line["code"];
    if (line["event"] == "video_done") codes[line["key"]] = 0;
  }
  ASSERT_EQ(codes.size(), 2U) << "the run went on";
  int late = 0;
  for (const auto& [key, code] : codes) {
    EXPECT_TRUE(code == 0 || code == 124) << key << ": " << code;
    if (code == 124) ++late;
  }
  EXPECT_EQ(files("out").size(), static_cast<size_t>(2 - late));
  EXPECT_GE(late, 1);
}

TEST_F(Batch, AllErrorsOfAFileAtOnceAndNothingIsWritten) {
  const fs::path prompts = folder_.write("p.csv",
                                         "\xEF\xBB\xBFtext,num_frames,steps,name\r\n"
                                         "\"a \"\"red\"\" circle, \xF0\x9F\x94\xB4\",five,1,a\r\n"
                                         "fine,5,1,b\r\n"
                                         "a blue square,6,1,c\r\n"
                                         "again,5,1,b\r\n");
  const ProgramResult result = run(prompts, "out");
  EXPECT_EQ(result.exit_code, 2);
  for (const char* line : {"p.csv:2: ", "p.csv:4: ", "p.csv:5: "}) EXPECT_TRUE(contains(result.err, line));
  EXPECT_FALSE(fs::exists(folder_.path() / "out"));
  const ProgramResult unknown = run(folder_.write("u.csv", "text,setps\nx,3\n"), "out");
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_TRUE(contains(unknown.err, "steps"));
  EXPECT_FALSE(fs::exists(folder_.path() / "out"));
}

}  // namespace
}  // namespace opensora
