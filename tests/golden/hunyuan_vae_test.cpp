// HunyuanVAE's decoder against the official one: whole, in tiles of space, of time, of both.
#include "autoencoder/hunyuan_vae.h"

#include <gtest/gtest.h>

#include "opensora/config.h"
#include "support/reference.h"

namespace opensora {
namespace {

using autoencoder::HunyuanVAE;
using test::Case;
using test::close;

HunyuanVAEConfig tiny_config(const Case& reference) {
  HunyuanVAEConfig config = load_config(test::checkpoint_dir() / "tiny.json").ae;
  const nlohmann::json description = reference.description()["config"];
  config.use_spatial_tiling = description["use_spatial_tiling"];
  config.use_temporal_tiling = description["use_temporal_tiling"];
  return config;
}

class HunyuanVAEGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(HunyuanVAEGolden, Decode) {
  const Case reference(GetParam());
  const HunyuanVAE vae(test::reference_weights("hunyuan_vae.safetensors"), tiny_config(reference));
  int64_t done = 0, total = -1;
  const at::Tensor out = vae.decode(reference["z"], [&](int64_t d, int64_t t) { done = d, total = t; });
  EXPECT_TRUE(close(out, reference["out"]));
  EXPECT_EQ(done, total) << "progress counts tiles that are not decoded";
}

INSTANTIATE_TEST_SUITE_P(Cases, HunyuanVAEGolden,
                         ::testing::Values("hunyuan_vae_untiled", "hunyuan_vae_image", "hunyuan_vae_spatial_tiles",
                                           "hunyuan_vae_temporal_tiles", "hunyuan_vae_all_tiles"));

TEST(HunyuanVAE, HalfPrecisionStaysNear) {
  const Case reference("hunyuan_vae_untiled");
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    const HunyuanVAE vae(test::reference_weights("hunyuan_vae.safetensors", dtype), tiny_config(reference));
    const at::Tensor out = vae.decode(reference["z"]);
    EXPECT_EQ(out.scalar_type(), dtype);
    const at::Tensor error = (out.to(at::kFloat) - reference["out"]).norm() / reference["out"].norm();
    EXPECT_LT(error.item<float>(), dtype == at::kHalf ? 0.02 : 0.1);
  }
}

}  // namespace
}  // namespace opensora
