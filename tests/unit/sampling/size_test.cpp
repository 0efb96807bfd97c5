#include "sampling/size.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>

#include "core/text.h"
#include "opensora/error.h"
#include "support/contains.h"

namespace opensora::sampling {

void PrintTo(const PixelSize& size, std::ostream* out) { *out << size.height << "x" << size.width << " (h x w)"; }

namespace {

template <typename Call>
std::string usage_error(Call call) {
  try {
    call();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Size, AgreesWithTheOfficialTableInEveryRow) {
  std::ifstream file(OPENSORA_TEST_DATA "/reference/cases/sampling.json");
  const nlohmann::json rows = nlohmann::json::parse(file).at("sizes");
  ASSERT_EQ(rows.size(), 252U);
  for (const nlohmann::json& row : rows) {
    const PixelSize expected{row.at("width"), row.at("height")};
    EXPECT_EQ(image_size(row.at("resolution"), row.at("aspect_ratio"), row.at("ae_spatial_compression")), expected)
        << row;
  }
}

TEST(Size, KnowsTheUsualNames) {
  EXPECT_EQ(image_size("720p", "16:9"), (PixelSize{1280, 720}));
  EXPECT_EQ(image_size("768px", "16:9"), (PixelSize{1024, 576}));
  for (const std::string& resolution : known_resolutions()) {
    for (const std::string& ratio : known_aspect_ratios()) {
      for (const int64_t multiple : {16, 32}) {
        const PixelSize size = image_size(resolution, ratio, multiple);
        EXPECT_TRUE(size.height > 0 && size.width > 0) << resolution << " " << ratio;
        EXPECT_EQ(round_up(size, multiple), size) << resolution << " " << ratio;
      }
    }
  }
}

TEST(Size, RefusesUnknownNamesAndListsTheKnown) {
  const std::string resolution = usage_error([] { image_size("721p", "16:9"); });
  EXPECT_TRUE(test::contains(resolution, "unknown resolution \"721p\"; did you mean \"720p\"?"));
  EXPECT_TRUE(test::contains(resolution, "256px, 360p, 480p"));
  const std::string ratio = usage_error([] { image_size("256px", "16x9"); });
  EXPECT_TRUE(test::contains(ratio, "unknown aspect ratio \"16x9\"; did you mean \"16:9\"?"));
  EXPECT_TRUE(test::contains(ratio, "2.39:1"));
  EXPECT_THROW(image_size("", "16:9"), UsageError);
  EXPECT_THROW(image_size("256px", ""), UsageError);
}

TEST(Size, RoundsUpToAMultiple) {
  EXPECT_EQ(round_up({64, 64}, 16), (PixelSize{64, 64}));
  EXPECT_EQ(round_up({65, 1}, 16), (PixelSize{80, 16}));
  EXPECT_EQ(round_up({720, 704}, 32), (PixelSize{736, 704}));
}

TEST(Size, CountsLatentFrames) {
  EXPECT_EQ(latent_frames(1, 4), 1);
  EXPECT_EQ(latent_frames(33, 4), 9);
  EXPECT_EQ(latent_frames(129, 4), 33);
  EXPECT_EQ(latent_frames(128, 4), 32);
}

TEST(Size, NamesTheNearestNumbersOfFrames) {
  EXPECT_NO_THROW(check_num_frames(1, 4));
  EXPECT_NO_THROW(check_num_frames(129, 4));
  const std::string error = usage_error([] { check_num_frames(128, 4); });
  EXPECT_TRUE(test::contains(error, "found 128; the nearest are 125 and 129"));
  EXPECT_TRUE(test::contains(usage_error([] { check_num_frames(2, 4); }), "1 and 5"));
  EXPECT_TRUE(test::contains(usage_error([] { check_num_frames(0, 4); }), "at least 1"));
}

TEST(NearestName, FindsTheSmallestDistance) {
  const std::vector<std::string> known = {"num_frames", "num_steps", "guidance", "guidance_img", "ae"};
  EXPECT_EQ(nearest_name("num_stepz", known), "num_steps");
  EXPECT_EQ(nearest_name("steps", known), "num_steps");
  EXPECT_EQ(nearest_name("guidence", known), "guidance");
  EXPECT_EQ(nearest_name("guidance_image", known), "guidance_img");
  EXPECT_EQ(nearest_name("ea", known), "ae");
  EXPECT_EQ(nearest_name("completely_else", known), std::nullopt);
  EXPECT_EQ(nearest_name("x", {}), std::nullopt);
  EXPECT_EQ(nearest_name("nmu_steps", known), "num_steps") << "neighbours that changed places are one slip";
  EXPECT_EQ(nearest_name("frames", known), "num_frames");
  EXPECT_EQ(nearest_name("guide", known), std::nullopt);
  EXPECT_EQ(nearest_name("num", known), std::nullopt) << "of which of the two?";
  const std::vector<std::string> flags = {"--codec", "--crf", "--from", "--num-samples", "--quiet", "--seed"};
  for (const char* other : {"--model", "--lora", "--force", "--sampler", "--quantize", "--size"}) {
    EXPECT_EQ(nearest_name(other, flags), std::nullopt) << other;
  }
  EXPECT_EQ(did_you_mean("num_stepz", known), "; did you mean \"num_steps\"?");
  EXPECT_EQ(did_you_mean("completely_else", known), "");
}

}  // namespace
}  // namespace opensora::sampling
