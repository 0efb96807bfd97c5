#include "opensora/config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "opensora/error.h"
#include "support/contains.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using nlohmann::json;
using test::contains;

// The smallest configuration that is complete: all else has a default.
json minimal_config() {
  return json::parse(R"({
    "model": {"from_pretrained": "model.safetensors"},
    "ae": {"from_pretrained": "ae.safetensors"},
    "t5": {"from_pretrained": "t5"},
    "clip": {"from_pretrained": "clip"},
    "sampling_option": {"temporal_reduction": 4}
  })");
}

const HunyuanVAEConfig& hunyuan(const Config& config) { return std::get<HunyuanVAEConfig>(config.ae); }

class ConfigTest : public testing::Test {
 protected:
  // `pointer`: where `value` is put in the minimal configuration.
  Config load_with(const std::string& pointer, json value) {
    json config = minimal_config();
    config[json::json_pointer(pointer)] = std::move(value);
    return load_config(folder_.write("config.json", config.dump()));
  }
  std::string error_with(const std::string& pointer, json value) {
    return error_of([&] { load_with(pointer, std::move(value)); });
  }
  template <typename Call>
  static std::string error_of(Call call) {
    try {
      call();
    } catch (const UsageError& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "one line: " << error.what();
      return error.what();
    }
    return "no error";
  }
  test::TemporaryFolder folder_;
};

TEST_F(ConfigTest, BundledConfigurationsAreTheOfficialOnes) {
  const Config config = load_config(OPENSORA_CONFIGS "/256px.json");
  EXPECT_EQ(config.model.from_pretrained, "Open_Sora_v2.safetensors");
  EXPECT_EQ(config.model.hidden_size, 3072);
  EXPECT_EQ(config.model.depth, 19);
  EXPECT_EQ(config.model.depth_single_blocks, 38);
  EXPECT_EQ(config.model.axes_dim, (std::vector<int64_t>{16, 56, 56}));
  EXPECT_FALSE(config.model.fused_qkv);
  EXPECT_TRUE(config.model.use_liger_rope);
  EXPECT_TRUE(config.model.cond_embed);
  EXPECT_EQ(hunyuan(config).from_pretrained, "hunyuan_vae.safetensors");
  EXPECT_TRUE(hunyuan(config).use_spatial_tiling);
  EXPECT_FALSE(hunyuan(config).use_temporal_tiling);
  EXPECT_EQ(config.t5.from_pretrained, "google/t5-v1_1-xxl");
  EXPECT_EQ(config.t5.max_length, 512);
  EXPECT_EQ(config.clip.from_pretrained, "openai/clip-vit-large-patch14");
  EXPECT_EQ(config.clip.max_length, 77);
  EXPECT_EQ(config.sampling.resolution, "256px");
  EXPECT_EQ(config.sampling.aspect_ratio, "16:9");
  EXPECT_EQ(config.sampling.num_frames, 129);
  EXPECT_EQ(config.sampling.num_steps, 50);
  EXPECT_EQ(config.sampling.guidance, 7.5);
  EXPECT_EQ(config.sampling.guidance_img, 3.0);
  EXPECT_TRUE(config.sampling.text_osci && config.sampling.image_osci && config.sampling.scale_temporal_osci);
  EXPECT_EQ(config.sampling.seed, std::nullopt);
  EXPECT_EQ(config.motion_score, "4");
  EXPECT_EQ(config.fps_save, 24);

  for (const auto& [name, resolution] : {std::pair{"768px", "768px"}, std::pair{"720p", "720p"}}) {
    const Config other = load_config(std::string(OPENSORA_CONFIGS) + "/" + name + ".json");
    EXPECT_EQ(other.sampling.resolution, resolution);
    EXPECT_EQ(other.sampling.aspect_ratio, "16:9");
    EXPECT_EQ(other.model.hidden_size, 3072);
  }
}

