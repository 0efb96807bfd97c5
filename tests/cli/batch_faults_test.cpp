// What the machine does to a batch: disks that are full or read-only, checkpoints that go away, memory that runs out.
// What can be finished is, the journal says what was not and why, and --resume makes the rest.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/batch_fixture.h"
#include "support/contains.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Arguments;
using test::contains;
using test::operator+;
using test::ProgramOptions;
using test::ProgramResult;

constexpr const char* kSixVideos =
    "text,num_frames,steps,seed,name\n"
    "a red circle moving right on a blue background,33,2,1,a\n"
    "a green square moving left on a white background,33,2,2,b\n"
    "a yellow triangle moving right on a black background,33,2,3,c\n"
    "a purple circle moving up on a gray background,33,2,4,d\n"
    "an orange square moving down on a white background,33,2,5,e\n"
    "a blue triangle moving left on a black background,33,2,6,f\n";

// A file system in memory of so many bytes; unmounted at the end.
class SmallDisk {
 public:
  explicit SmallDisk(const fs::path& folder) : folder_(folder) { fs::create_directories(folder); }
  ~SmallDisk() {
    if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  // False where this process may not.
  bool mount(const std::string& options, unsigned long flags = 0) {
    return mounted_ = ::mount("tmpfs", folder_.c_str(), "tmpfs", flags, options.c_str()) == 0;
  }
  bool grow(const std::string& options) const {
    return ::mount("tmpfs", folder_.c_str(), "tmpfs", MS_REMOUNT, options.c_str()) == 0;
  }

 private:
  fs::path folder_;
  bool mounted_ = false;
};

class BatchFaults : public test::BatchFixture {
 protected:
  // A copy of the demo model that may be damaged.
  fs::path copy_model() const {
    fs::copy(fs::path(OPENSORA_CONFIGS) / "demo", folder_.path() / "model", fs::copy_options::recursive);
    return folder_.path() / "model";
  }

  std::vector<json> failures(const std::string& output) const {
    std::vector<json> lines = journal(output);
    std::erase_if(lines, [](const json& line) { return line["event"] != "video_failed"; });
    return lines;
  }

  void expect_each_sampled_once(const std::string& output, size_t videos) const {
    const auto sampled = how_often(output, "video_sampled");
    EXPECT_EQ(sampled.size(), videos);
    for (const auto& [key, count] : sampled) EXPECT_EQ(count, 1) << key;
  }

