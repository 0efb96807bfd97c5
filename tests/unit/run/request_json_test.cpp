// A request as JSON, and back again by way of flags.
#include "run/metadata.h"

#include <gtest/gtest.h>

#include <random>

#include "media/sha256.h"
#include "opensora/error.h"
#include "request/settings.h"
#include "support/contains.h"
#include "support/temporary_folder.h"

namespace opensora::run {
namespace {

using nlohmann::ordered_json;
using request::FlagValues;
using test::contains;

class RequestJson : public ::testing::Test {
 protected:
  static Config config(const std::string& name) {
    return load_config(std::filesystem::path(OPENSORA_CONFIGS) / (name + ".json"));
  }

  // Flags -> request -> JSON -> flags -> request -> JSON.
  void expect_round_trip(const std::string& name, FlagValues flags) const {
    flags.insert(flags.end(), {{"output", folder_.path() / "x.mp4"}, {"device", "cpu"}});
    const GenerateRequest request = request::resolve(flags, folder_.path(), config(name));
    const Job job = make_job(request);
    const ordered_json document = video_metadata(job, {});
    FlagValues again = read_request_flags(folder_.write("x.json", document.dump()));
    again.insert(again.end(), {{"output", folder_.path() / "y.mp4"}, {"device", "cpu"}});
    const GenerateRequest second = request::resolve(again, folder_.path(), config(name));
    const Job second_job = make_job(second);
    EXPECT_EQ(request_json(second_job).dump(), request_json(job).dump());
    EXPECT_EQ(content_key(second_job, {}), content_key(job, {}));
  }

