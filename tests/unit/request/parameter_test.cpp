// Every row of the parameter table: what a video's content is made of is in its key, and comes back from its metadata.
#include "request/parameter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>

#include "opensora/error.h"
#include "request/settings.h"
#include "run/metadata.h"
#include "support/temporary_folder.h"

namespace opensora::request {
namespace {

constexpr const char* kTable =
    R"({"program": "opensora", "schema_version": 1, "changes": [[1, 0], [0.5, 0.1], [0, 1]]})";

bool decides_content(const Parameter& parameter) {
  return parameter.scope == Scope::kContent || parameter.scope == Scope::kRunContent;
}

// Of "t2i2v_256px" on the CPU in fp32, where nothing else is said.
class Parameters : public ::testing::Test {
 protected:
  GenerateRequest request_of(FlagValues flags) const {
    static const Config config = load_config(std::filesystem::path(OPENSORA_CONFIGS) / "t2i2v_256px.json");
    const FlagValues base = {{"prompt", "x"}, {"seed", "1"}, {"device", "cpu"}, {"dtype", "fp32"}};
    flags.emplace_back("output", folder_.path() / "x");
    return resolve(lay_over(base, flags, false), folder_.path(), config);
  }
  static std::string key_of(const GenerateRequest& request) { return run::content_key(run::make_job(request), {}); }

  // Another value of each parameter that decides what a video holds: these, and for one that is not among them a value
  // of its kind.
  std::map<std::string, FlagValues> other_content() const {
    const std::string table = folder_.write("table.json", kTable);
    const std::string a = folder_.write("a.png", "a"), b = folder_.write("b.png", "b"), v = folder_.write("v.mp4", "v");
    std::map<std::string, FlagValues> content = {{"prompt", {{"prompt", "y"}}},
                                                 {"negative-prompt", {{"negative-prompt", "fog"}}},
                                                 {"cond-type", {{"image", a}, {"cond-type", "i2v_tail"}}},
                                                 {"image", {{"image", a}}},
                                                 {"end-image", {{"end-image", b}}},
                                                 {"video", {{"video", v}}},
                                                 {"sample-posterior", {{"sample-posterior", "true"}}},
                                                 {"t2i2v", {{"t2i2v", "false"}}},
                                                 {"image-only", {{"image-only", "true"}}},
                                                 {"image-resolution", {{"image-resolution", "360p"}}},
                                                 {"image-size", {{"image-size", "96x80"}}},
                                                 {"resolution", {{"resolution", "768px"}}},
                                                 {"aspect-ratio", {{"aspect-ratio", "1:1"}}},
                                                 {"width", {{"width", "64"}, {"height", "256"}}},
                                                 {"height", {{"width", "256"}, {"height", "64"}}},
                                                 {"num-frames", {{"num-frames", "5"}}},
                                                 {"fps", {{"fps", "23.976"}}},
                                                 {"motion-score", {{"motion-score", "none"}}},
                                                 {"steps", {{"steps", "3"}}},
                                                 {"guidance", {{"guidance", "3.1"}}},
                                                 {"guidance-img", {{"guidance-img", "2.1"}}},
                                                 {"flow-shift", {{"flow-shift", "0.1"}}},
                                                 {"text-osci", {{"text-osci", "false"}}},
                                                 {"image-osci", {{"image-osci", "false"}}},
                                                 {"temporal-osci", {{"temporal-osci", "false"}}},
                                                 {"preset", {{"preset", "fast"}}},
                                                 {"vae-tiling", {{"vae-tiling", "true"}}},
                                                 {"rng", {{"rng", "cuda:768"}}},
                                                 {"cache", {{"cache", "pairs:0.05"}}},
                                                 {"calibration", {{"speed", "2"}, {"calibration", table}}},
                                                 {"seed", {{"seed", "18446744073709551615"}}},
                                                 {"dtype", {{"dtype", "bf16"}}},
                                                 {"codec", {{"codec", "h265"}}},
                                                 {"pix-fmt", {{"pix-fmt", "yuv444p"}}},
                                                 {"crf", {{"crf", "20"}}},
                                                 {"output-size", {{"output-size", "64x48"}}}};
    for (const Parameter& parameter : parameters()) {
      if (!decides_content(parameter) || content.contains(parameter.name())) continue;
      content[parameter.name()] = {{parameter.name(), other_text(parameter)}};
    }
    return content;
  }