  bool has_partial_files(const std::string& output) const {
    const auto all = files(output);
    return std::any_of(all.begin(), all.end(), [](const auto& file) { return file.first.ends_with(".part"); });
  }
};

TEST_F(BatchFaults, AFullDisk) {
  const fs::path prompts = folder_.write("p.csv", kSixVideos);
  ASSERT_EQ(run(prompts, "whole", {"--output-size", "64x64"}).exit_code, 0);
  const auto expected = files("whole");
  ASSERT_EQ(expected.size(), 6U);
  SmallDisk disk(folder_.path() / "out");
  // Of it, the journal sets 56 KiB aside; a latent takes 36 KiB while it is there, a video 8 KiB of pages.
  if (!disk.mount("size=128k")) GTEST_SKIP() << "only root may mount a small disk";
  const ProgramResult full = run(prompts, "out", {"--output-size", "64x64"});
  EXPECT_EQ(full.exit_code, 3) << full.err;
  EXPECT_TRUE(contains(full.err, "No space left") || contains(full.err, "disk is full"));
  const std::vector<json> failed = failures("out");
  const size_t done = how_often("out", "video_done").size();
  EXPECT_GT(done, 0U) << "what fitted was not finished";
  EXPECT_EQ(done + failed.size(), 6U);
  ASSERT_FALSE(failed.empty());
  for (const json& line : failed) EXPECT_EQ(line["code"], 7) << line;
  EXPECT_EQ(journal("out").back()["exit_code"], 3);
  EXPECT_FALSE(has_partial_files("out"));
  for (const auto& [name, content] : files("out")) {
    if (expected.contains(name)) EXPECT_EQ(content, expected.at(name)) << name << " is broken";
  }

  ASSERT_TRUE(disk.grow("size=64m"));
  const ProgramResult resumed = run(prompts, "out", {"--output-size", "64x64", "--resume"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_EQ(files("out"), expected);
  for (const auto& [key, count] : how_often("out", "video_sampled")) EXPECT_EQ(count, 1) << key;
}

TEST_F(BatchFaults, AReadOnlyFolder) {
  const fs::path prompts = folder_.write("p.csv", kSixVideos);
  SmallDisk disk(folder_.path() / "out");
  if (!disk.mount("size=64k", MS_RDONLY)) GTEST_SKIP() << "only root may mount a read-only disk";
  const ProgramResult result = run(prompts, "out");
  EXPECT_EQ(result.exit_code, 7);
  EXPECT_TRUE(contains(result.err, (folder_.path() / "out").string()));
  EXPECT_TRUE(contains(result.err, "Read-only file system"));
  EXPECT_FALSE(contains(result.err, "denoise")) << "it was found out too late";
}

TEST_F(BatchFaults, ADecoderThatIsDeletedCostsNoSampling) {
  const fs::path prompts = folder_.write("p.txt", "a\nb\nc\nd\ne\nf\n"), model = copy_model();
  const Arguments flags = {"--num-frames", "5", "--steps", "2", "-s", "1"},
                  damaged = flags + Arguments{"--model-dir", model};
  ASSERT_EQ(run(prompts, "whole", flags).exit_code, 0);
  const fs::path vae = model / "hunyuan_vae.safetensors", away = folder_.path() / "vae";
  ProgramOptions options;
  options.meanwhile = [&](pid_t program) {
    EXPECT_TRUE(test::wait_for_event(program, folder_.path() / "out/run.jsonl", "video_started"));
    fs::rename(vae, away);
  };
  const ProgramResult result = run(prompts, "out", damaged, options);
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_TRUE(contains(result.err, "hunyuan_vae"));
  const std::vector<json> failed = failures("out");
  ASSERT_EQ(failed.size(), 6U);
  for (const json& line : failed) {
    EXPECT_EQ(line["code"], 4) << line;
    EXPECT_TRUE(fs::exists(line.value("latent", "none"))) << line;
  }
  fs::rename(away, vae);
  EXPECT_EQ(run(prompts, "out", damaged + Arguments{"--resume"}).exit_code, 0);
  EXPECT_EQ(files("out"), files("whole"));
  expect_each_sampled_once("out", 6);
}

// The first video's frames are no numbers, and it fails while the second is being sampled.
TEST_F(BatchFaults, FailFastEndsASamplingThatIsUnderWay) {
  const fs::path prompts =
      folder_.write("p.csv", "text,num_frames,steps,seed,name\na red circle,5,1,1,a\na blue square,5,5000,2,b\n");
  const fs::path model = copy_model();
  std::fstream decoder(model / "hunyuan_vae.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  const std::string not_numbers(size_t{64} << 10, '\xFF');
  decoder.seekp(-static_cast<std::streamoff>(not_numbers.size()), std::ios::end);
  decoder << not_numbers << std::flush;
  const ProgramResult result = run(prompts, "out", {"--model-dir", model, "--overlap", "on", "--fail-fast"});
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_TRUE(contains(result.err, "1 of 2 videos failed, 1 were not made")) << result.err;
  const std::vector<json> failed = failures("out");
  ASSERT_EQ(failed.size(), 1U);
  EXPECT_EQ(failed.front()["code"], 10);
  EXPECT_EQ(how_often("out", "video_started").size(), 2U);
  EXPECT_EQ(journal("out").back()["not_run"], 1);
}

TEST_F(BatchFaults, ATransformerThatIsTruncatedIsNamed) {
  const fs::path prompts = folder_.write("p.txt", "a red circle\na blue square\n"), model = copy_model();
  const fs::path file = model / "Open_Sora_v2.safetensors";
  const std::string whole = test::read_file(file);
  const fs::path events = folder_.path() / "events.jsonl";
  const std::vector<std::string> flags = {"--model-dir", model, "--num-frames", "5",   "--steps", "150",
                                          "-s",          "1",   "--events",     events};
  ProgramOptions options;
  options.meanwhile = [&](pid_t program) {
    EXPECT_TRUE(test::wait_for_event(program, events, "step"));
    fs::resize_file(file, whole.size() / 8);
  };
  const ProgramResult result = run(prompts, "out", flags, options);
  EXPECT_EQ(result.exit_code, 4) << result.err;
  EXPECT_TRUE(contains(result.err, file.string() + ": was truncated"));
  const json last = journal("out").back();
  EXPECT_EQ(last["event"], "fault");
  EXPECT_EQ(last["file"], file.string());
  EXPECT_TRUE(contains(test::read_file(events), "\"event\":\"fault\""));
  EXPECT_FALSE(has_partial_files("out"));

  std::vector<std::string> resume = flags;
  resume.emplace_back("--resume");
  EXPECT_EQ(run(prompts, "out", resume).exit_code, 4) << "a truncated checkpoint must be refused before the run";
  folder_.write("model/Open_Sora_v2.safetensors", whole);
  EXPECT_EQ(run(prompts, "out", resume).exit_code, 0);
  EXPECT_EQ(files("out").size(), 2U);
  expect_each_sampled_once("out", 2);
}

TEST_F(BatchFaults, ARowThatRunsOutOfMemory) {
  const fs::path prompts = folder_.write("p.csv",
                                         "text,num_frames,width,height,vae_tiling,steps,seed,name\n"
                                         "a red circle,5,64,64,no,1,1,small\n"
                                         "a red circle,17,320,320,no,1,2,large\n"
                                         "a blue square,5,64,64,no,1,3,other\n");
  ProgramOptions options;
  options.max_address_space = 1000L << 20;  // enough to denoise all of them
  const fs::path events = folder_.path() / "events.jsonl";
  const ProgramResult result = run(prompts, "out", {"--events", events}, options);
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_TRUE(contains(result.err, "p.csv:3: "));
  const auto made = files("out");
  EXPECT_TRUE(made.contains("small.mp4") && made.contains("other.mp4") && !made.contains("large.mp4"));
  EXPECT_TRUE(made.contains("large.latent.safetensors")) << "a sampling was lost";
  const std::vector<json> failed = failures("out");
  ASSERT_EQ(failed.size(), 1U);
  EXPECT_EQ(failed.front()["code"], 6);
  const std::string told = test::read_file(events);
  const size_t at = told.find("\"event\":\"out_of_memory\"");
  ASSERT_NE(at, std::string::npos);
  EXPECT_TRUE(contains(told.substr(at, told.find('\n', at) - at), "\"flags\":[\"--vae-tiling"));

  EXPECT_EQ(run(prompts, "out", {"--resume"}).exit_code, 0);
  EXPECT_TRUE(files("out").contains("large.mp4"));
  expect_each_sampled_once("out", 3);
}

}  // namespace
}  // namespace opensora
