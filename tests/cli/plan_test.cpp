// opensora plan and generate --dry-run: the figures against a run's, the verdict, and that nothing is written.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/contains.h"
#include "support/program.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using test::Arguments;

test::ProgramResult run(const std::string& command, Arguments arguments, const test::ProgramOptions& options = {}) {
  arguments.insert(arguments.begin(), {command, "--model-dir", std::string(OPENSORA_CONFIGS) + "/demo", "-p",
                                       "a red circle", "--device", "cpu", "--seed", "1", "-q"});
  return test::run_program(arguments, options);
}

nlohmann::json run_json(const std::string& command, Arguments arguments, const test::ProgramOptions& options = {}) {
  arguments.emplace_back("--json");
  const test::ProgramResult result = run(command, std::move(arguments), options);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return nlohmann::json::parse(result.out);
}

class PlannedMemory : public ::testing::TestWithParam<const char*> {};

TEST_P(PlannedMemory, IsNearTheMeasured) {
  const test::TemporaryFolder folder;
  const Arguments flags = {"-W", GetParam(), "-H", GetParam(), "--num-frames",
                           "17", "--steps",  "1",  "-o",       folder.path() / "out.mp4"};
  // Started anew: a copy of this process begins with fewer of the libraries' pages than the program has.
  const test::ProgramOptions program{.starts_anew = true};
  const double planned = run_json("plan", flags, program)["peak_memory_bytes"];
  const double measured = run_json("generate", flags, program)["peak_memory_bytes"];
  // Which pages of the libraries are resident, and what the kernels of its instruction set keep for themselves, is the
  // machine's affair, and at these sizes much of the whole.
  constexpr double kMachines = 48 << 20;
  EXPECT_NEAR(planned, measured, 0.15 * measured + kMachines);
}
INSTANTIATE_TEST_SUITE_P(Sizes, PlannedMemory, ::testing::Values("64", "128", "192"),
                         [](const auto& info) { return std::string("Size") + info.param; });

TEST(Plan, ListsTheStagesOfTheRun) {
  const nlohmann::json plan = run_json("plan", {"--steps", "30", "-o", "/tmp/none.mp4", "--overwrite"});
  std::vector<std::string> stages;
  for (const auto& stage : plan["stages"]) stages.push_back(stage["stage"]);
  EXPECT_EQ(stages, (std::vector<std::string>{"text", "text", "denoise", "decode", "write"}));
  EXPECT_EQ(plan["stages"][2]["forwards"], 50);  // text guidance oscillates from step 10 on
  EXPECT_EQ(plan["frames"], 33);
  EXPECT_TRUE(plan["memory"]["fits"]);
}

TEST(Plan, NamesFlagsThatFit) {
  const nlohmann::json plan = run_json("plan", {"-W", "256", "-H", "256", "--device-memory", "500MiB"});
  const nlohmann::json& memory = plan["memory"];
  EXPECT_FALSE(memory["fits"]);
  ASSERT_FALSE(memory["flags"].empty());
  EXPECT_LE(memory["peak_with_flags_bytes"], memory["available_bytes"]);
  EXPECT_EQ(memory["available_bytes"], int64_t{500} << 20);
}

