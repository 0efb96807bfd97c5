// What a stage says where memory runs out in it.
#include "run/stage.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <string>

#include "opensora/error.h"
#include "support/contains.h"

namespace opensora::run {
namespace {

using test::contains;

const at::Device kGpu(at::kCUDA, 0);

TEST(StageClock, NamesTheStageWhereMemoryRanOutInAnyWords) {
  StageClock clock(at::kCPU, {});
  try {
    clock.run("decode", [] { TORCH_CHECK(false, "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"); });
    FAIL() << "nothing was thrown";
  } catch (const OutOfMemoryError& error) {
    EXPECT_TRUE(contains(error.what(), "out of memory, in the stage \"decode\"; peak so far ")) << error.what();
    EXPECT_TRUE(contains(error.what(), " resident; try `vae_tiling`, a smaller size")) << error.what();
  }
}

TEST(FlagsThatHelp, AreThoseOfTheStageAndTheDevice) {
  EXPECT_TRUE(contains(flags_that_help("denoise", kGpu), "`offload` block"));
  EXPECT_TRUE(contains(flags_that_help("denoise", at::kCPU), "`offload` model"));
  EXPECT_TRUE(contains(flags_that_help("decode", kGpu), "`vae_tiling`"));
  const std::string text = flags_that_help("text", kGpu);
  EXPECT_TRUE(contains(text, "`offload` block")) << text;
  EXPECT_TRUE(contains(text, "encode-text with `device` cpu (`text_embeddings`)")) << text;
  EXPECT_FALSE(contains(text, "fewer frames")) << text;
  EXPECT_TRUE(contains(flags_that_help("text", at::kCPU), "`text_embeddings`"));
}

// A text is of no size, and encode-text has no flags for what reads its files.
TEST(FlagsThatHelp, OfEncodeTextAreItsOwn) {
  EXPECT_EQ(flags_that_help("t5", kGpu), "`dtype` bf16 or `device` cpu");
  for (const char* stage : {"t5", "clip"}) {
    const std::string flags = flags_that_help(stage, at::kCPU);
    EXPECT_FALSE(contains(flags, "frames") || contains(flags, "text_embeddings")) << flags;
    EXPECT_TRUE(contains(flags, "a machine with more memory")) << flags;
  }
}

}  // namespace
}  // namespace opensora::run
