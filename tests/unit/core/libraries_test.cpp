// What only goes wrong when the libraries meet in one process.
#include <c10/util/Logging.h>
#include <gtest/gtest.h>

namespace opensora {
namespace {

// SentencePiece and LibTorch both export FLAGS_minloglevel. Linked in the wrong order, SentencePiece's object is built
// over LibTorch's flags, and a failed allocation aborts the process instead of throwing.
TEST(Libraries, SentencePieceDoesNotOverwriteLibTorchsFlags) { EXPECT_FALSE(FLAGS_caffe2_use_fatal_for_enforce); }

}  // namespace
}  // namespace opensora
