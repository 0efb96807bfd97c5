// Rows over flags: what wins, what it contradicts, and every error of every row.
#include "cli/row_request.h"

#include <gtest/gtest.h>

#include "request/settings.h"
#include "support/contains.h"
#include "support/growth.h"
#include "support/temporary_folder.h"

namespace opensora::cli {
namespace {

using batch::Row;
using test::contains;

struct Resolved {
  std::vector<RowRequest> requests;
  std::vector<std::string> errors;
};

Resolved resolve(const std::vector<Row>& rows, const FlagValues& flags) {
  static const Config config = load_config(std::filesystem::path(OPENSORA_CONFIGS) / "t2i2v_256px.json");
  batch::RowErrors errors("f");
  Resolved resolved{resolve_rows(rows, flags, "models", config, errors), {}};
  resolved.errors = errors.lines();
  return resolved;
}

RowRequest resolve_one(const FlagValues& row, const FlagValues& flags) {
  const Resolved resolved = resolve({{1, row}}, flags);
  EXPECT_EQ(resolved.errors, std::vector<std::string>{});
  return resolved.requests.empty() ? RowRequest{} : resolved.requests.front();
}

TEST(RowRequest, RowOverFlagOverConfiguration) {
  const RowRequest row = resolve_one({{"prompt", "-x=1"}, {"steps", "7"}, {"negative-prompt", ""}, {"name", "n"}},
                                     {{"prompt", "y"}, {"steps", "9"}, {"negative-prompt", "z"}, {"fps", "12"}});
  EXPECT_EQ(row.request.prompt, "-x=1");
  EXPECT_EQ(row.request.negative_prompt, "");
  EXPECT_EQ(row.request.config.sampling.num_steps, 7);
  EXPECT_EQ(row.request.config.fps_save, 12);
  EXPECT_EQ(row.request.config.sampling.guidance, 7.5);
  EXPECT_EQ(row.name, "n");
  EXPECT_EQ(row.request.model_dir, "models");
  EXPECT_EQ(resolve_one({}, {{"prompt", "y"}}).request.prompt, "y");
  EXPECT_EQ(resolve_one({{"prompt", ""}}, {}).request.prompt, "");
}

TEST(RowRequest, ReferencesAreLocalFiles) {
  const test::TemporaryFolder folder;
  const std::string picture = folder.write("a b.png", "x").string();
  const FlagValues prompt = {{"prompt", "x"}};
  const std::string url = "file://" + folder.path().string() + "/a%20b.png";
  for (const char* flag : {"image", "end-image", "video"}) {
    EXPECT_EQ(resolve_one({{flag, url}}, prompt).request.references, std::vector<std::filesystem::path>{picture})
        << flag;
    const Resolved remote = resolve({{7, {{flag, "https://example.org/a.png"}}}}, prompt);
    ASSERT_EQ(remote.errors.size(), 1u) << flag;
    EXPECT_TRUE(contains(remote.errors[0], "f:7: reference https://example.org/a.png: is a URL; only local files"));
  }
}

TEST(RowRequest, SizesContradictRatios) {
  const FlagValues pixels = {{"prompt", "x"}, {"width", "64"}, {"height", "32"}};
  const FlagValues ratio = {{"prompt", "x"}, {"resolution", "768px"}, {"aspect-ratio", "1:1"}};
  const auto a = resolve_one({{"resolution", "256px"}, {"aspect-ratio", "9:16"}}, pixels).request.config.sampling;
  EXPECT_EQ(a.resolution, "256px");
  EXPECT_FALSE(a.width);
  const auto b = resolve_one({{"width", "80"}, {"height", "48"}}, ratio).request.config.sampling;
  EXPECT_FALSE(b.resolution);
  EXPECT_EQ(b.width, 80);
  EXPECT_EQ(resolve_one({{"height", "48"}}, pixels).request.config.sampling.width, 64);
  EXPECT_EQ(resolve_one({{"aspect-ratio", "9:16"}}, ratio).request.config.sampling.resolution, "768px");
}

TEST(RowRequest, ReferencesContradictReferences) {
  const test::TemporaryFolder folder;
  const std::string a = folder.write("a.png", "a"), b = folder.write("b.png", "b"), v = folder.write("v.mp4", "v");
  const FlagValues two = {{"prompt", "x"}, {"image", a}, {"image", b}};
  EXPECT_EQ(resolve_one({}, two).request.config.cond_type, "i2v_loop");
  const GenerateRequest one = resolve_one({{"image", b}}, two).request;
  EXPECT_EQ(one.config.cond_type, "i2v_head");
  EXPECT_EQ(one.references, std::vector<std::filesystem::path>{b});
  EXPECT_EQ(resolve_one({{"video", v}}, two).request.config.cond_type, "v2v_head");
  const FlagValues tail = {{"prompt", "x"}, {"cond-type", "v2v_tail"}};
  EXPECT_EQ(resolve_one({{"video", v}}, tail).request.config.cond_type, "v2v_tail");
  EXPECT_TRUE(resolve_one({{"t2i2v", "true"}}, two).request.config.use_t2i2v);
  EXPECT_TRUE(resolve_one({{"cond-type", "t2v"}}, two).request.references.empty());
  const FlagValues flux = {{"prompt", "x"}, {"t2i2v", "true"}, {"image-only", "true"}};
  EXPECT_FALSE(resolve_one({{"image", a}}, flux).request.config.use_t2i2v);
  EXPECT_FALSE(resolve_one({{"t2i2v", "false"}}, {{"prompt", "x"}, {"t2i2v", "true"}}).request.config.use_t2i2v);
}

TEST(RowRequest, WhatFollowsFromAReplacedValueGoesWithIt) {
  const FlagValues from = {{"image", "a.png"}, {"cond-type", "i2v_tail"}, {"image-size", "64x64"}, {"width", "64"}};
  EXPECT_EQ(request::lay_over(from, {{"video", "v.mp4"}}, true), (FlagValues{{"width", "64"}, {"video", "v.mp4"}}));
  EXPECT_EQ(request::lay_over(from, {{"aspect-ratio", "1:1"}}, true),
            (FlagValues{{"image", "a.png"}, {"cond-type", "i2v_tail"}, {"aspect-ratio", "1:1"}}));
}

TEST(RowRequest, SeedsOfARow) {
  const RowRequest row =
      resolve_one({{"prompt", "x"}, {"seed", "3"}, {"seed", "18446744073709551615"}}, {{"seed", "9"}});
  EXPECT_EQ(row.seeds, (std::vector<uint64_t>{3, ~uint64_t{0}}));
  EXPECT_EQ(row.request.seed, 3U);
  EXPECT_TRUE(resolve_one({{"prompt", "x"}}, {{"seed", "9"}}).seeds.empty());
}

TEST(RowRequest, AllErrorsOfAllRows) {
  const FlagValues prompt = {{"prompt", "x"}};
  const test::TemporaryFolder folder;
  const Resolved resolved = resolve({{2, {{"steps", "many"}}},
                                     {3, {{"seed", "-1"}}},
                                     {4, {{"cond-type", "i2v_heat"}}},
                                     {5, {{"image", folder.path() / "none.png"}}},
                                     {6, {{"video", folder.path()}}},
                                     {7, {{"steps", "4"}}},
                                     {8, {{"name", "a/b"}}},
                                     {9, {{"motion-score", "fast"}}},
                                     {10, {{"output-size", "big"}}},
                                     {11, {{"steps", "1e3"}}},
                                     {12, {{"width", "64"}}},
                                     {13, {{"image", "a"}, {"image", "b"}, {"image", "c"}}}},
                                    prompt);
  const std::vector<std::string> expected = {"f:2: `steps`: expected a whole number",
                                             "f:3: `seed`: expected",
                                             "f:4: `cond_type`",
                                             "f:5: reference ",
                                             "f:6: reference ",
                                             "f:8: name \"a/b\"",
                                             "f:9: `motion_score`",
                                             "f:10: `output_size`",
                                             "f:11: `steps`: expected a whole number",
                                             "f:12: `width`",
                                             "f:13: `image`: expected at most two"};
  ASSERT_EQ(resolved.errors.size(), expected.size()) << testing::PrintToString(resolved.errors);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(contains(resolved.errors[i], expected[i]));
  EXPECT_TRUE(contains(resolve({{2, {}}}, {}).errors.at(0), "f:2: `prompt` is required"));
}

TEST(RowRequest, ThousandsOfRowsTakeLittleTime) {
  const auto read_rows = [](size_t count) {
    std::vector<Row> rows;
    for (size_t i = 0; i < count; ++i) {
      rows.push_back({static_cast<int>(i) + 1, {{"prompt", std::to_string(i)}, {"steps", "3"}}});
    }
    EXPECT_EQ(resolve(rows, {{"width", "64"}, {"height", "64"}}).requests.size(), count);
  };
  EXPECT_LT(test::growth(16, read_rows), test::kLinear);
}

}  // namespace
}  // namespace opensora::cli
