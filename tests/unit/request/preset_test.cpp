// Presets: what they set, and that all that is given stands above them.
#include "request/preset.h"

#include <gtest/gtest.h>

#include <string>
#include <variant>

#include "request/parameter.h"
#include "support/reference.h"

namespace opensora::request {
namespace {

GenerateRequest resolved(const FlagValues& values) {
  static const Config config = load_config(test::checkpoint_dir() / "tiny.json");
  return resolve(lay_over({{"prompt", "x"}}, values, false), {}, config);
}

bool is_tiled(const GenerateRequest& request) {
  return std::visit([](const auto& ae) { return ae.use_spatial_tiling && ae.use_temporal_tiling; }, request.config.ae);
}

TEST(Presets, SetParametersThatAreThereAndNeitherStepsNorSize) {
  const Parameter& row = *find_parameter("preset");
  const SamplingConfig plain = resolved({}).config.sampling;
  ASSERT_EQ(presets().size(), row.choices.size());
  for (const Preset& preset : presets()) {
    SCOPED_TRACE(preset.name);
    EXPECT_FALSE(preset.values.empty());
    for (const auto& [name, text] : preset.values) {
      const Parameter* parameter = find_parameter(name);
      ASSERT_NE(parameter, nullptr) << name;
      EXPECT_EQ(choice_error(text, parameter->choices.empty() ? std::vector{text} : parameter->choices), "") << name;
    }
    const SamplingConfig sampling = resolved({{"preset", preset.name}}).config.sampling;
    EXPECT_EQ(sampling.num_steps, plain.num_steps);
    EXPECT_EQ(sampling.num_frames, plain.num_frames);
    EXPECT_EQ(sampling.resolution, plain.resolution);
    EXPECT_EQ(sampling.guidance, plain.guidance);
  }
}

TEST(Presets, YieldToAllThatIsGiven) {
  const FlagValues preset = {{"preset", "low-vram"}};
  EXPECT_EQ(resolved({}).offload, "auto");
  EXPECT_EQ(resolved(preset).offload, "block");
  EXPECT_TRUE(is_tiled(resolved(preset)));
  EXPECT_EQ(resolved({{"offload", "none"}, {"preset", "low-vram"}}).offload, "none") << "in whichever order";
  EXPECT_EQ(resolved({{"preset", "low-vram"}, {"offload", "none"}}).offload, "none");
  EXPECT_FALSE(is_tiled(resolved(lay_over(preset, {{"vae-tiling", "false"}}, false)))) << "a row's";
  EXPECT_EQ(resolved({{"preset", "quality"}, {"preset", "low-vram"}}).offload, "block") << "the last one counts";
}

TEST(Presets, StandAboveAnEarlierVideo) {
  const FlagValues video = {{"vae-tiling", "false"}, {"steps", "7"}};
  const GenerateRequest request = resolved(lay_over(video, {{"preset", "low-vram"}}, true));
  EXPECT_TRUE(is_tiled(request));
  EXPECT_EQ(request.config.sampling.num_steps, 7);
}

// As with flags: what excludes another drops it from the layers below.
TEST(Presets, AreLessWhatIsReplaced) {
  EXPECT_EQ(preset_values({{"steps", "3"}}), FlagValues());
  EXPECT_EQ(preset_values({{"preset", "low-vram"}, {"offload", "none"}}), (FlagValues{{"vae-tiling", "true"}}));
  EXPECT_EQ(preset_values({{"speed", "2"}, {"preset", "balanced"}}),
            (FlagValues{{"attention", "exact"}, {"quant-compute", "weights"}}))
      << "of which the cache follows";
  EXPECT_EQ(resolved({{"preset", "balanced"}, {"speed", "2"}}).cache, "none");
  EXPECT_EQ(resolved({{"preset", "balanced"}, {"sampler", "heun"}}).cache, "none");
  EXPECT_EQ(resolved({{"preset", "balanced"}}).cache, resolved({{"cache", "pairs"}}).cache);
}

}  // namespace
}  // namespace opensora::request
