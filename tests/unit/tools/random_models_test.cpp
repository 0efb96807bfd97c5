// Model folders of random numbers: the right names and shapes, the same numbers for the same seed, and usable.
#include "opensora/checkpoint.h"

#include <gtest/gtest.h>

#include "io/checkpoint.h"
#include "io/random_checkpoint.h"
#include "opensora/error.h"
#include "support/program.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;

RandomModelsRequest tiny_request(const fs::path& folder) {
  RandomModelsRequest request;
  request.folder = folder;
  request.config = load_config(test::checkpoint_dir() / "tiny.json");
  return request;
}

TEST(RandomModels, HoldWhatTheConfiguredModelsHold) {
  const test::TemporaryFolder folder;
  write_random_models(tiny_request(folder.path()));
  for (const char* name : {"Open_Sora_v2.safetensors", "hunyuan_vae.safetensors"}) {
    const auto random = io::Checkpoint::open(folder.path() / name);
    const auto reference = io::Checkpoint::open(test::checkpoint_dir() / name);
    EXPECT_EQ(random->names(), reference->names()) << name;
    for (const std::string& tensor : random->names()) {
      EXPECT_EQ(random->info(tensor).shape, reference->info(tensor).shape) << tensor;
      EXPECT_EQ(random->info(tensor).dtype, at::kBFloat16) << tensor;
    }
  }
}

TEST(RandomModels, AreTheSameForTheSameSeed) {
  const test::TemporaryFolder folder;
  RandomModelsRequest request = tiny_request(folder.path() / "a");
  request.autoencoder = false;
  const fs::path first = write_random_models(request).front();
  request.folder = folder.path() / "b";
  const fs::path second = write_random_models(request).front();
  request.seed = 1;
  request.folder = folder.path() / "c";
  const fs::path other = write_random_models(request).front();
  EXPECT_EQ(test::read_file(first), test::read_file(second));
  EXPECT_NE(test::read_file(first), test::read_file(other));
}

TEST(RandomModels, PiecesAreThoseOfTheWhole) {
  const MetaSource::Entry tensor{"img_in.weight", {30, 10}};
  const at::Tensor whole = io::random_piece(tensor, 7, 0, 300);
  EXPECT_TRUE(at::equal(io::random_piece(tensor, 7, 100, 200), whole.slice(0, 100, 200)));
  EXPECT_NEAR(whole.std().item<float>(), std::sqrt(1.0 / 10), 0.03);  // a layer's output is of its input's size
  EXPECT_NEAR(whole.mean().item<float>(), 0, 0.05);
  EXPECT_FALSE(at::equal(io::random_piece({"txt_in.weight", {30, 10}}, 7, 0, 300), whole));
  EXPECT_NEAR(io::random_piece({"norm.scale", {300}}, 7, 0, 300).mean().item<float>(), 1, 0.01);
}

TEST(RandomModels, AreNotOverwrittenUnasked) {
  const test::TemporaryFolder folder;
  RandomModelsRequest request = tiny_request(folder.path());
  write_random_models(request);
  EXPECT_THROW(write_random_models(request), OutputError);
  request.overwrite = true;
  EXPECT_NO_THROW(write_random_models(request));
}

TEST(RandomModels, MakeAVideoWithTheirTextEmbeddings) {
  const test::TemporaryFolder folder;
  const std::string config = test::checkpoint_dir() / "tiny.json", models = folder.path() / "models";
  const test::ProgramResult made = test::run_program({"random-model", models, "--config", config, "-p", "sea", "-q"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const test::ProgramResult result = test::run_program({"generate",
                                                        "-p",
                                                        "sea",
                                                        "--model-dir",
                                                        models,
                                                        "--config",
                                                        config,
                                                        "--text-embeddings",
                                                        models + "/embeddings",
                                                        "-W",
                                                        "64",
                                                        "-H",
                                                        "64",
                                                        "--num-frames",
                                                        "1",
                                                        "--steps",
                                                        "2",
                                                        "-o",
                                                        folder.path() / "out.png",
                                                        "--device",
                                                        "cpu",
                                                        "-q"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(fs::exists(folder.path() / "out.png"));
}

}  // namespace
}  // namespace opensora
