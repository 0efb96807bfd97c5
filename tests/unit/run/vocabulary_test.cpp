// What a prompt says that a model of few words does not know, and durations in words.
#include "run/text_stage.h"

#include <gtest/gtest.h>

#include "core/units.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/log_capture.h"
#include "support/temporary_folder.h"
#include "text/prompt.h"

namespace opensora {
namespace {

using Words = std::vector<std::string>;

const Config& demo() {
  static const Config config = load_config(std::string(OPENSORA_CONFIGS) + "/demo/config.json");
  return config;
}

TEST(Vocabulary, OfTheDemoModel) {
  ASSERT_TRUE(demo().vocabulary);
  const auto unknown = [](const std::string& prompt) { return run::unknown_words(*demo().vocabulary, prompt); };
  EXPECT_EQ(unknown("A red CIRCLE, moving right: on a blue background. 24 FPS. 4 motion score."), Words{});
  EXPECT_EQ(unknown(""), Words{});
  EXPECT_EQ(unknown("a cat playing piano, a Cat"), (Words{"cat", "playing", "piano"}));
  EXPECT_EQ(unknown("ein rotes Quadrat über circle"), (Words{"ein", "rotes", "quadrat", "über"}));
  EXPECT_EQ(unknown("redcircle"), Words{"redcircle"});
}

TEST(Vocabulary, OneLineForAllPrompts) {
  const test::LogCapture log;
  run::warn_of_unknown_words(demo(), {"a red circle", "raining, sea", "a cat", "sea of glass, waves and wind"});
  EXPECT_TRUE(test::contains(log.text(), "the demo model knows coloured shapes"));
  EXPECT_TRUE(test::contains(log.text(), "\"raining\", \"sea\", \"cat\", \"glass\", \"waves\", …"));
  EXPECT_TRUE(test::contains(log.text(), "Real videos"));
  EXPECT_EQ(log.text().find('\n'), log.text().size() - 1);
}

TEST(Vocabulary, NoneIsNoLine) {
  const test::LogCapture log;
  Config config = demo();
  run::warn_of_unknown_words(config, {"a red circle"});
  config.vocabulary.reset();
  run::warn_of_unknown_words(config, {"a cat"});
  EXPECT_EQ(log.text(), "");
}

TEST(Vocabulary, KeysOfTheConfiguration) {
  const test::TemporaryFolder folder;
  const auto load = [&](const std::string& keys) {
    const std::string base = std::string(OPENSORA_CONFIGS) + "/demo/config.json";
    return load_config(folder.write("c.json", R"({"_base_": ")" + base + "\", " + keys + "}"));
  };
  EXPECT_EQ(demo().output_size->width, 512);
  EXPECT_FALSE(load(R"("output_size": null)").output_size);
  EXPECT_FALSE(load(R"("vocabulary": null)").vocabulary);
  EXPECT_EQ(load(R"("output_size": "640x360")").output_size->height, 360);
  for (const char* wrong :
       {R"("output_size": "512")", R"("output_size": "0x512")", R"("output_size": "512x99999")",
        R"("output_size": [512, 512])", R"("vocabulary": {"words": "red"})",
        R"("vocabulary": {"_delete_": true, "words": ["red"]})", R"("vocabulary": {"word": ["red"]})"}) {
    EXPECT_THROW(load(wrong), UsageError) << wrong;
  }
}

TEST(Prompt, SuffixesComeOff) {
  for (const char* prompt : {"a red circle", "a dog. 30 FPS.", "ends so."}) {
    const std::string whole = text::add_suffixes(prompt, 24, "4");
    EXPECT_EQ(text::add_suffixes(text::without_suffixes(whole, 24, "4"), 24, "4"), whole);
  }
  EXPECT_EQ(text::without_suffixes("a. 24 FPS. 4 motion score.", 24, "4"), "a.");
  EXPECT_EQ(text::without_suffixes("a. 24 FPS.", 24, std::nullopt), "a.");
  EXPECT_EQ(text::without_suffixes("as it is", 24, "4"), "as it is");
}

TEST(Duration, AsExactAsAGuess) {
  EXPECT_EQ(format_duration(0.01), "1 s");
  EXPECT_EQ(format_duration(59.6), "60 s");
  EXPECT_EQ(format_duration(240), "4 min");
  EXPECT_EQ(format_duration(3 * 3600 + 1200), "3 h 20 min");
  EXPECT_EQ(format_duration(20 * 3600), "20 h");
  EXPECT_EQ(format_duration(12.0 * 86400), "12 days");
  EXPECT_FALSE(local_time_in(1e300).empty());
}

}  // namespace
}  // namespace opensora