  test::TemporaryFolder folder_;
};

TEST_F(RequestJson, RoundTrips) {
  const std::string a = folder_.write("a.png", "a"), b = folder_.write("b;,\" ü.png", "b");
  const std::string v = folder_.write("v.mp4", "v");
  for (const char* name : {"256px", "768px", "720p", "high_compression", "t2i2v_256px", "t2i2v_768px"}) {
    expect_round_trip(name, {{"prompt", "raining, sea"}, {"seed", "18446744073709551615"}});
    expect_round_trip(name, {{"prompt", "-x \"\n\\ 🚢"}, {"negative-prompt", "--steps"}, {"guidance", "7.000000001"}});
    expect_round_trip(name, {{"prompt", ""}, {"image", a}, {"sample-posterior", "true"}, {"flow-shift", "0.1"}});
    expect_round_trip(name, {{"prompt", "x"}, {"image", a}, {"cond-type", "i2v_tail"}, {"guidance-img", "-1e-300"}});
    expect_round_trip(name, {{"prompt", "x"}, {"image", a}, {"end-image", b}, {"motion-score", "none"}});
    expect_round_trip(name, {{"prompt", "x"}, {"width", "100"}, {"height", "70"}, {"vae-tiling", "false"}});
  }
  expect_round_trip("256px", {{"prompt", "x"}, {"video", v}, {"cond-type", "v2v_tail_easy"}, {"output-size", "9x7"}});
  expect_round_trip("t2i2v_256px", {{"prompt", "x"}, {"aspect-ratio", "9:16"}, {"image-resolution", "512px"}});
  expect_round_trip("t2i2v_256px", {{"prompt", "x"}, {"image-size", "100x200"}, {"text-osci", "false"}});
  expect_round_trip("t2i2v_256px", {{"prompt", "x"}, {"t2i2v", "false"}, {"motion-score", "007.50"}});
}

TEST_F(RequestJson, NumbersComeBackToTheLastBit) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> guidance(1, 10);
  const Config base = config("256px");
  for (int i = 0; i < 300; ++i) {
    ordered_json document = {{"schema_version", 1}, {"program", "opensora"}, {"request", {{"prompt", "x"}}}};
    const double value = guidance(random);
    document["request"]["guidance"] = value;
    const FlagValues flags = read_request_flags(folder_.write("n.json", document.dump()));
    EXPECT_EQ(request::resolve(flags, folder_.path(), base).config.sampling.guidance, value);
  }
}

TEST_F(RequestJson, TheKeyKnowsContentFromPlace) {
  const std::string a = folder_.write("a.png", "a"), same = folder_.write("s.png", "a"),
                    b = folder_.write("b.png", "b");
  const Config base = config("256px");
  const auto key = [&](FlagValues flags, const Config& config, const CheckpointIdentities& checkpoints = {}) {
    flags.insert(flags.begin(), {{"prompt", "x"}, {"seed", "1"}, {"device", "cpu"}});
    const GenerateRequest request = request::resolve(flags, folder_.path(), config);
    return content_key(make_job(request), checkpoints);
  };
  const std::string plain = key({}, base), with_a = key({{"image", a}}, base);
  EXPECT_EQ(plain.size(), 64U);
  EXPECT_EQ(key({{"threads", "3"}, {"overwrite", "true"}, {"output", folder_.path() / "z.mp4"}}, base), plain);
  EXPECT_EQ(key({{"image", same}}, base), with_a);
  EXPECT_NE(key({{"image", b}}, base), with_a);
  for (const FlagValues& flags : {FlagValues{{"seed", "2"}}, {{"crf", "20"}}, {{"steps", "49"}}, {{"dtype", "bf16"}}}) {
    EXPECT_NE(key(flags, base), plain) << flags.front().first;
  }
  Config other = base;
  other.name = "renamed";
  EXPECT_EQ(key({}, other), plain);
  std::get<HunyuanVAEConfig>(other.ae).tile_overlap_factor = 0.125;
  EXPECT_NE(key({}, other), plain);
  EXPECT_NE(key({}, base, {{"model", "m.safetensors", "1"}}), key({}, base, {{"model", "m.safetensors", "2"}}));
  EXPECT_EQ(key({}, base, {{"model", "m.safetensors", "1"}}), key({}, base, {{"model", "n.safetensors", "1"}}));
}

TEST_F(RequestJson, DocumentsThatAreNone) {
  const auto expect_error = [&](const std::string& text, const std::string& part) {
    const auto file = folder_.write("bad.json", text);
    try {
      read_request_flags(file);
      FAIL() << text;
    } catch (const UsageError& error) {
      EXPECT_TRUE(contains(error.what(), part));
      EXPECT_TRUE(contains(error.what(), "bad.json"));
    }
  };
  expect_error("", "not valid JSON");
  expect_error("[1]", "expected the metadata");
  expect_error("{\"program\": \"other\", \"schema_version\": 1, \"request\": {}}", "expected the metadata");
  expect_error("{\"program\": \"opensora\", \"schema_version\": 1}", "expected the metadata");
  expect_error("{\"program\": \"opensora\", \"schema_version\": 2, \"request\": {}}", "schema_version 2");
  EXPECT_THROW(read_request_flags(folder_.path() / "none.json"), UsageError);
}

TEST_F(RequestJson, TheIdentityIsOfContent) {
  std::string data(1 << 20, 'x');
  const auto a = folder_.write("a.bin", data), b = folder_.write("b.bin", data);
  EXPECT_EQ(identity_of({a}), identity_of({b})) << "not of the name";
  EXPECT_NE(identity_of({a}), identity_of({a, b}));
  for (const size_t at : {size_t{0}, size_t{4095}, data.size() - 1, data.size() - 4096}) {
    std::string changed = data;
    changed[at] = 'y';
    EXPECT_NE(identity_of({folder_.write("c.bin", changed)}), identity_of({a})) << at;
  }
  EXPECT_NE(identity_of({folder_.write("c.bin", data + "x")}), identity_of({a}));
  EXPECT_THROW(identity_of({folder_.path() / "none"}), CheckpointError);
  EXPECT_EQ(media::sha256_of_text("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace opensora::run