TEST_F(ConfigTest, DemoAndReferenceConfigurationsLoad) {
  const Config demo = load_config(OPENSORA_CONFIGS "/demo/config.json");
  EXPECT_EQ(demo.sampling.resolution, std::nullopt);
  EXPECT_EQ(demo.sampling.height, 64);
  EXPECT_EQ(hunyuan(demo).scale_factor, 1.0);
  EXPECT_EQ(hunyuan(demo).block_out_channels, (std::vector<int64_t>{16, 32, 32, 64}));
  const Config tiny = load_config(OPENSORA_TEST_DATA "/reference/ckpts/tiny.json");
  EXPECT_EQ(tiny.model.hidden_size, 64);
  EXPECT_EQ(tiny.t5.max_length, 64);
}

TEST_F(ConfigTest, KeysThatAreNotThereTakeTheirDefaults) {
  const Config config = load_config(folder_.write("config.json", minimal_config().dump()));
  EXPECT_EQ(config.sampling.guidance, 4.0);
  EXPECT_EQ(config.sampling.num_steps, 50);
  EXPECT_EQ(config.t5.max_length, 512);
  EXPECT_EQ(config.clip.max_length, 77);
  EXPECT_EQ(hunyuan(config).scale_factor, 0.476986);
  EXPECT_EQ(config.motion_score, "4");
}

TEST_F(ConfigTest, ModelFolderIsDroppedFromPaths) {
  EXPECT_EQ(load_with("/model/from_pretrained", "./ckpts/a/b.safetensors").model.from_pretrained, "a/b.safetensors");
  EXPECT_EQ(load_with("/model/from_pretrained", "ckpts/b.safetensors").model.from_pretrained, "b.safetensors");
  EXPECT_EQ(load_with("/model/from_pretrained", "/x/ckpts/b").model.from_pretrained, "/x/ckpts/b");
  EXPECT_TRUE(
      contains(error_with("/model/from_pretrained", ""), "model.from_pretrained: expected a file or folder name"));
  EXPECT_TRUE(contains(error_with("/ae", json::object()), "ae.from_pretrained"));
}

TEST_F(ConfigTest, MotionScoreIsAStringANumberOrNull) {
  EXPECT_EQ(load_with("/motion_score", "7").motion_score, "7");
  EXPECT_EQ(load_with("/motion_score", 7).motion_score, "7");
  EXPECT_EQ(load_with("/motion_score", 2.5).motion_score, "2.5");
  EXPECT_EQ(load_with("/motion_score", nullptr).motion_score, std::nullopt);
  EXPECT_TRUE(
      contains(error_with("/motion_score", true), "motion_score: expected a string, a number or null, found true"));
}

TEST_F(ConfigTest, OfficialKeysWithoutMeaningAreIgnored) {
  for (const char* key : {"save_dir", "seed", "batch_size", "dataset", "plugin", "plugin_config", "plugin_config_ae",
                          "shardformer", "from_scratch", "num_workers", "save_prefix"}) {
    EXPECT_NO_THROW(load_with(std::string("/") + key, json::object())) << key;
  }
  for (const char* key : {"/t5/shardformer", "/clip/shardformer", "/ae/from_scratch", "/model/torch_dtype"}) {
    EXPECT_NO_THROW(load_with(key, true)) << key;
  }
  EXPECT_NO_THROW(load_with("/sampling_option/method", "distill"));
  EXPECT_NO_THROW(load_with("/use_t2i2v", false));
  EXPECT_NO_THROW(load_with("/img_resolution", "768px"));
}

TEST_F(ConfigTest, UnknownKeysAreNamedWithTheNearest) {
  const std::string error = error_with("/sampling_option/num_stepz", 30);
  EXPECT_EQ(error, (folder_.path() / "config.json").string() +
                       ": sampling_option.num_stepz: unknown key; did you mean \"num_steps\"?");
  EXPECT_TRUE(contains(error_with("/samplin_option", json::object()), "samplin_option: unknown key; did you mean"));
  json misspelt = minimal_config();
  misspelt["modle"] = misspelt["model"];
  misspelt.erase("model");
  EXPECT_TRUE(contains(error_of([&] { load_config(folder_.write("config.json", misspelt.dump())); }),
                       "modle: unknown key; did you mean \"model\"?"));
  EXPECT_TRUE(
      contains(error_with("/model/hiden_size", 64), "model.hiden_size: unknown key; did you mean \"hidden_size\"?"));
  EXPECT_TRUE(contains(error_with("/t5/maxlength", 64), "t5.maxlength: unknown key; did you mean \"max_length\"?"));
}

