#include "text/encoder_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "opensora/error.h"
#include "support/contains.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora::text {
namespace {

using nlohmann::json;
using test::contains;

class EncoderConfig : public testing::Test {
 protected:
  template <typename Load>
  std::string error_of(Load&& load, const std::string& content) const {
    folder_.write("config.json", content);
    try {
      std::forward<Load>(load)(folder_.path());
    } catch (const CheckpointError& error) {
      EXPECT_TRUE(contains(error.what(), (folder_.path() / "config.json").string() + ": "));
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      return error.what();
    }
    return "no error";
  }
  std::string clip_error(const json& config) const { return error_of(load_clip_config, config.dump()); }
  std::string t5_error(const json& config) const { return error_of(load_t5_config, config.dump()); }

  test::TemporaryFolder folder_;
};

TEST_F(EncoderConfig, NumbersAreWholeAndSane) {
  const std::vector<json> absurd = {
      0.5, 2.0, 0, -1, 1000000000, 1e300, "2", nullptr, true, json::array({2}), 18446744073709551615U, json::object()};
  for (const json& value : absurd) {
    for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                            "num_attention_heads", "max_position_embeddings"}) {
      EXPECT_TRUE(contains(clip_error({{key, value}}), '"' + std::string(key) + "\": expected a whole number from"))
          << value;
    }
    for (const char* key : {"vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads",
                            "relative_attention_num_buckets", "relative_attention_max_distance"}) {
      EXPECT_TRUE(contains(t5_error({{key, value}}), '"' + std::string(key) + "\": expected a whole number from"))
          << value;
    }
  }
  for (const json& value : {json(0), json(-1e-6), json(1), json("1e-5"), json(nullptr)}) {
    EXPECT_TRUE(
        contains(clip_error({{"layer_norm_eps", value}}), "\"layer_norm_eps\": expected a number between 0 and 1"));
    EXPECT_TRUE(
        contains(t5_error({{"layer_norm_epsilon", value}}), "\"layer_norm_epsilon\": expected a number between"));
  }
}

TEST_F(EncoderConfig, AllThatIsWrongIsInOneLine) {
  const std::string error = clip_error({{"num_attention_heads", 0.5}, {"hidden_size", -3}, {"hidden_act", "gelu"}});
  for (const char* part : {"\"num_attention_heads\"", "found 0.5", "\"hidden_size\"", "found -3", "\"quick_gelu\""}) {
    EXPECT_TRUE(contains(error, part));
  }
}

TEST_F(EncoderConfig, PartsFitEachOther) {
  EXPECT_TRUE(contains(clip_error({{"hidden_size", 64}, {"num_attention_heads", 5}}),
                       "\"hidden_size\" (64) is not a multiple of \"num_attention_heads\" (5)"));
  EXPECT_TRUE(contains(t5_error({{"relative_attention_max_distance", 8}}), "is not above a quarter of"));
  EXPECT_TRUE(contains(t5_error({{"feed_forward_proj", "relu"}}), "\"gated-gelu\""));
  EXPECT_TRUE(contains(t5_error({{"feed_forward_proj", 3}}), "\"gated-gelu\""));
}

TEST_F(EncoderConfig, FilesThatAreNoJson) {
  EXPECT_TRUE(contains(error_of(load_t5_config, ""), "not valid JSON"));
  EXPECT_TRUE(contains(error_of(load_t5_config, "[1]"), "not a JSON object"));
  EXPECT_TRUE(contains(error_of(load_clip_config, "{\"hidden_size\": 1e999}"), "number overflow"));
  EXPECT_TRUE(contains(error_of(load_clip_config, "{\"a\": " + std::string(60000, '[') + std::string(60000, ']') + "}"),
                       "nested more than 64 levels"));
  EXPECT_TRUE(contains(error_of(load_clip_config, R"({"d_kv": 1, "d_kv": 2})"), "duplicate key"));
}

TEST_F(EncoderConfig, PublishedOnesAreRead) {
  EXPECT_EQ(clip_error(json::object()), "no error");
  EXPECT_EQ(clip_error({{"text_config", {{"hidden_size", 128}, {"num_attention_heads", 2}}}, {"hidden_act", "other"}}),
            "no error")
      << "the text tower's sizes are in a section of their own";
  EXPECT_EQ(load_t5_config(test::checkpoint_dir() / "google/t5-v1_1-xxl").num_layers, 2);
}

}  // namespace
}  // namespace opensora::text
