// TAEHV against the original, with weights of random numbers (scripts/taehv_cases.py); and in parts of any length.
#include "autoencoder/taehv.h"

#include <gtest/gtest.h>

#include "core/meta_device.h"
#include "io/random_checkpoint.h"
#include "support/reference.h"

namespace opensora {
namespace {

using autoencoder::Half;
using autoencoder::Taehv;
using test::Case;
using test::close;

Taehv random_taehv(Half half, at::ScalarType dtype = at::kFloat) {
  return Taehv(Weights(std::make_shared<io::RandomSource>(), at::kCPU, dtype), half);
}

// As a whole, and frame by frame through the memories of all blocks.
class TaehvGolden : public ::testing::TestWithParam<int64_t> {
 protected:
  const Case reference_{"taehv"};
};

TEST_P(TaehvGolden, Decode) {
  Taehv taehv = random_taehv(Half::kDecoder);
  taehv.decoder->part_bytes = GetParam();
  int64_t done = 0, total = -1;
  const at::Tensor out = taehv.decode(reference_["in.z"], [&](int64_t d, int64_t t) { done = d, total = t; });
  EXPECT_TRUE(close(out, reference_["out"], 1e-5, 1e-5));
  EXPECT_EQ(done, total);
  EXPECT_EQ(total, GetParam() == 1 ? reference_["in.z"].size(2) : 1);
  EXPECT_TRUE(close(taehv.decode(reference_["in.image_z"]), reference_["image"], 1e-5, 1e-5));
}

TEST_P(TaehvGolden, Encode) {
  Taehv taehv = random_taehv(Half::kEncoder);
  taehv.encoder->part_bytes = GetParam();
  EXPECT_TRUE(close(taehv.encode(reference_["in.x"]), reference_["z"], 1e-5, 1e-5));
  const at::Tensor two = at::cat({reference_["in.x"].flip(2), reference_["in.x"]});
  EXPECT_TRUE(close(taehv.encode(two).narrow(0, 1, 1), reference_["z"], 1e-5, 1e-5)) << "samples have met";
}

INSTANTIATE_TEST_SUITE_P(Parts, TaehvGolden, ::testing::Values(1, autoencoder::kTaehvPartBytes));

TEST(Taehv, HalfPrecisionStaysNear) {
  const Case reference("taehv");
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    const Taehv taehv = random_taehv(Half::kBoth, dtype);
    const at::Tensor out = taehv.decode(reference["in.z"]), z = taehv.encode(reference["in.x"]);
    EXPECT_EQ(out.scalar_type(), dtype);
    EXPECT_EQ(z.scalar_type(), dtype);
    EXPECT_LT(test::relative_error(out, reference["out"]), dtype == at::kHalf ? 0.005 : 0.05);
    EXPECT_LT(test::relative_error(z, reference["z"]), dtype == at::kHalf ? 0.005 : 0.05);
  }
}

TEST(Taehv, LengthsAreThoseOfHunyuanVAE) {
  const Taehv taehv = random_taehv(Half::kBoth);
  for (const int64_t frames : {1, 5, 9}) {
    const at::Tensor z = taehv.encode(at::zeros({1, 3, frames, 16, 24}));
    EXPECT_EQ(z.sizes(), (std::vector<int64_t>{1, 16, taehv.latent_frames(frames), 2, 3}));
    EXPECT_EQ(taehv.decode(z).sizes(), (std::vector<int64_t>{1, 3, frames, 16, 24}));
  }
  EXPECT_EQ(taehv.latent_frames(129), 33);
  EXPECT_EQ(taehv.latent_frames(4), 2);  // 5 frames, of which 4 are wanted
  EXPECT_THROW(taehv.encode(at::zeros({1, 3, 4, 16, 16})), c10::Error);
  EXPECT_THROW(taehv.encode(at::zeros({1, 3, 5, 20, 16})), c10::Error);
  EXPECT_THROW(random_taehv(Half::kDecoder).encode(at::zeros({1, 3, 5, 16, 16})), c10::Error);
}

// What each piece takes, and not the video, decides how much memory is needed.
TEST(Taehv, ALongVideoTakesTheMemoryOfAShortOne) {
  for (const at::DeviceType device : {at::kCPU, at::kCUDA}) {
    MetaDevice meta(device);
    const Weights weights(std::make_shared<MetaSource>(), at::kMeta, at::kBFloat16, {.stands_for = device});
    const Taehv taehv(weights, Half::kDecoder);
    const auto peak = [&](int64_t frames) {
      const at::Tensor z = at::empty({1, 16, frames, 64, 64}, at::TensorOptions().device(at::kMeta));
      meta.reset_peak();
      const int64_t before = meta.live_bytes();
      int64_t decoded = 0;
      taehv.decode_pieces(z, [&](const autoencoder::Piece& piece) { decoded += piece.values.size(2); });
      EXPECT_EQ(decoded, taehv.decoded_frames(frames));
      return meta.peak_bytes() - before;
    };
    const int64_t once = peak(16), longer = peak(64);
    EXPECT_LT(static_cast<double>(longer), 1.1 * static_cast<double>(once)) << at::DeviceTypeName(device);
    EXPECT_LT(longer, int64_t{600} << 20);
  }
}

}  // namespace
}  // namespace opensora