TEST_F(ConfigTest, WrongTypesAreNamedWithWhatWasFound) {
  EXPECT_TRUE(contains(error_with("/sampling_option/num_steps", "50"),
                       "sampling_option.num_steps: expected an integer from 1 to 10000, found \"50\""));
  EXPECT_TRUE(contains(error_with("/sampling_option/num_steps", 1.5), "found 1.5"));
  EXPECT_TRUE(
      contains(error_with("/sampling_option/shift", 1), "sampling_option.shift: expected true or false, found 1"));
  EXPECT_TRUE(contains(error_with("/sampling_option/guidance", "7"), "sampling_option.guidance: expected a number"));
  EXPECT_TRUE(
      contains(error_with("/sampling_option/resolution", 256), "sampling_option.resolution: expected a string"));
  EXPECT_TRUE(contains(error_with("/sampling_option/seed", -1), "sampling_option.seed: expected an integer"));
  EXPECT_TRUE(contains(error_with("/model/axes_dim", "16"), "model.axes_dim: expected a list of integers"));
  EXPECT_TRUE(contains(error_with("/model", json::array()), "model: expected an object, found []"));
  EXPECT_TRUE(contains(error_with("/model/hidden_size", nullptr), "found null"));
}

TEST_F(ConfigTest, ValuesOutOfRangeAreRefused) {
  const std::vector<std::pair<std::string, json>> values = {
      {"/sampling_option/num_frames", 0},
      {"/sampling_option/num_steps", 0},
      {"/sampling_option/num_steps", 18446744073709551615ULL},
      {"/sampling_option/height", -16},
      {"/sampling_option/width", 0},
      {"/sampling_option/flow_shift", 0},
      {"/sampling_option/temporal_reduction", 8},
      {"/sampling_option/method", "euler"},
      {"/model/hidden_size", 3071},
      {"/model/num_heads", 0},
      {"/model/axes_dim", {16, 56}},
      {"/model/axes_dim", {16, 56, 58}},
      {"/model/axes_dim", {17, 55, 56}},
      {"/model/mlp_ratio", -1},
      {"/model/in_channels", 65},
      {"/model/type", "sd3"},
      {"/ae/block_out_channels", {128, 256, 511, 512}},
      {"/ae/block_out_channels", {128}},
      {"/ae/block_out_channels", json::array()},
      {"/ae/in_channels", 4},
      {"/ae/scale_factor", 0},
      {"/ae/sample_size", 250},
      {"/ae/tile_overlap_factor", 1.0},
      {"/clip/max_length", 1},
      {"/fps_save", 0},
      {"/fps_save", 1000.5},
      {"/fps_save", -24},
      {"/fps_save", "24/0"},
      {"/fps_save", "fast"},
      {"/fps_save", true},
      {"/fps_save", json::array({24})},
      {"/sampling_option/guidance", 1000.5},
      {"/sampling_option/guidance_img", -1e9},
      {"/sampling_option/flow_shift", 1e300},
      {"/sampling_option/num_steps", 10001},
      {"/sampling_option/num_frames", 100001},
      {"/sampling_option/width", 16385},
      {"/cond_type", "v2v_head_half"},
      {"/patch_size", 1},
      {"/ae_spatial_compression", 8},
  };
  for (const auto& [pointer, value] : values) {
    const std::string error = error_with(pointer, value);
    std::string key = pointer.substr(1);
    if (const size_t slash = key.find('/'); slash != std::string::npos) key[slash] = '.';
    EXPECT_TRUE(contains(error, "config.json: " + key + ": expected "));
    EXPECT_TRUE(contains(error, "found "));
  }
}

TEST_F(ConfigTest, PartsThatCannotRunYetAreSaidPlainly) {
  EXPECT_TRUE(contains(error_with("/ae", {{"type", "vqgan"}}), "dc_ae"));
  EXPECT_TRUE(contains(error_with("/use_t2i2v", true), "use_t2i2v: img_flux and img_flux_ae are missing"));
  EXPECT_EQ(load_with("/cond_type", "i2v_head").cond_type, "i2v_head");
}

