// Several runs one after the other: in one folder, in none, after a version before this one, and how each ends.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "support/batch_fixture.h"
#include "support/contains.h"
#include "support/read_video.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::contains;
using test::ProgramOptions;
using test::ProgramResult;
using test::read_file;
using test::run_program;

class BatchRuns : public test::BatchFixture {
 protected:
  // generate in the test's folder: one step of the demo model, one frame.
  ProgramResult generate(std::vector<std::string> flags, ProgramOptions options = {}) const {
    return bare(
        [&] {
          flags.insert(flags.end(), {"--num-frames", "1", "--steps", "1"});
          return flags;
        }(),
        std::move(options));
  }

  ProgramResult bare(std::vector<std::string> flags, ProgramOptions options = {}) const {
    options.folder = folder_.path();
    flags.insert(flags.begin(), "generate");
    flags.insert(flags.end(), {"--device", "cpu", "--threads", "1"});
    return run_program(flags, options);
  }

  // The exit code that the last event says.
  int told_exit_code() const {
    std::ifstream stream(folder_.path() / "events");
    json last;
    for (std::string line; std::getline(stream, line);) last = json::parse(line);
    EXPECT_EQ(last.value("event", ""), "run_finished");
    return last.value("exit_code", -1);
  }

  std::set<std::string> names(const fs::path& folder = {}) const {
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder_.path() / folder)) found.insert(entry.path().filename());
    return found;
  }

  void copy_earlier_run() const {
    fs::copy(fs::path(OPENSORA_TEST_DATA) / "cases/earlier_version", folder_.path(), fs::copy_options::recursive);
    fs::create_directory_symlink(fs::path(OPENSORA_TEST_DATA) / "reference/ckpts", folder_.path() / "ckpts");
  }
};

const std::vector<std::string> kEarlierFlags = {
    "--model-dir", "ckpts",   "--config", "ckpts/tiny.json", "-W",          "32",           "-H",
    "32",          "--dtype", "fp32",     "--prompts-file",  "prompts.csv", "--output-dir", "videos"};

