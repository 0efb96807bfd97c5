// DC-AE against the official one: whole and in tiles, video and single image.
#include "autoencoder/dc_ae.h"

#include <gtest/gtest.h>

#include "support/reference.h"

namespace opensora {
namespace {

using autoencoder::DCAE;
using autoencoder::Half;
using test::Case;
using test::close;

constexpr double kFloat16 = 5e-4;  // rounding of what a case stores as float16, relative

DCAEConfig tiny_dc_ae(const Case& reference) {
  const nlohmann::json description = reference.description()["config"];
  DCAEConfig config;
  config.latent_channels = description["latent_channels"];
  config.width_list = description["width_list"].get<std::vector<int64_t>>();
  config.encoder_depths = config.decoder_depths = description["depth_list"].get<std::vector<int64_t>>();
  config.use_spatial_tiling = description["use_spatial_tiling"];
  config.use_temporal_tiling = description["use_temporal_tiling"];
  config.spatial_tile_size = description["spatial_tile_size"];
  config.temporal_tile_size = description["temporal_tile_size"];
  config.tile_overlap_factor = description["tile_overlap_factor"];
  return config;
}

DCAE load(const DCAEConfig& config, Half half, at::ScalarType dtype = at::kFloat) {
  return {test::reference_weights("F32T4C128_AE.safetensors", dtype), config, half};
}

class DCAEDecode : public ::testing::TestWithParam<const char*> {};

TEST_P(DCAEDecode, MatchesTheOfficialOne) {
  const Case reference(GetParam());
  const double stored = reference.raw("out").scalar_type() == at::kHalf ? kFloat16 : 0;
  int64_t done = 0, total = -1;
  const at::Tensor out = load(tiny_dc_ae(reference), Half::kDecoder).decode(reference["z"], [&](int64_t d, int64_t t) {
    done = d, total = t;
  });
  EXPECT_TRUE(close(out, reference["out"], 1e-4, 1e-4 + stored));
  EXPECT_EQ(done, total) << "progress counts tiles that are not decoded";
}

INSTANTIATE_TEST_SUITE_P(Cases, DCAEDecode, ::testing::Values("dc_ae_untiled", "dc_ae_image", "dc_ae_all_tiles"));

class DCAEEncode : public ::testing::TestWithParam<const char*> {};

TEST_P(DCAEEncode, MatchesTheOfficialOne) {
  const Case reference(GetParam());
  int64_t done = 0, total = -1;
  const at::Tensor z =
      load(tiny_dc_ae(reference), Half::kEncoder)
          .encode(reference["in.x"], /*generator=*/{}, [&](int64_t d, int64_t t) { done = d, total = t; });
  EXPECT_TRUE(close(z, reference["z"]));
  EXPECT_EQ(done, total) << "progress counts tiles that are not encoded";
}

INSTANTIATE_TEST_SUITE_P(Cases, DCAEEncode, ::testing::Values("dc_ae_untiled", "dc_ae_image", "dc_ae_encode_tiles"));

TEST(DCAEModel, HalfPrecisionStaysNear) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    const Case reference("dc_ae_untiled");
    const DCAE ae = load(tiny_dc_ae(reference), Half::kBoth, dtype);
    const at::Tensor out = ae.decode(reference["z"]), z = ae.encode(reference["in.x"]);
    EXPECT_EQ(out.scalar_type(), dtype);
    EXPECT_EQ(z.scalar_type(), dtype);
    EXPECT_LT(test::relative_error(out, reference["out"]), dtype == at::kHalf ? 0.02 : 0.1);
    EXPECT_LT(test::relative_error(z, reference["z"]), dtype == at::kHalf ? 0.02 : 0.1);
  }
}

TEST(DCAEModel, LengthsMatchTheModel) {
  const DCAE ae = load(tiny_dc_ae(Case("dc_ae_untiled")), Half::kBoth);
  for (const int64_t frames : {1, 8, 12}) {
    const at::Tensor z = ae.encode(at::zeros({1, 3, frames, 32, 64}));
    EXPECT_EQ(z.sizes(), (std::vector<int64_t>{1, 128, ae.latent_frames(frames), 1, 2}));
    EXPECT_EQ(ae.decode(z).sizes(), (std::vector<int64_t>{1, 3, ae.decoded_frames(z.size(2)), 32, 64}));
  }
  EXPECT_EQ(ae.latent_frames(128), 32);
  EXPECT_EQ(ae.latent_frames(3), 2) << "a lone latent frame would make a single frame";
  EXPECT_THROW(ae.encode(at::zeros({1, 3, 6, 32, 32})), c10::Error);
  EXPECT_THROW(ae.encode(at::zeros({1, 3, 4, 48, 32})), c10::Error);
}

// The last tile in time would hold a single latent frame at these lengths: 3k+1 with tiles of 4 every 3.
TEST(DCAEModel, NoFrameIsLostAtALoneTail) {
  DCAEConfig config = tiny_dc_ae(Case("dc_ae_all_tiles"));
  const at::Tensor z = Case("dc_ae_all_tiles")["z"].slice(3, 0, 1).slice(4, 0, 1);
  const DCAE ae = load(config, Half::kBoth);
  for (const int64_t frames : {5, 6, 7}) {
    const at::Tensor latent = at::cat({z, z}, 2).slice(2, 0, frames);
    const at::Tensor video = ae.decode(latent);
    EXPECT_EQ(video.size(2), 4 * frames);
    EXPECT_EQ(ae.encode(video).size(2), frames);
  }
  // With the tail joined, what a tile reads beyond the seam is what it reads without tiles.
  config.use_temporal_tiling = false;
  const at::Tensor last_tile = at::cat({z, z}, 2).slice(2, 3, 7);
  const at::Tensor joined = ae.decode(at::cat({z, z}, 2).slice(2, 0, 7));
  EXPECT_TRUE(close(joined.slice(2, 16), load(config, Half::kDecoder).decode(last_tile).slice(2, 4)));
}

}  // namespace
}  // namespace opensora
