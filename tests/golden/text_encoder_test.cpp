// CLIP and T5 against what Hugging Face's models compute.
#include <gtest/gtest.h>

#include "support/reference.h"
#include "text/encoders.h"

namespace opensora {
namespace {

using test::Case;
using test::close;

TEST(TextEncoderGolden, Clip) {
  const Case reference("clip");
  const auto folder = test::checkpoint_dir() / "openai/clip-vit-large-patch14";
  const text::ClipEncoder encoder(test::reference_weights("openai/clip-vit-large-patch14"),
                                  text::load_clip_config(folder));
  const text::ClipEncoder::Output output = encoder.forward(reference.raw("ids"));
  EXPECT_TRUE(close(output.last_hidden_state, reference["last_hidden_state"]));
  EXPECT_TRUE(close(output.pooled, reference["out"]));
}

TEST(TextEncoderGolden, T5) {
  const Case reference("t5");
  const text::T5Config config = text::load_t5_config(test::checkpoint_dir() / "google/t5-v1_1-xxl");
  const text::T5Encoder encoder(test::reference_weights("google/t5-v1_1-xxl"), config);
  EXPECT_TRUE(close(encoder.forward(reference.raw("ids")), reference["out"]));
}

TEST(TextEncoderGolden, T5InHalfPrecisionStaysNear) {
  const Case reference("t5");
  const text::T5Config config = text::load_t5_config(test::checkpoint_dir() / "google/t5-v1_1-xxl");
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    const text::T5Encoder encoder(test::reference_weights("google/t5-v1_1-xxl", dtype), config);
    const at::Tensor out = encoder.forward(reference.raw("ids"));
    EXPECT_EQ(out.scalar_type(), dtype);
    const at::Tensor error = (out.to(at::kFloat) - reference["out"]).norm() / reference["out"].norm();
    EXPECT_LT(error.item<float>(), dtype == at::kHalf ? 0.01 : 0.05);
  }
}

TEST(TextEncoderGolden, T5WhoseBlocksAreStreamed) {
  const Case reference("t5");
  const text::T5Config config = text::load_t5_config(test::checkpoint_dir() / "google/t5-v1_1-xxl");
  const auto checkpoint = io::Checkpoint::open(test::checkpoint_dir() / "google/t5-v1_1-xxl");
  const auto out = [&](const WeightOptions& options) {
    const text::T5Encoder encoder(Weights(checkpoint, at::kCPU, at::kFloat, options), config);
    encoder.forward(reference.raw("ids"));
    return encoder.forward(reference.raw("ids"));  // of blocks that came round again
  };
  const WeightOptions streamed{.residence = Residence::kStreamed, .ahead = 1, .works_on_views = false};
  EXPECT_TRUE(at::equal(out(streamed), out({})));
}

// Batches and single prompts agree: nothing leaks from one row to the next.
TEST(TextEncoderGolden, RowsAreIndependent) {
  const Case reference("clip");
  const auto folder = test::checkpoint_dir() / "openai/clip-vit-large-patch14";
  const text::ClipEncoder encoder(test::reference_weights("openai/clip-vit-large-patch14"),
                                  text::load_clip_config(folder));
  EXPECT_TRUE(close(encoder.forward(reference.raw("ids").slice(0, 2, 3)).pooled, reference["out"].slice(0, 2, 3)));
}

}  // namespace
}  // namespace opensora
