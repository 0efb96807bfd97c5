// FLUX's image autoencoder against the official one.
#include "autoencoder/autoencoder_2d.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "support/reference.h"

namespace opensora {
namespace {

using autoencoder::Autoencoder2D;
using autoencoder::Half;
using test::Case;
using test::close;

Autoencoder2D load(Half half, at::ScalarType dtype = at::kFloat) {
  const nlohmann::json description = Case("flux_ae").description()["config"];
  Autoencoder2DConfig config;
  config.ch = description["ch"];
  config.ch_mult = description["ch_mult"].get<std::vector<int64_t>>();
  config.num_res_blocks = description["num_res_blocks"];
  config.z_channels = description["z_channels"];
  config.scale_factor = description["scale_factor"];
  config.shift_factor = description["shift_factor"];
  return {test::reference_weights("flux1-dev-ae.safetensors", dtype), config, half};
}

TEST(Autoencoder2DGolden, Encode) {
  const Case reference("flux_ae");
  const Autoencoder2D ae = load(Half::kEncoder);
  EXPECT_TRUE(close(ae.encode(reference["in.x"]), reference["z"]));
  EXPECT_TRUE(close(ae.encode(reference["in.x"].squeeze(2)), reference["z"].squeeze(2)));
}

TEST(Autoencoder2DGolden, Decode) {
  const Case reference("flux_ae");
  const Autoencoder2D ae = load(Half::kDecoder);
  EXPECT_TRUE(close(ae.decode(reference["z"]), reference["out"]));
  EXPECT_TRUE(close(ae.decode(reference["z"].squeeze(2)), reference["out"].squeeze(2)));
}

TEST(Autoencoder2DModel, AVideoGoesThroughFrameByFrame) {
  const Case reference("flux_ae");
  const Autoencoder2D ae = load(Half::kBoth);
  const at::Tensor frames = at::cat({reference["in.x"], reference["in.x"].flip(4)}, 2);
  int64_t done = 0, total = 0;
  const at::Tensor z = ae.encode(frames, /*generator=*/{}, [&](int64_t d, int64_t t) { done = d, total = t; });
  EXPECT_EQ(done, 2);
  EXPECT_EQ(total, 2);
  EXPECT_EQ(z.size(2), ae.latent_frames(2));
  EXPECT_TRUE(close(z.slice(2, 0, 1), reference["z"]));
  EXPECT_FALSE(close(z.slice(2, 1, 2), reference["z"]));
  EXPECT_EQ(ae.decode(z).sizes(), frames.sizes());
}

TEST(Autoencoder2DModel, DrawsFromThePosterior) {
  const Case reference("flux_ae");
  const Autoencoder2D ae = load(Half::kEncoder);
  const auto draw = [&](uint64_t seed) {
    return ae.encode(reference["in.x"], at::make_generator<at::CPUGeneratorImpl>(seed));
  };
  EXPECT_TRUE(at::equal(draw(1), draw(1)));
  EXPECT_FALSE(at::equal(draw(1), draw(2)));
}

TEST(Autoencoder2DModel, HalfPrecisionStaysNear) {
  const Case reference("flux_ae");
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    const Autoencoder2D ae = load(Half::kBoth, dtype);
    const at::Tensor out = ae.decode(reference["z"]).to(at::kFloat), z = ae.encode(reference["in.x"]).to(at::kFloat);
    const double limit = dtype == at::kHalf ? 0.02 : 0.1;
    EXPECT_LT(((out - reference["out"]).norm() / reference["out"].norm()).item<double>(), limit);
    EXPECT_LT(((z - reference["z"]).norm() / reference["z"].norm()).item<double>(), limit);
  }
}

}  // namespace
}  // namespace opensora