  // Another value than the plain request has.
  std::string other_text(const Parameter& parameter) const {
    if (parameter.name() == "shard") return "2/3";
    Settings plain;
    plain.request = request_of({});
    const nlohmann::ordered_json value = parameter.get ? parameter.get(plain) : nlohmann::ordered_json();
    switch (parameter.kind) {
      case Kind::kChoice:
        return value == parameter.choices.front() ? parameter.choices.at(1) : parameter.choices.front();
      case Kind::kSwitch:
        return value == true ? "false" : "true";
      case Kind::kNumber:
        return other_number(parameter, plain);
      case Kind::kSize:
        return "96x80";
      case Kind::kSeeds:
        return "18446744073709551615";
      default:
        return parameter.name() == "device" ? "cpu" : "other";
    }
  }

  // One that the parameter's range has.
  static std::string other_number(const Parameter& parameter, const Settings& plain) {
    for (const char* text : {"5.1", "1.1", "0.1", "5", "2", "500"}) {
      Settings settings = plain;
      try {
        request::set_parameter(parameter, settings, text, "");
      } catch (const UsageError&) {
        continue;
      }
      if (!parameter.get || parameter.get(settings) != parameter.get(plain)) return text;
    }
    throw std::invalid_argument("no number for " + parameter.name());
  }

