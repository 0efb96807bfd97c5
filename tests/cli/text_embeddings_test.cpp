// Precomputed text embeddings: opensora encode-text, and generate with what it wrote.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "io/safetensors.h"
#include "run/text_embeddings.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::ProgramResult;
using test::run_program;
using test::operator+;

const std::string kPrompt = "a red circle";
const std::string kSuffixed = "a red circle. 24 FPS. 4 motion score.";
const std::vector<Component> kBoth = {Component::kClip, Component::kT5};

fs::path demo_dir() { return fs::path(OPENSORA_CONFIGS) / "demo"; }

class TextEmbeddings : public ::testing::Test {
 protected:
  fs::path embeddings() const { return folder_.path() / "embeddings"; }
  fs::path file_of(const std::string& text, const std::vector<Component>& kinds = kBoth) const {
    return embeddings() / run::embedding_file_name(text, kinds);
  }

  ProgramResult encode(const std::vector<std::string>& more, const fs::path& model = demo_dir()) const {
    return run_program(
        std::vector<std::string>{"encode-text", "--model-dir", model, "--device", "cpu", "--output-dir", embeddings()} +
        more);
  }

  // The demo model's folder (links to its files) without the text encoders named.
  fs::path model_without(const std::set<std::string>& folders) const {
    fs::path model = folder_.path() / "model";
    fs::create_directory(model);
    for (const fs::directory_entry& entry : fs::directory_iterator(demo_dir())) {
      const std::string name = entry.path().filename();
      if (!folders.contains(name)) fs::create_symlink(fs::absolute(entry.path()), model / name);
    }
    return model;
  }

  // Five frames in two steps, without metadata, which lists the encoders that are there; the MP4's and the tensors'
  // bytes go to NAME.mp4 and NAME.safetensors.
  ProgramResult generate(const std::string& name, const fs::path& model, const std::vector<std::string>& more) const {
    const fs::path output = folder_.path() / name;
    return run_program(std::vector<std::string>{"generate", "-p", kPrompt, "--model-dir", model, "--num-frames", "5",
                                                "--steps", "2", "-s", "7", "--device", "cpu", "--no-metadata", "-o",
                                                output.string() + ".mp4", "--save-tensors",
                                                output.string() + ".safetensors"} +
                       more);
  }

  void expect_equal_runs(const std::string& a, const std::string& b) const {
    for (const char* suffix : {".mp4", ".safetensors"}) {
      const std::string bytes = test::read_file(folder_.path() / (a + suffix));
      EXPECT_FALSE(bytes.empty());
      EXPECT_TRUE(bytes == test::read_file(folder_.path() / (b + suffix))) << suffix;
    }
  }

  void expect_refused(const std::vector<std::string>& arguments, int code,
                      const std::vector<std::string>& words) const {
    const ProgramResult result = generate("refused", demo_dir(), arguments);
    EXPECT_EQ(result.exit_code, code) << result.err;
    const std::string line = result.err.substr(result.err.find("opensora: error: "));
    for (const std::string& word : words) EXPECT_TRUE(contains(line, word));
    EXPECT_FALSE(fs::exists(folder_.path() / "refused.mp4"));
  }

  // Writes the file anew with other metadata and without or with other tensors.
  template <typename Change>
  void rewrite(const fs::path& path, Change&& change) const {
    std::map<std::string, at::Tensor> tensors;
    std::map<std::string, std::string> metadata;
    {
      const io::SafetensorsFile file(path);
      for (const auto& [name, info] : file.tensors()) tensors[name] = file.tensor(name).clone();
      metadata = file.metadata();
    }
    change(tensors, metadata);
    io::save_safetensors(path, {tensors.begin(), tensors.end()}, metadata, /*overwrite=*/true);
  }

  test::TemporaryFolder folder_;
};