std::vector<std::string> with(std::vector<std::string> flags, const std::vector<std::string>& more) {
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

TEST_F(BatchRuns, ARunOfAnEarlierVersionIsResumed) {
  copy_earlier_run();
  const std::string first = read_file(folder_.path() / "videos/first.mp4");
  EXPECT_EQ(bare(kEarlierFlags).exit_code, 7) << "it is not finished";
  const ProgramResult result = bare(with(kEarlierFlags, {"--resume", "--json"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::vector<std::string> states;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);) states.push_back(json::parse(line)["state"]);
  EXPECT_EQ(states, (std::vector<std::string>{"skipped", "skipped", "done"}));
  EXPECT_EQ(read_file(folder_.path() / "videos/first.mp4"), first);
  EXPECT_EQ(names("videos"), (std::set<std::string>{"first.mp4", "second.png", "third.mp4", "run.jsonl"}));
  for (const auto& [key, count] : how_often("videos", "video_sampled")) EXPECT_EQ(count, 1) << key;
  EXPECT_EQ(how_often("videos", "video_done").size(), 3U);
}

TEST_F(BatchRuns, AVideoOfAnEarlierVersionIsMadeAgainFromItself) {
  copy_earlier_run();
  const ProgramResult result = bare({"--from", "videos/first.mp4", "-o", "again.mp4", "--model-dir", "ckpts"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const test::DecodedVideo before = test::read_video(folder_.path() / "videos/first.mp4");
  const test::DecodedVideo again = test::read_video(folder_.path() / "again.mp4");
  ASSERT_EQ(again.frames.size(), 5U);
  ASSERT_EQ(again.frames.size(), before.frames.size());
  for (size_t t = 0; t < again.frames.size(); ++t) {
    const auto &a = before.frames[t].rgb, &b = again.frames[t].rgb;
    ASSERT_EQ(a.size(), b.size());
    double difference = 0;
    for (size_t i = 0; i < a.size(); ++i) difference += std::abs(int{a[i]} - int{b[i]});
    EXPECT_LT(difference / static_cast<double>(a.size()), 2) << "levels of 255 in frame " << t;
  }
}

TEST_F(BatchRuns, OneAfterTheOtherInOneFolderAsTheReadmeHasThem) {
  folder_.write("prompts.csv", "text,ref,num_frames,t2i2v,name\n\"raining, \"\"sea\"\"\",,1,,sea\na ship,,1,no,ship\n");
  const std::vector<std::string> file = {"--prompts-file", "prompts.csv", "--output-dir", "videos"};
  const std::vector<std::string> seeds = {"-p", "raining, sea", "--output-dir", "videos", "--seed", "1,2,3"};
  EXPECT_EQ(generate(file).exit_code, 0);
  EXPECT_EQ(generate(with(file, {"--resume"})).exit_code, 0);
  EXPECT_EQ(generate(seeds).exit_code, 0);
  EXPECT_EQ(generate({"-p", "raining, sea", "--output-dir", "videos", "--num-samples", "5", "--name-template",
                      "{prompt}-{sample}"})
                .exit_code,
            0);
  const auto made = files("videos");
  EXPECT_EQ(made.size(), 10U);
  const ProgramResult again = generate(seeds);
  EXPECT_EQ(again.exit_code, 7);
  EXPECT_TRUE(contains(again.err, "00001-raining-sea-0.png exists; give --resume"));
  const ProgramResult resumed = generate(with(file, {"--resume", "--json"}));
  EXPECT_EQ(resumed.exit_code, 0) << "the first run's videos are known still: " << resumed.err;
  EXPECT_TRUE(contains(resumed.out, "\"skipped\"")) << resumed.out;
  EXPECT_FALSE(contains(resumed.out, "\"done\""));
  EXPECT_EQ(files("videos"), made);

  // A row that changes is made again, but not over what another run has finished.
  folder_.write("prompts.csv", "text,num_frames,name\na storm,1,sea\na ship,1,00001-raining-sea-0\n");
  const ProgramResult taken = generate(with(file, {"--resume"}));
  EXPECT_EQ(taken.exit_code, 7);
  EXPECT_TRUE(contains(taken.err, "00001-raining-sea-0.png exists and is not of this run"));
  EXPECT_EQ(files("videos"), made);
}

TEST_F(BatchRuns, AnUnfinishedRunIsNotPassedOver) {
  folder_.write("bad.png", "no picture");
  folder_.write("p.csv", "text,ref,name,num_frames\na,bad.png,x,5\nb,,y,1\n");
  ASSERT_EQ(generate({"--prompts-file", "p.csv", "--output-dir", "videos"}).exit_code, 3);
  const std::string journal = read_file(folder_.path() / "videos/run.jsonl");
  const ProgramResult other = generate({"-p", "c", "-s", "1,2", "--output-dir", "videos"});
  EXPECT_EQ(other.exit_code, 7);
  EXPECT_TRUE(contains(other.err, "videos/run.jsonl: the run in this folder has not made all its videos; --resume"));
  EXPECT_EQ(read_file(folder_.path() / "videos/run.jsonl"), journal);
  EXPECT_EQ(generate({"-p", "c", "-s", "1,2", "--output-dir", "videos", "--overwrite"}).exit_code, 0);
  EXPECT_EQ(read_file(folder_.path() / "videos/run.jsonl").substr(0, journal.size()), journal)
      << "nothing is forgotten";
  EXPECT_EQ(generate({"-p", "c", "-s", "3,4", "--output-dir", "videos", "--name-template", "{seed}"}).exit_code, 0);
}

TEST_F(BatchRuns, WithoutAFolderEachRunHasItsOwn) {
  folder_.write("sub/list.txt", "a\nb\n");
  EXPECT_EQ(generate({"-p", "a red circle", "-s", "1,2"}).exit_code, 0);
  EXPECT_EQ(generate({"-p", "a red circle", "-s", "1,2"}).exit_code, 0);
  EXPECT_EQ(generate({"-p", "a red circle", "--num-samples", "2"}).exit_code, 0);
  EXPECT_EQ(generate({"--prompts-file", "sub/list.txt"}).exit_code, 0);
  EXPECT_EQ(names(), (std::set<std::string>{"sub", "a-red-circle", "a-red-circle-2", "a-red-circle-3", "list"}));
  EXPECT_EQ(names("list"), (std::set<std::string>{"00001-a.png", "00002-b.png", "run.jsonl"}));
  EXPECT_EQ(files("a-red-circle"), files("a-red-circle-2"));
  fs::remove(folder_.path() / "list/00001-a.png");
  EXPECT_EQ(generate({"--prompts-file", "sub/list.txt", "--resume"}).exit_code, 0);
  EXPECT_EQ(names("list").size(), 3U);
  const ProgramResult none = generate({"-p", "another", "-s", "1,2", "--resume"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_TRUE(contains(none.err, "--resume needs --output-dir"));
  EXPECT_EQ(generate({"-p", "a", "--shard", "2/2"}).exit_code, 2);
}

TEST_F(BatchRuns, NothingIsLeftOfARunThatDoesNotBegin) {
  folder_.write("p.txt", "a\nb\n");
  EXPECT_EQ(generate({"--prompts-file", "p.txt", "--name-template", "same"}).exit_code, 2);
  EXPECT_EQ(names(), std::set<std::string>{"p.txt"});
  EXPECT_EQ(generate({"--prompts-file", "p.txt", "--name-template", "same", "--output-dir", "out"}).exit_code, 2);
  EXPECT_EQ(names(), std::set<std::string>{"p.txt"});
}

TEST_F(BatchRuns, FilesOfOneVideoAreRefusedWithSeveral) {
  folder_.write("two.txt", "a\nb\n");
  folder_.write("one.txt", "a\n");
  folder_.write("seeds.csv", "text,seed\na,1;2\n");
  const auto before = names();
  const std::vector<std::vector<std::string>> several = {{"-p", "a", "--seed", "1,2"},
                                                         {"-p", "a", "--num-samples", "2"},
                                                         {"--prompts-file", "two.txt"},
                                                         {"--prompts-file", "seeds.csv"},
                                                         {"--prompts-file", "two.txt", "--dry-run"},
                                                         {"-p", "a", "-s", "1,2", "--print-config"}};
  for (const auto& flags : several) {
    const ProgramResult result = generate(with(flags, {"-o", "s.png"}));
    EXPECT_EQ(result.exit_code, 2) << flags.back();
    EXPECT_TRUE(contains(result.err, "-o s.png: is for one video, and 2 are to be made; give --output-dir"));
  }
  for (const char* flag : {"--save-tensors", "--contact-sheet", "--save-frames"}) {
    const ProgramResult result = generate({"-p", "a", "-s", "1,2", "--output-dir", "out", flag, "x.png"});
    EXPECT_EQ(result.exit_code, 2) << flag;
    EXPECT_TRUE(contains(result.err, std::string(flag) + " x.png: is for one video"));
  }
  for (const char* flag : {"--output-dir", "--name-template"}) {
    const ProgramResult result = generate({"-p", "a", "-o", "s.png", flag, "d"});
    EXPECT_EQ(result.exit_code, 2) << flag;
    EXPECT_TRUE(contains(result.err, std::string("-o s.png: excludes ") + flag));
  }
  EXPECT_EQ(names(), before) << "nothing was made";

  const ProgramResult one = generate({"--prompts-file", "one.txt", "-o", "s.png", "-s", "1"});
  EXPECT_EQ(one.exit_code, 0) << one.err;
  EXPECT_EQ(one.out, "s.png\n");
  EXPECT_EQ(generate({"-p", "a", "-s", "1", "--name-template", "{prompt}-{seed}"}).out, "a-1.png\n");
  EXPECT_EQ(generate({"-p", "a", "-s", "1", "--output-dir", "out", "--contact-sheet", "c.png"}).exit_code, 0);
  EXPECT_TRUE(fs::exists(folder_.path() / "c.png"));
}

std::vector<uint64_t> seeds_of(const std::vector<json>& journal) {
  std::vector<uint64_t> seeds;
  for (const json& line : journal) {
    if (line["event"] == "video_planned") seeds.push_back(line["seed"]);
  }
  return seeds;
}

TEST_F(BatchRuns, SamplesHaveSeedsInARow) {
  folder_.write("p.txt", "a\nb\n");
  ASSERT_EQ(generate({"--prompts-file", "p.txt", "--num-samples", "3", "--output-dir", "out"}).exit_code, 0);
  const std::vector<uint64_t> seeds = seeds_of(journal("out"));
  ASSERT_EQ(seeds.size(), 6U);
  for (const size_t i : {0, 1, 3, 4}) EXPECT_EQ(seeds[i + 1], seeds[i] + 1);
  EXPECT_NE(seeds[3], seeds[0]) << "a random seed a row";
  // A crash before all were written down, and one sample more: what follows from the first stays so.
  std::istringstream lines(read_file(folder_.path() / "out/run.jsonl"));
  std::string line, kept;
  for (int i = 0; i < 3 && std::getline(lines, line); ++i) kept += line + "\n";
  fs::remove_all(folder_.path() / "out");
  folder_.write("out/run.jsonl", kept);
  folder_.write("p.txt", "a\n");
  ASSERT_EQ(generate({"--prompts-file", "p.txt", "--num-samples", "4", "--output-dir", "out", "--resume"}).exit_code,
            0);
  const std::vector<uint64_t> resumed = seeds_of(journal("out"));
  ASSERT_EQ(resumed.size(), 4U);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(resumed[i], seeds[0] + i);
  const ProgramResult last = generate({"-p", "a", "-s", "18446744073709551615", "--num-samples", "2"});
  EXPECT_EQ(last.exit_code, 2);
  EXPECT_TRUE(contains(last.err, "goes beyond the last seed"));
}

TEST_F(BatchRuns, TheLastEventHasTheExitCode) {
  folder_.write("bad.png", "no picture");
  folder_.write("wrong.csv", "text,steps\na,many\n");
  folder_.write("there.png", "x");
  folder_.write("p.csv", "text,ref,name,num_frames\na,bad.png,x,5\nb,,y,1\n");
  const std::vector<std::pair<int, std::vector<std::string>>> runs = {
      {0, {"-p", "a", "-o", "a.png"}},
      {9, {"-p", "a", "-i", "bad.png", "-o", "b.mp4", "--num-frames", "5"}},
      {3, {"-p", "a", "-i", "bad.png", "--output-dir", "one", "--num-frames", "5"}},
      {3, {"--prompts-file", "p.csv", "--output-dir", "two"}},
      {7, {"--prompts-file", "p.csv", "--output-dir", "two"}},
      {3, {"--prompts-file", "p.csv", "--output-dir", "two", "--resume"}},
      {7, {"-p", "a", "-o", "there.png"}},
      {7, {"-p", "a", "-o", "none/a.png"}},
      {4, {"-p", "a", "--vae", "none.safetensors"}},
      {2, {"--prompts-file", "wrong.csv"}},
      {2, {"-p", "a", "-s", "1,2", "-o", "a.png"}},
      {2, {"-p", "a", "--num-frames", "6"}},
      {124, {"-p", "a", "-o", "c.mp4", "--num-frames", "5", "--steps", "10000", "--timeout", "0.2"}}};
  for (const auto& [code, flags] : runs) {
    SCOPED_TRACE(testing::PrintToString(flags));
    const bool has_steps = std::find(flags.begin(), flags.end(), "--num-frames") != flags.end();
    const auto all = with(flags, {"--events", "events"});
    fs::remove(folder_.path() / "events");
    const ProgramResult result = has_steps ? bare(all) : generate(all);
    EXPECT_EQ(result.exit_code, code) << result.err;
    EXPECT_EQ(told_exit_code(), code);
  }
  for (const int signal : {SIGINT, SIGTERM}) {
    ProgramOptions options;
    options.meanwhile = [&](pid_t program) {
      EXPECT_TRUE(test::wait_for_event(program, folder_.path() / "events", "step"));
      ::kill(program, signal);
    };
    fs::remove(folder_.path() / "events");
    const ProgramResult result =
        bare({"-p", "a", "-o", "d.mp4", "--num-frames", "5", "--steps", "10000", "--events", "events"}, options);
    EXPECT_EQ(result.exit_code, 128 + signal);
    EXPECT_EQ(told_exit_code(), 128 + signal);
  }
}

TEST_F(BatchRuns, AJournalThatIsNoneIsNamedWithItsLine) {
  const std::string started =
      R"({"schema_version":1,"event":"run_started","time":"2026-11-26T14:40:06.339Z","version":"0.1.0","videos":1,"resume":false,"shard":"1/1","device":"cpu"})"
      "\n";
  const std::vector<std::string> flags = {"-p", "a", "-s", "1", "--output-dir", "out"};
  const std::vector<std::pair<int, std::string>> journals = {
      {1, read_file(fs::path(OPENSORA_TEST_DATA) / "cases/run-no-seed.jsonl")},
      {1, read_file(fs::path(OPENSORA_TEST_DATA) / "cases/run-event-number.jsonl")},
      {2, started + "\n"},
      {2, started + R"({"schema_version":2,"event":"run_paused"})"
                    "\n"},
      {3, started + started + "{\"event\":{\"a\":[[[1]]]}}\n" + started},
      {2, started + "\"caf\xC3\"\n"},
      {2, started + std::string(40, '\0') + "\n"},
      {1, "my notes"},
      {2, started + "my notes"}};
  for (const auto& [line, text] : journals) {
    SCOPED_TRACE(text);
    folder_.write("out/run.jsonl", text);
    for (const bool resume : {true, false}) {
      const ProgramResult result = generate(resume ? with(flags, {"--resume"}) : flags);
      EXPECT_EQ(result.exit_code, 7);
      EXPECT_TRUE(contains(result.err, "out/run.jsonl:" + std::to_string(line) + ": not a line of a journal"));
      EXPECT_FALSE(contains(result.err, "json.exception"));
    }
    EXPECT_EQ(read_file(folder_.path() / "out/run.jsonl"), text);
  }
  for (const std::string& torn :
       std::vector<std::string>{"{", started.substr(0, 60), "{\"a\":\"\xC3", std::string(9, '\0')}) {
    fs::remove_all(folder_.path() / "out");
    folder_.write("out/run.jsonl", started + torn);
    EXPECT_EQ(generate(with(flags, {"--resume"})).exit_code, 0) << testing::PrintToString(torn);
  }
  folder_.write("out/run.jsonl", "my notes\n");
  EXPECT_EQ(generate(with(flags, {"--overwrite"})).exit_code, 0) << "it was said that it may go";
  fs::remove_all(folder_.path() / "out");
  fs::create_directory(folder_.path() / "out");
  ASSERT_EQ(::mkfifo((folder_.path() / "out/run.jsonl").c_str(), 0600), 0);
  EXPECT_EQ(generate(flags).exit_code, 7);
  fs::remove(folder_.path() / "out/run.jsonl");
  fs::create_directory(folder_.path() / "out/run.jsonl");
  EXPECT_EQ(generate(flags).exit_code, 7);
}

TEST_F(BatchRuns, PromptsFilesOfOtherPrograms) {
  const fs::path cases = fs::path(OPENSORA_TEST_DATA) / "cases";
  const auto videos = [&](const fs::path& file) {
    const ProgramResult result = generate({"--prompts-file", file, "--dry-run", "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return std::count(result.out.begin(), result.out.end(), '\n');
  };
  EXPECT_EQ(videos(cases / "blank_rows.csv"), 1);
  EXPECT_EQ(videos(cases / "mac_lines.txt"), 2);
  EXPECT_EQ(videos(cases / "semicolon.csv"), 1);
  const ProgramResult space = generate({"--prompts-file", cases / "space_before_quote.csv"});
  EXPECT_EQ(space.exit_code, 2);
  EXPECT_TRUE(contains(space.err, "space_before_quote.csv:2: a space stands in front of an opening quote"));
  // One slip, one line: the first says how many there are.
  for (const char* text : {"promt,seed\na,1\n", "text,seed\na\n", "text\n\"a\n", "text\ncaf\xE9\n",
                           "{\"promt\": \"a\"}", "text,steps\na,30000000000\n"}) {
    const ProgramResult result = generate({"--prompts-file", folder_.write(*text == '{' ? "p.jsonl" : "p.csv", text)});
    EXPECT_EQ(result.exit_code, 2) << text;
    EXPECT_TRUE(contains(result.err, ": 1 error, nothing was made")) << text;
  }
}

}  // namespace
}  // namespace opensora
