// TAEHV in place of HunyuanVAE, and for previews: --vae, the model folder, inspect, verify, reconstruct.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/safetensors.h"
#include "opensora/checkpoint.h"
#include "support/contains.h"
#include "support/generate_fixture.h"
#include "support/pytorch_writer.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::Arguments;
using test::operator+;
using test::contains;
using test::ProgramResult;
using test::run_program;

class TaehvFile : public test::GenerateCommand {
 protected:
  static void SetUpTestSuite() {
    shared_ = new test::TemporaryFolder();
    RandomModelsRequest request;
    request.folder = shared_->path();
    request.config = load_config(test::checkpoint_dir() / "tiny.json");
    request.transformer = request.autoencoder = false;
    request.tiny_autoencoder = true;
    write_random_models(request);
  }
  static void TearDownTestSuite() { delete shared_; }

  static fs::path file() { return shared_->path() / "taehv.safetensors"; }
  // Its decoder alone, as torch.save writes it.
  fs::path decoder() const {
    const io::SafetensorsFile whole(file());
    test::NamedTensors tensors;
    for (const auto& [name, info] : whole.tensors()) {
      if (name.starts_with("decoder.")) tensors.emplace_back(name, whole.tensor(name));
    }
    const fs::path path = shared_->path() / "decoder.pth";
    test::save_pytorch(path, tensors);
    return path;
  }
  ProgramResult generate(const std::string& output, const Arguments& more) const {
    return run_program(quick(output) + more);
  }
  nlohmann::json sidecar(const std::string& name) const { return test::read_json(folder_.path() / name); }
  const fs::path picture_ = test::reference_dir() / "cases/reference.png";

  static test::TemporaryFolder* shared_;
};
test::TemporaryFolder* TaehvFile::shared_ = nullptr;

TEST_F(TaehvFile, DecodesInPlaceOfHunyuanVAEAndIsNamedInMetadata) {
  ASSERT_EQ(generate("real.mp4", {"--sidecar"}).exit_code, 0);
  const ProgramResult result = generate("tiny.mp4", {"--vae", file(), "--sidecar"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json real = sidecar("real.json")["checkpoints"], tiny = sidecar("tiny.json")["checkpoints"];
  EXPECT_EQ(tiny["ae"]["file"], "taehv.safetensors");
  EXPECT_NE(tiny["ae"]["identity"], real["ae"]["identity"]);
  EXPECT_EQ(tiny["model"], real["model"]);
  EXPECT_NE(test::read_file(folder_.path() / "real.mp4"), test::read_file(folder_.path() / "tiny.mp4"));
}

TEST_F(TaehvFile, ItsEncoderIsNeededForImages) {
  EXPECT_EQ(generate("a.mp4", {"--vae", file(), "--image", picture_}).exit_code, 0);
  EXPECT_EQ(generate("b.mp4", {"--vae", decoder()}).exit_code, 0) << "text to video needs none";
  expect_error(quick("c.mp4") + Arguments{"--vae", decoder(), "--image", picture_}, 4,
               {"decoder.pth", "without its encoder", "--vae"});
}

TEST_F(TaehvFile, IsRefusedForOtherLatents) {
  const Arguments dc_ae = {"generate", "--model-dir", test::checkpoint_dir(), "--config",
                           test::checkpoint_dir() / "tiny_high_compression.json"};
  expect_error(dc_ae + Arguments{"-p", "rain", "-o", folder_.path() / "x.mp4", "--device", "cpu", "--vae", file()}, 4,
               {"taehv.safetensors", "TAEHV", "a DC-AE"});
}

TEST_F(TaehvFile, ShowsPreviewsWhereItIsInTheModelFolder) {
  const fs::path models = copy_of_checkpoint();
  const auto events_with = [&](const std::string& output, const Arguments& more) {
    Arguments arguments = quick_with(models);
    arguments.back() = folder_.path() / output;
    const ProgramResult result = run_program(
        arguments + Arguments{"--steps", "3", "--preview-every", "1", "--events", folder_.path() / "events"} + more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const std::string events = test::read_file(folder_.path() / "events");
    fs::remove(folder_.path() / "events");
    return events;
  };
  EXPECT_FALSE(contains(events_with("a.mp4", {}), "tiny_autoencoder"));
  fs::copy_file(file(), models / "taehv.safetensors");
  EXPECT_TRUE(contains(events_with("b.mp4", {}), R"("model":"tiny_autoencoder")"));
  EXPECT_FALSE(contains(events_with("c.mp4", {"--preview-every", "0"}), "tiny_autoencoder"));
  EXPECT_EQ(test::read_file(folder_.path() / "a.mp4"), test::read_file(folder_.path() / "b.mp4"));

  fs::remove(models / "taehv.safetensors");
  fs::copy_file(decoder(), models / "taehv.pth");
  EXPECT_TRUE(contains(events_with("d.mp4", {}), R"("model":"tiny_autoencoder")"));
  fs::resize_file(models / "taehv.pth", 1000);
  expect_error(quick_with(models) + Arguments{"--preview-every", "1"}, 4, {"taehv.pth"});
}

TEST_F(TaehvFile, IsInspectedVerifiedAndMeasured) {
  const nlohmann::json info = nlohmann::json::parse(run_program({"inspect", decoder(), "--json"}).out);
  EXPECT_EQ(info["kind"], "TAEHV");
  EXPECT_EQ(
      info["variant"],
      (nlohmann::json{{"encoder", "no"}, {"decoder", "yes"}, {"latent_channels", "16"}, {"deepest_width", "256"}}));

  const fs::path models = copy_of_checkpoint();
  fs::copy_file(decoder(), models / "taehv.pth");
  const ProgramResult verified = run_program({"verify", models, "--config", test::checkpoint_dir() / "tiny.json"});
  EXPECT_EQ(verified.exit_code, 0) << "previews need no encoder: " << verified.out;
  EXPECT_TRUE(contains(verified.out, "tiny_ae: "));

  const ProgramResult result =
      run_program({"reconstruct", picture_, "-o", folder_.path() / "again.png", "--vae", file(), "--config",
                   test::checkpoint_dir() / "tiny.json", "--device", "cpu", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out)["autoencoder"], "taehv");
}

}  // namespace
}  // namespace opensora