TEST_F(TextEmbeddings, HoldWhatTheReadmeSays) {
  const ProgramResult result = encode({"-p", kPrompt, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  ASSERT_EQ(json["files"].size(), 3u);  // as given, with suffixes, the empty negative prompt
  EXPECT_EQ(json["files"][0]["text"], kPrompt);
  EXPECT_EQ(json["files"][1]["text"], kSuffixed);
  EXPECT_EQ(json["files"][2]["text"], "");
  EXPECT_EQ(json["files"][1]["file"], file_of(kSuffixed).string());

  const io::SafetensorsFile file(file_of(kSuffixed));
  EXPECT_EQ(file.tensors().at("t5").shape, (std::vector<int64_t>{1, 32, 128}));
  EXPECT_EQ(file.tensors().at("clip").shape, (std::vector<int64_t>{1, 128}));
  EXPECT_EQ(file.tensors().at("t5_ids").shape, (std::vector<int64_t>{1, 32}));
  EXPECT_EQ(file.tensors().at("clip_ids").shape, (std::vector<int64_t>{1, 77}));
  EXPECT_EQ(file.metadata().at("text"), kSuffixed);
  EXPECT_EQ(file.metadata().at("t5_max_length"), "32");
  EXPECT_EQ(file.metadata().at("clip_dtype"), "fp32");
  EXPECT_EQ(file.metadata().at("t5_identity").size(), 64u);
  EXPECT_NE(file.metadata().at("t5_identity"), file.metadata().at("clip_identity"));
}

TEST_F(TextEmbeddings, GiveTheSameBytesAsTheEncodersAndNeedNone) {
  ASSERT_EQ(encode({"-p", kPrompt}).exit_code, 0);
  ASSERT_EQ(generate("plain", demo_dir(), {}).exit_code, 0);
  const ProgramResult with = generate("stored", demo_dir(), {"--text-embeddings", embeddings()});
  ASSERT_EQ(with.exit_code, 0) << with.err;
  expect_equal_runs("plain", "stored");

  const fs::path model = model_without({"google", "openai"});
  EXPECT_EQ(generate("none", model, {}).exit_code, 4);
  const ProgramResult without = generate("without", model, {"--text-embeddings", embeddings()});
  ASSERT_EQ(without.exit_code, 0) << without.err;
  expect_equal_runs("plain", "without");
}

TEST_F(TextEmbeddings, OneEncoderFromFilesAndTheOtherRun) {
  ASSERT_EQ(encode({"-p", kPrompt, "--encoder", "t5"}).exit_code, 0);
  EXPECT_TRUE(fs::exists(file_of(kSuffixed, {Component::kT5})));
  ASSERT_EQ(generate("plain", demo_dir(), {}).exit_code, 0);
  const ProgramResult without = generate("without", model_without({"google"}), {"--text-embeddings", embeddings()});
  ASSERT_EQ(without.exit_code, 0) << without.err;
  expect_equal_runs("plain", "without");
}

TEST_F(TextEmbeddings, ANegativePromptFromAFile) {
  ASSERT_EQ(encode({"-p", "blurry", "--exact"}).exit_code, 0);
  const std::string file = file_of("blurry");
  ASSERT_EQ(generate("plain", demo_dir(), {"-n", "blurry"}).exit_code, 0);
  const ProgramResult stored = generate("stored", demo_dir(), {"--neg-text-embedding", file});
  ASSERT_EQ(stored.exit_code, 0) << stored.err;
  expect_equal_runs("plain", "stored");
  expect_refused({"--neg-text-embedding", file, "-n", "dark"}, 2, {file, "\"blurry\"", "\"dark\""});
}

TEST_F(TextEmbeddings, AMissingTextIsEncodedWhereTheEncodersAreAndNamedWhereTheyAreNot) {
  ASSERT_EQ(encode({"-p", kPrompt}).exit_code, 0);
  const fs::path model = model_without({"google", "openai"});
  const ProgramResult missing = generate("missing", model, {"--text-embeddings", embeddings(), "--fps", "16"});
  EXPECT_EQ(missing.exit_code, 4);
  EXPECT_TRUE(contains(missing.err, "a red circle. 16 FPS. 4 motion score."));
  EXPECT_TRUE(contains(missing.err, embeddings().string()));
  EXPECT_TRUE(contains(missing.err, "encode-text"));

  const ProgramResult encoded = generate("encoded", demo_dir(), {"--text-embeddings", embeddings(), "--fps", "16"});
  ASSERT_EQ(encoded.exit_code, 0) << encoded.err;
  EXPECT_TRUE(contains(encoded.err, "it is encoded"));
  ASSERT_EQ(generate("plain", demo_dir(), {"--fps", "16"}).exit_code, 0);
  expect_equal_runs("plain", "encoded");
}

TEST_F(TextEmbeddings, OfAnotherEncoderAreRefused) {
  ASSERT_EQ(encode({"-p", kPrompt}).exit_code, 0);
  rewrite(file_of(kSuffixed), [](auto&, auto& metadata) { metadata["t5_identity"] = std::string(64, 'f'); });
  expect_refused({"--text-embeddings", embeddings()}, 4,
                 {file_of(kSuffixed), "another T5", (demo_dir() / "google/t5-v1_1-xxl").string(), "ffff"});
  // Without an encoder to compare with, the files must agree among themselves.
  const ProgramResult result =
      generate("mixed", model_without({"google", "openai"}), {"--text-embeddings", embeddings()});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_TRUE(contains(result.err, "another T5"));
  EXPECT_TRUE(contains(result.err, file_of("").string()));
}

TEST_F(TextEmbeddings, OfAnotherLengthOrWidthAreRefused) {
  ASSERT_EQ(encode({"-p", kPrompt}).exit_code, 0);
  const fs::path file = file_of(kSuffixed);
  rewrite(file, [](auto&, auto& metadata) { metadata["t5_max_length"] = "16"; });
  expect_refused({"--text-embeddings", embeddings()}, 4, {file, "16 tokens", "32"});
  ASSERT_EQ(encode({"-p", kPrompt, "--overwrite"}).exit_code, 0);
  rewrite(file, [](auto& tensors, auto&) { tensors["clip"] = tensors["clip"].slice(1, 0, 64).clone(); });
  expect_refused({"--text-embeddings", embeddings()}, 4, {file, "\"clip\"", "[1, 128]", "[1, 64]"});
  rewrite(file, [](auto& tensors, auto&) { tensors["clip"] = tensors["clip_ids"].slice(1, 0, 1).expand({1, 128}); });
  expect_refused({"--text-embeddings", embeddings()}, 4, {file, "\"clip\"", "floating", "I64"});
}

TEST_F(TextEmbeddings, FilesOfSomethingElseAreRefused) {
  const fs::path absent = folder_.path() / "absent";
  expect_refused({"--text-embeddings", absent}, 4, {absent, "no such file or folder"});
  const fs::path weights = demo_dir() / "hunyuan_vae.safetensors";
  expect_refused({"--text-embeddings", weights}, 4, {weights, "not written by opensora encode-text"});
  fs::create_directory(embeddings());
  std::ofstream(file_of(kSuffixed)) << "{}";
  expect_refused({"--text-embeddings", embeddings()}, 4, {file_of(kSuffixed), "too short"});
}

TEST_F(TextEmbeddings, EncodingTwiceKeepsWhatFitsAndSaysWhatDoesNot) {
  ASSERT_EQ(encode({"-p", kPrompt}).exit_code, 0);
  const auto time = fs::last_write_time(file_of(kSuffixed));
  const ProgramResult again = encode({"-p", kPrompt, "-p", "a blue square", "-p", kPrompt, "--json"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  const auto files = nlohmann::json::parse(again.out)["files"];
  ASSERT_EQ(files.size(), 5u);
  EXPECT_TRUE(files[0]["kept"]);
  EXPECT_TRUE(files[2]["kept"]);  // the empty text
  EXPECT_FALSE(files[3]["kept"]);
  EXPECT_EQ(fs::last_write_time(file_of(kSuffixed)), time);

  rewrite(file_of(kSuffixed), [](auto&, auto& metadata) { metadata["t5_max_length"] = "16"; });
  const ProgramResult refused = encode({"-p", kPrompt});
  EXPECT_EQ(refused.exit_code, 7);
  EXPECT_TRUE(contains(refused.err, "--overwrite"));
}

TEST_F(TextEmbeddings, OnlyTheEncoderAskedForIsNeeded) {
  const fs::path model = model_without({"google"});
  EXPECT_EQ(encode({"-p", kPrompt, "--encoder", "clip"}, model).exit_code, 0);
  EXPECT_EQ(encode({"-p", kPrompt, "--encoder", "t5"}, model).exit_code, 4);
}

TEST_F(TextEmbeddings, OfAPromptsFile) {
  const fs::path prompts = folder_.write("p.csv",
                                         "text,neg,motion_score,ref\n"
                                         "a red circle,blurry,6,elsewhere.png\na blue square,,,\n");
  ASSERT_EQ(encode({"--prompts-file", prompts, "--fps", "12", "-q"}).exit_code, 0);
  for (const char* text : {"a red circle. 12 FPS. 6 motion score.", "blurry", "a blue square. 12 FPS. 4 motion score.",
                           "", "a red circle", "a blue square"}) {
    EXPECT_EQ(run::embedded_text(file_of(text)), text);
  }
  const fs::path wrong = folder_.write("w.csv", "text,motion_score,setps\na red circle,many,1\n");
  const ProgramResult result = encode({"--prompts-file", wrong});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(contains(result.err, "setps"));
  EXPECT_EQ(encode({"--prompts-file", prompts, "-p", "x"}).exit_code, 2);
}

TEST_F(TextEmbeddings, UglyTextsHaveFiles) {
  const std::string emoji = "\xF0\x9F\x90\xBC \"quoted\"\n/../ ";
  const ProgramResult result = encode({"-p", emoji, "-p", std::string(20000, 'x'), "--exact", "-q"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(run::embedded_text(file_of(emoji)), emoji);
  EXPECT_EQ(encode({"-p", "caf\xC3"}).exit_code, 2);
  EXPECT_EQ(encode({}).exit_code, 2);
}

}  // namespace
}  // namespace opensora