TEST(Plan, SaysThatNothingFits) {
  const test::ProgramResult result = run("plan", {"--device-memory", "1MiB"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_TRUE(test::contains(result.out, "none of the tried flags")) << result.out;
}

// --max-memory counts less than what a machine must have; and what is suggested is needed, every flag of it.
TEST(Plan, SuggestsWhatHelpsUnderALimit) {
  for (const char* limit : {"100MiB", "120MiB"}) {
    const nlohmann::json memory = run_json("plan", {"--max-memory", limit})["memory"];
    if (memory["fits"]) continue;
    ASSERT_FALSE(memory["flags"].empty()) << limit << memory;
    for (size_t left_out = 0; left_out < memory["flags"].size() && memory["flags"].size() > 1; ++left_out) {
      Arguments flags = {"--max-memory", limit};
      for (size_t i = 0; i < memory["flags"].size(); ++i) {
        std::istringstream words(memory["flags"][i].get<std::string>());
        for (std::string word; i != left_out && words >> word;) flags.push_back(word);
      }
      EXPECT_FALSE(run_json("plan", flags)["memory"]["fits"]) << memory << " without number " << left_out;
    }
  }
  const nlohmann::json least = run_json("plan", {"--max-memory", "1MiB"})["memory"];
  ASSERT_EQ(least["flags"].size(), 1U) << least;
  const std::string flag = least["flags"][0];
  ASSERT_TRUE(flag.starts_with("--max-memory ")) << flag;
  const nlohmann::json enough = run_json("plan", {"--max-memory", flag.substr(std::string("--max-memory ").size())});
  EXPECT_TRUE(enough["memory"]["fits"]) << enough["memory"];
}

// In a folder without weights, as somebody before the download.
test::ProgramResult run_without_weights(const Arguments& arguments, const std::string& model_dir = "") {
  const test::TemporaryFolder folder;
  return test::run_program(arguments, {.folder = folder.path(), .environment = {"OPENSORA_MODEL_DIR=" + model_dir}});
}

TEST(Plan, OfPublishedWeightsBeforeTheyAreHere) {
  const test::ProgramResult text = run_without_weights({"plan", "--config", "256px", "--device-memory", "24GiB"});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_TRUE(test::contains(text.out, "the weights are not here")) << text.out;
  EXPECT_TRUE(test::contains(text.out, "time: not known of this GPU")) << text.out;
  const test::ProgramResult result =
      run_without_weights({"plan", "--config", "256px", "--device", "cpu", "--num-frames", "5", "--json", "-q"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json plan = nlohmann::json::parse(result.out);
  EXPECT_EQ(plan["weights"], "published");
  EXPECT_GT(plan["stages"][2]["stored_bytes"], 23'000'000'000);
  EXPECT_GT(plan["seconds"], 0);
}

TEST(Plan, ForAGpuThatIsNotHere) {
  const test::ProgramResult text = run_without_weights({"plan", "--config", "768px", "--gpu", "4090"});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_TRUE(test::contains(text.out, "cuda bf16")) << text.out;
  EXPECT_TRUE(test::contains(text.out, "of it loading models; by published figures")) << text.out;
  EXPECT_TRUE(test::contains(text.out, "RTX 4090, of its 24 GiB")) << text.out;
  const test::ProgramResult result =
      run_without_weights({"plan", "--config", "768px", "--gpu", "4090", "--json", "-q"});
  const nlohmann::json plan = nlohmann::json::parse(result.out);
  EXPECT_EQ(plan["speed_of"], "RTX 4090");
  double sum = 0;
  for (const auto& stage : plan["stages"]) {
    sum += stage["seconds"].get<double>() + stage["load_seconds"].get<double>();
  }
  EXPECT_NEAR(plan["seconds"].get<double>(), sum, 1e-6 * sum);
  EXPECT_GT(sum, 60);
  const test::ProgramResult unknown = run("plan", {"--gpu", "voodoo2", "--device", "auto"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_TRUE(test::contains(unknown.err, "--gpu: expected one of b200, ")) << unknown.err;
  EXPECT_EQ(run("plan", {"--gpu", "h100"}).exit_code, 2) << "with --device cpu";
  const test::ProgramResult made = run("generate", {"--gpu", "h100"});
  EXPECT_EQ(made.exit_code, 2);
  EXPECT_TRUE(test::contains(made.err, "--gpu: for opensora plan and --dry-run alone")) << made.err;
}

TEST(Plan, ForAllGpusIsALineEach) {
  const test::ProgramResult text = run_without_weights({"plan", "--config", "256px", "--all-gpus"});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_TRUE(test::contains(text.out, "rtx-pro-6000")) << text.out;
  EXPECT_TRUE(test::contains(text.out, "blocks are streamed")) << text.out;
  const test::ProgramResult json = run_without_weights({"plan", "--config", "256px", "--all-gpus", "--json", "-q"});
  std::istringstream lines(json.out);
  std::vector<nlohmann::json> gpus;
  for (std::string line; std::getline(lines, line);) gpus.push_back(nlohmann::json::parse(line));
  ASSERT_GE(gpus.size(), 15U);
  EXPECT_EQ(gpus.front()["gpu"], "b200");
  for (const nlohmann::json& gpu : gpus) EXPECT_GT(gpu["seconds"], 0) << gpu["gpu"];
  EXPECT_EQ(run_without_weights({"plan", "--config", "256px", "--all-gpus", "--gpu", "h100"}).exit_code, 2);
}

TEST(Plan, OfTheDemoIsOfItsOwnFolder) {
  const test::ProgramResult result = run_without_weights({"plan", "--device", "cpu", "--json", "-q"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json plan = nlohmann::json::parse(result.out);
  EXPECT_EQ(plan["weights"], "model folder");
  EXPECT_LT(plan["stages"][2]["stored_bytes"], 10'000'000);
  EXPECT_GT(plan["stages"][2]["seconds"], 0);
}

TEST(Plan, AFolderThatIsNamedMustHoldTheWeights) {
  const test::TemporaryFolder empty;
  EXPECT_EQ(run_without_weights({"plan", "--config", "768px", "--model-dir", empty.path()}).exit_code, 4);
  EXPECT_EQ(run_without_weights({"plan", "--config", "768px"}, empty.path()).exit_code, 4);
  EXPECT_EQ(run_without_weights({"plan", "--config", "768px", "--vae", "no.safetensors"}).exit_code, 4);
}

// Nothing is made of the demo model with another configuration, and the message says which weights are wanted.
TEST(Plan, GenerateSaysThatTheDemoHasOneConfiguration) {
  for (const char* config : {"256px", "768px", "high_compression"}) {
    const test::ProgramResult result = run_without_weights({"generate", "-p", "a", "--config", config});
    EXPECT_EQ(result.exit_code, 4) << result.err;
    EXPECT_TRUE(test::contains(result.err, "the demo model has one configuration")) << result.err;
    EXPECT_TRUE(test::contains(result.err, "--model-dir")) << result.err;
  }
}

TEST(Plan, AVideoThatIsContinuedGetsFramesToMake) {
  const auto frames = [](const Arguments& more) {
    Arguments flags = {"--video", "clip.mp4"};
    flags.insert(flags.end(), more.begin(), more.end());
    return run_json("plan", flags)["frames"];
  };
  EXPECT_EQ(frames({}), 49);
  EXPECT_EQ(frames({"--cond-type", "v2v_tail"}), 49);
  EXPECT_EQ(frames({"--cond-type", "v2v_head_easy"}), 81);
  EXPECT_EQ(frames({"--num-frames", "37"}), 37);
  const test::ProgramResult result = run("plan", {"--video", "clip.mp4", "--num-frames", "33"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(test::contains(result.err, "--num-frames 49 (at least 37")) << result.err;
}

// A GPU of that memory need not be here, whoever names it.
TEST(Plan, ForAnAmountOfDeviceMemoryNeedsNoGpu) {
  const std::string dir = std::string(OPENSORA_CONFIGS) + "/demo";
  const test::TemporaryFolder folder;
  const auto prompts = folder.write("p.csv", "text\na red circle\na blue square\n");
  for (const Arguments& what : {Arguments{"-p", "sea"}, Arguments{"--prompts-file", prompts}}) {
    Arguments flags = {"plan", "--model-dir", dir, "--device", "cuda", "--device-memory", "24GiB", "-q"};
    flags.insert(flags.end(), what.begin(), what.end());
    const test::ProgramResult result = test::run_program(flags);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_TRUE(test::contains(result.out, "fits: ")) << result.out;
  }
}

TEST(Plan, SaysWhichModelsAreStreamed) {
  const test::ProgramResult result = run_without_weights({"plan", "--config", "768px", "--device-memory", "8GiB"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(test::contains(result.out, "streamed block by block (--offload): t5, model\n")) << result.out;
}

TEST(Plan, RefusesAnAmountThatIsNone) {
  for (const char* amount : {"lots", "24XB", "-1GiB", "0", "24GiB!"}) {
    const test::ProgramResult result = run("plan", {"--device-memory=" + std::string(amount)});
    EXPECT_EQ(result.exit_code, 2) << amount;
    EXPECT_TRUE(test::contains(result.err, "--device-memory")) << result.err;
  }
}

TEST(Plan, IsTheDryRunAndWritesNothing) {
  const test::TemporaryFolder folder;
  // For a GPU, as the figures of a CPU contain this process' own memory of the moment.
  const Arguments flags = {"-o", folder.path() / "out.mp4", "--device-memory", "24GiB", "--device", "cuda"};
  Arguments dry = flags;
  dry.emplace_back("--dry-run");
  EXPECT_EQ(run("generate", dry).out, run("plan", flags).out);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Plan, APromptsFileIsALineARow) {
  const test::TemporaryFolder folder;
  const auto prompts = folder.write("p.csv", "text,num_frames,seed\na red circle,33,1;2\na blue square,5,3\n");
  const std::string model = std::string(OPENSORA_CONFIGS) + "/demo";
  const auto plan = [&](const Arguments& more) {
    Arguments flags = {"plan", "--prompts-file", prompts, "--model-dir", model, "--device", "cpu", "-q"};
    flags.insert(flags.end(), more.begin(), more.end());
    return test::run_program(flags);
  };
  const test::ProgramResult result = plan({"--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::istringstream lines(result.out);
  std::vector<nlohmann::json> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0]["videos"], 2);
  EXPECT_EQ(rows[0]["frames"], 33);
  EXPECT_EQ(rows[1]["frames"], 5);
  EXPECT_GT(rows[0]["flops"], rows[1]["flops"]);
  const test::ProgramResult table = plan({});
  EXPECT_TRUE(test::contains(table.out, "3 videos, "));
  EXPECT_TRUE(test::contains(table.out, "p.csv:2: fits"));  // the row that needs the most
}

TEST(Doctor, FindsTheDemoModelInOrder) {
  const test::ProgramResult result =
      test::run_program({"doctor", "--model-dir", std::string(OPENSORA_CONFIGS) + "/demo", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json report = nlohmann::json::parse(result.out);
  EXPECT_TRUE(report["ok"]);
  for (const char* topic :
       {"versions", "cpu", "memory", "gpu", "cuda", "ffmpeg", "threads", "configs", "models", "folders"}) {
    const auto about = [&](const auto& finding) { return finding["topic"] == topic; };
    EXPECT_TRUE(std::any_of(report["findings"].begin(), report["findings"].end(), about)) << topic;
  }
  EXPECT_TRUE(test::contains(result.out, "CUDA plug-in: ")) << result.out;
}

TEST(Doctor, ReportsWhatIsMissing) {
  const test::TemporaryFolder folder;
  const test::ProgramResult empty = test::run_program({"doctor", "--model-dir", folder.path()});
  EXPECT_EQ(empty.exit_code, 4);
  EXPECT_TRUE(test::contains(empty.out, "error    models")) << empty.out;
  const test::ProgramResult nowhere = test::run_program({"doctor", "--model-dir", "/no/such/folder"});
  EXPECT_EQ(nowhere.exit_code, 4);
  EXPECT_TRUE(test::contains(nowhere.out, "no such folder")) << nowhere.out;
}

}  // namespace
}  // namespace opensora