  test::TemporaryFolder folder_;
};

TEST_F(Parameters, EachValueOfContentChangesTheKey) {
  std::map<std::string, std::string> keys = {{key_of(request_of({})), "the plain request"}};
  const auto content = other_content();
  for (const Parameter& parameter : parameters()) {
    if (!decides_content(parameter)) continue;
    const auto [same, is_new] = keys.emplace(key_of(request_of(content.at(parameter.name()))), parameter.name());
    EXPECT_TRUE(is_new) << parameter.name() << " has the key of " << same->second;
  }
}

TEST_F(Parameters, NoOtherValueChangesTheKey) {
  const std::string plain = key_of(request_of({}));
  for (const Parameter& parameter : parameters()) {
    if (decides_content(parameter) || parameter.scope == Scope::kModels) continue;
    EXPECT_EQ(key_of(request_of({{parameter.name(), other_text(parameter)}})), plain) << parameter.name();
  }
}

TEST_F(Parameters, EachValueOfContentComesBackFromMetadata) {
  for (const auto& [name, flags] : other_content()) {
    SCOPED_TRACE(name);
    const GenerateRequest request = request_of(flags);
    const auto document = run::video_metadata(run::make_job(request), {});
    const GenerateRequest again = request_of(read_request_flags(folder_.write("x.json", document.dump())));
    EXPECT_EQ(run::request_json(run::make_job(again)).dump(), document["request"].dump());
    EXPECT_EQ(key_of(again), key_of(request));
  }
}

// As it has been since videos hold it: --resume compares its hash.
TEST_F(Parameters, ContentIsWrittenInTheOrderOfTheTable) {
  const GenerateRequest request = request_of({{"t2i2v", "false"}, {"guidance-img", "2"}, {"num-frames", "5"}});
  EXPECT_EQ(run::request_json(run::make_job(request)).dump(),
            R"({"prompt":"x","negative_prompt":"","cond_type":"t2v","image":[],"video":null,"sample_posterior":false,)"
            R"("t2i2v":false,"image_only":false,"image_size":null,"width":336,"height":192,"num_frames":5,"fps":24,)"
            R"("motion_score":"4","steps":50,"guidance":7.5,"guidance_img":2.0,"flow_shift":null,"text_osci":true,)"
            R"("image_osci":true,"temporal_osci":true,"vae_tiling":null,"seed":1,"dtype":"fp32","codec":"h264",)"
            R"("pix_fmt":null,"crf":18,"output_size":null})");
}

TEST(ParameterTable, ALaterRowIsNotRecordedAtItsDefault) {
  Settings settings;
  Parameter row = *find_parameter("steps");
  EXPECT_TRUE(row.is_recorded(settings));
  row = std::move(row).unless_default();
  EXPECT_FALSE(row.is_recorded(settings));
  apply({{"steps", "3"}}, settings);
  EXPECT_TRUE(row.is_recorded(settings));
}

TEST(ParameterTable, NamesOtherRowsThatAreThere) {
  const auto is_row = [](const std::string& name) { return find_parameter(name) != nullptr; };
  for (const Parameter& parameter : parameters()) {
    SCOPED_TRACE(parameter.name());
    EXPECT_EQ(find_parameter(parameter.name()), &parameter);
    EXPECT_TRUE(parameter.set != nullptr);
    EXPECT_FALSE(parameter.help.empty());
    EXPECT_EQ(parameter.choices.empty(), parameter.kind != Kind::kChoice);
    for (const auto* names : {&parameter.decided_by, &parameter.needs, &parameter.excludes, &parameter.replaces,
                              &parameter.replaces_effective}) {
      EXPECT_TRUE(std::all_of(names->begin(), names->end(), is_row));
    }
  }
}

TEST(ParameterTable, FieldsOfAMessageAreToldAsFlags) {
  for (const Parameter& parameter : parameters()) {
    const std::string flag = parameter.name() == "output" ? "-o" : "--" + parameter.name();
    EXPECT_EQ(with_flags(parameter.field() + ": no"), flag + ": no");
  }
  EXPECT_EQ(with_flags("give `num_frames` 5 or `t2i2v``crf`"), "give --num-frames 5 or --t2i2v--crf");
  for (const char* text : {"", "`", "steps", "`steps", "``", "`no_such`", "` steps`", "`num-frames`", "`Steps`"}) {
    EXPECT_EQ(with_flags(text), text);
  }
  EXPECT_EQ(with_flags("a`b`steps`c`"), "a`b--stepsc`");
  EXPECT_EQ(with_flags("`side_by_side`: `stages`", {"side-by-side", "json"}), "--side-by-side: `stages`");
  EXPECT_EQ(with_flags(std::vector<std::string>{"`dtype` bf16", "x"}), (std::vector<std::string>{"--dtype bf16", "x"}));
}

TEST(ParameterTable, WhatIsNotReportedDecidesWhatIs) {
  for (const Parameter& hidden : parameters()) {
    if (hidden.get) continue;
    const bool is_reported = std::any_of(parameters().begin(), parameters().end(), [&](const Parameter& other) {
      return other.get &&
             std::find(other.decided_by.begin(), other.decided_by.end(), hidden.name()) != other.decided_by.end();
    });
    EXPECT_TRUE(is_reported || hidden.name() == "preset") << hidden.name();  // of which --print-config tells itself
  }
}

TEST(ParameterTable, ALaterValueCountsButReferencesAddUp) {
  Settings settings;
  apply({{"steps", "3"}, {"image", "a"}, {"steps", "4"}, {"image", "b"}, {"nothing", "x"}}, settings);
  EXPECT_EQ(settings.request.config.sampling.num_steps, 4);
  EXPECT_EQ(settings.request.references, (std::vector<std::filesystem::path>{"a", "b"}));
}

// Of the same layer and of a later one; what an earlier layer says is replaced.
TEST(ParameterTable, MatchYieldsToWhatIsGivenWithIt) {
  const auto applied = [](const FlagValues& values) {
    Settings settings;
    apply(values, settings);
    return std::vector<std::string>{settings.request.rng, settings.request.timestep_rounding, settings.request.dtype};
  };
  const FlagValues match = {{"match", "official"}}, others = {{"dtype", "fp32"}, {"rng", "cuda:864"}};
  using Values = std::vector<std::string>;
  EXPECT_EQ(applied({}), (Values{"cpu", "none", ""}));
  EXPECT_EQ(applied(match), (Values{"cuda", "official", "bf16"}));
  EXPECT_EQ(applied({{"dtype", "fp32"}, {"match", "official"}, {"timestep-rounding", "none"}}),
            (Values{"cuda", "none", "fp32"}));
  EXPECT_EQ(applied(lay_over(match, others, false)), (Values{"cuda:864", "official", "fp32"}));
  EXPECT_EQ(applied(lay_over(others, match, true)), (Values{"cuda", "official", "bf16"}));
}

}  // namespace
}  // namespace opensora::request