TEST_F(ConfigTest, SyntaxErrorsNameFileLineAndColumn) {
  const auto file = folder_.write("broken.json", "{\n  \"dtype\": bf16\n}");
  const std::string error = error_of([&] { load_config(file); });
  EXPECT_TRUE(contains(error, file.string() + ": not valid JSON: parse error at line 2, column 12"));
  EXPECT_TRUE(contains(error_of([&] { load_config(folder_.write("list.json", "[]")); }), "expected a JSON object"));
  EXPECT_TRUE(contains(error_of([&] { load_config(folder_.write("empty.json", "")); }), "not valid JSON"));
  EXPECT_TRUE(
      contains(error_of([&] { load_config(folder_.write("twice.json", R"({"dtype": "bf16", "dtype": "fp16"})")); }),
               "duplicate key \"dtype\""));
  EXPECT_TRUE(contains(error_of([&] { load_config(folder_.write("huge.json", R"({"fps_save": 1e999})")); }),
                       "number overflow"));
  EXPECT_TRUE(
      contains(error_of([&] { load_config(folder_.path() / "absent.json"); }), "absent.json: cannot be read: No such"));
  EXPECT_TRUE(contains(error_of([&] { load_config(folder_.path()); }), "is a folder"));
}

TEST_F(ConfigTest, BasesAreReadFirstAndOverridden) {
  json base = minimal_config();
  base["motion_score"] = "4";
  base["sampling_option"].update({{"num_steps", 10}, {"num_frames", 5}});
  folder_.write("bases/first.json", base.dump());
  folder_.write("bases/second.json", R"({"sampling_option": {"num_steps": 20, "guidance": 2}})");
  const auto file = folder_.write("child.json", R"({
    "_base_": ["bases/first.json", "bases/second.json"],
    "motion_score": null,
    "sampling_option": {"guidance": 3}
  })");
  const Config config = load_config(file);
  EXPECT_EQ(config.sampling.num_frames, 5);
  EXPECT_EQ(config.sampling.num_steps, 20);
  EXPECT_EQ(config.sampling.guidance, 3);
  EXPECT_EQ(config.motion_score, std::nullopt);
}

TEST_F(ConfigTest, AnErrorNamesTheBaseThatHoldsIt) {
  json base = minimal_config();
  base["sampling_option"]["num_stepz"] = 1;
  const auto base_file = folder_.write("base.json", base.dump());
  const auto file = folder_.write("child.json", R"({"_base_": "base.json"})");
  EXPECT_TRUE(
      contains(error_of([&] { load_config(file); }), base_file.string() + ": sampling_option.num_stepz: unknown key"));
}

TEST_F(ConfigTest, WrongBasesAreRefused) {
  const auto circle = folder_.write("circle.json", R"({"_base_": "back.json"})");
  folder_.write("back.json", R"({"_base_": ["circle.json"]})");
  EXPECT_TRUE(contains(error_of([&] { load_config(circle); }), "its own base"));
  EXPECT_TRUE(contains(error_of([&] { load_config(folder_.write("self.json", R"({"_base_": "self.json"})")); }),
                       "its own base"));
  EXPECT_TRUE(
      contains(error_of([&] { load_config(folder_.write("number.json", R"({"_base_": 1})")); }), "_base_: expected"));
  EXPECT_TRUE(contains(error_of([&] { load_config(folder_.write("gone.json", R"({"_base_": "gone/x.json"})")); }),
                       "x.json: cannot be read"));
}

TEST_F(ConfigTest, FindsFilesAndBundledNames) {
  const auto file = folder_.write("mine.json", "{}");
  EXPECT_EQ(find_config(file.string()), file);
  EXPECT_TRUE(std::filesystem::equivalent(bundled_configs_dir(), OPENSORA_CONFIGS));
  EXPECT_TRUE(std::filesystem::equivalent(find_config("256px"), OPENSORA_CONFIGS "/256px.json"));
  const std::string error = error_of([] { find_config("256xp"); });
  EXPECT_TRUE(contains(error, "no configuration \"256xp\""));
  EXPECT_TRUE(contains(error, "did you mean \"256px\"?"));
  EXPECT_TRUE(contains(error, "256px, 720p, 768px"));
}

}  // namespace
}  // namespace opensora
