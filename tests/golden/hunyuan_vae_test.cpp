// HunyuanVAE against the official one: whole, in tiles of space, of time, of both.
#include "autoencoder/hunyuan_vae.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "opensora/config.h"
#include "support/reference.h"

namespace opensora {
namespace {

using autoencoder::Half;
using autoencoder::HunyuanVAE;
using test::Case;
using test::close;

HunyuanVAEConfig tiny_vae(const Case& reference) {
  auto config = std::get<HunyuanVAEConfig>(load_config(test::checkpoint_dir() / "tiny.json").ae);
  const nlohmann::json description = reference.description()["config"];
  config.use_spatial_tiling = description["use_spatial_tiling"];
  config.use_temporal_tiling = description["use_temporal_tiling"];
  return config;
}

class HunyuanVAEGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(HunyuanVAEGolden, Decode) {
  const Case reference(GetParam());
  const HunyuanVAE vae(test::reference_weights("hunyuan_vae.safetensors"), tiny_vae(reference));
  int64_t done = 0, total = -1;
  const at::Tensor out = vae.decode(reference["z"], [&](int64_t d, int64_t t) { done = d, total = t; });
  EXPECT_TRUE(close(out, reference["out"]));
  EXPECT_EQ(done, total) << "progress counts tiles that are not decoded";
}

TEST_P(HunyuanVAEGolden, Encode) {
  const Case reference(GetParam());
  const HunyuanVAE vae(test::reference_weights("hunyuan_vae.safetensors"), tiny_vae(reference), Half::kEncoder);
  int64_t done = 0, total = -1;
  const at::Tensor z =
      vae.encode(reference["in.x"], /*generator=*/{}, [&](int64_t d, int64_t t) { done = d, total = t; });
  EXPECT_TRUE(close(z, reference["z"]));
  EXPECT_EQ(done, total) << "progress counts tiles that are not encoded";
}

INSTANTIATE_TEST_SUITE_P(Cases, HunyuanVAEGolden,
                         ::testing::Values("hunyuan_vae_untiled", "hunyuan_vae_image", "hunyuan_vae_spatial_tiles",
                                           "hunyuan_vae_temporal_tiles", "hunyuan_vae_all_tiles"));

TEST(HunyuanVAE, HalfPrecisionStaysNear) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    const Case reference("hunyuan_vae_untiled");
    const HunyuanVAE vae(test::reference_weights("hunyuan_vae.safetensors", dtype), tiny_vae(reference), Half::kBoth);
    const at::Tensor out = vae.decode(reference["z"]), z = vae.encode(reference["in.x"]);
    EXPECT_EQ(out.scalar_type(), dtype);
    EXPECT_EQ(z.scalar_type(), dtype);
    EXPECT_LT(test::relative_error(out, reference["out"]), dtype == at::kHalf ? 0.02 : 0.1);
    EXPECT_LT(test::relative_error(z, reference["z"]), dtype == at::kHalf ? 0.02 : 0.1);
  }
}

TEST(HunyuanVAE, Moments) {
  const Case reference("hunyuan_vae_untiled");
  const HunyuanVAE vae(test::reference_weights("hunyuan_vae.safetensors"), tiny_vae(reference), Half::kEncoder);
  EXPECT_TRUE(close(vae.encode_moments(reference["in.x"]), reference["moments"]));
}

TEST(HunyuanVAE, DrawsFromThePosterior) {
  const Case reference("hunyuan_vae_untiled");
  const HunyuanVAE vae(test::reference_weights("hunyuan_vae.safetensors"), tiny_vae(reference), Half::kEncoder);
  const auto draw = [&](uint64_t seed) {
    return vae.encode(reference["in.x"], at::make_generator<at::CPUGeneratorImpl>(seed));
  };
  EXPECT_TRUE(at::equal(draw(1), draw(1)));
  EXPECT_FALSE(at::equal(draw(1), draw(2)));

  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(1);
  const std::vector<at::Tensor> moments = reference["moments"].chunk(2, 1);
  const at::Tensor noise = at::randn(moments[0].sizes(), generator, at::TensorOptions());
  EXPECT_TRUE(close(draw(1), (moments[0] + (0.5 * moments[1]).exp() * noise) * vae.config.scale_factor));
}

TEST(HunyuanVAE, LengthsMatchTheModel) {
  const Case reference("hunyuan_vae_untiled");
  const HunyuanVAE vae(test::reference_weights("hunyuan_vae.safetensors"), tiny_vae(reference), Half::kBoth);
  for (const int64_t frames : {1, 5, 9}) {
    const at::Tensor z = vae.encode(at::zeros({1, 3, frames, 16, 24}));
    EXPECT_EQ(z.sizes(), (std::vector<int64_t>{1, 16, vae.latent_frames(frames), 2, 3}));
    EXPECT_EQ(vae.decode(z).sizes(), (std::vector<int64_t>{1, 3, vae.decoded_frames(z.size(2)), 16, 24}));
  }
  EXPECT_EQ(vae.latent_frames(129), 33);
  EXPECT_EQ(vae.latent_frames(4), 2);  // 5 frames, of which 4 are wanted
}

TEST(HunyuanVAE, RefusesWhatItCannotEncodeWhole) {
  const Case reference("hunyuan_vae_untiled");
  const HunyuanVAE vae(test::reference_weights("hunyuan_vae.safetensors"), tiny_vae(reference), Half::kBoth);
  EXPECT_THROW(vae.encode(at::zeros({1, 3, 4, 16, 16})), c10::Error);
  EXPECT_THROW(vae.encode(at::zeros({1, 3, 5, 20, 16})), c10::Error);
  const HunyuanVAE decoder(test::reference_weights("hunyuan_vae.safetensors"), tiny_vae(reference));
  EXPECT_FALSE(decoder.encoder) << "the encoder is bound without having been asked for";
  EXPECT_THROW(decoder.encode(at::zeros({1, 3, 5, 16, 16})), c10::Error);
}

}  // namespace
}  // namespace opensora
