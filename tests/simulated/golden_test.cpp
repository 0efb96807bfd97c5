// The golden cases on the simulated device: every module in every dtype, by selftest's checks, and autoencoders in
// tiles.
#include <c10/core/InferenceMode.h>

#include <variant>

#include "models/model_set.h"
#include "simulated/simulated_test.h"
#include "support/reference.h"
#include "tools/selftest_check.h"

namespace opensora {
namespace {

class SimulatedGolden : public test::SimulatedTest {
 protected:
  void expect_all_ok(const std::vector<tools::SelfCheck>& checks) {
    for (const tools::SelfCheck& check : checks) {
      const tools::Outcome outcome = check.run();
      EXPECT_NE(outcome.verdict, Verdict::kFailed) << check.topic << " " << check.name << ": " << outcome.text;
      if (check.topic == "golden") EXPECT_EQ(outcome.verdict, Verdict::kOk) << check.name << " is skipped";
    }
  }

  const c10::InferenceMode inference_;
};

const tools::Dtypes kAllDtypes = {at::kFloat, at::kBFloat16, at::kHalf};

TEST_F(SimulatedGolden, EveryModuleInEveryDtype) {
  expect_all_ok(tools::golden_checks(test::simulated::device(), kAllDtypes, tools::selftest_data_dir()));
}

TEST_F(SimulatedGolden, AttentionAndOurOwnKernels) {
  expect_all_ok(tools::attention_checks(test::simulated::device(), kAllDtypes));
  expect_all_ok(tools::kernel_checks(test::simulated::device(), kAllDtypes));
}

// The video autoencoder of a configuration, with the tiles of a case.
std::shared_ptr<const autoencoder::Autoencoder> tiled_autoencoder(const char* config_file,
                                                                  const test::Case& reference) {
  models::ModelChoice choice{.model_dir = test::checkpoint_dir(),
                             .config = load_config(test::checkpoint_dir() / config_file)};
  const nlohmann::json description = reference.description()["config"];
  std::visit(
      [&](auto& ae) {
        ae.use_spatial_tiling = description["use_spatial_tiling"];
        ae.use_temporal_tiling = description["use_temporal_tiling"];
        if constexpr (requires { ae.spatial_tile_size; }) {
          ae.spatial_tile_size = description["spatial_tile_size"];
          ae.temporal_tile_size = description["temporal_tile_size"];
        } else {
          ae.sample_size = description["sample_size"];
          ae.sample_tsize = description["sample_tsize"];
        }
      },
      choice.config.ae);
  return models::ModelSet(choice, {.device = test::simulated::device()})
      .autoencoder(Component::kAe, autoencoder::Half::kBoth);
}

struct TiledCase {
  const char *name, *config_file;
  bool encodes, decodes;
};

class SimulatedTiles : public SimulatedGolden, public ::testing::WithParamInterface<TiledCase> {};

TEST_P(SimulatedTiles, AreTheOfficialOnes) {
  constexpr double kFloat16 = 5e-4;  // rounding of what a case stores as float16, relative
  const TiledCase& tiled = GetParam();
  const test::Case reference(tiled.name);
  const auto model = tiled_autoencoder(tiled.config_file, reference);
  const auto input = [&](const char* key) { return reference[key].to(test::simulated::device()); };
  if (tiled.decodes) {
    const double stored = reference.raw("out").scalar_type() == at::kHalf ? kFloat16 : 0;
    EXPECT_TRUE(test::close(model->decode(input("z")).cpu(), reference["out"], 1e-4, 1e-4 + stored));
  }
  if (tiled.encodes) EXPECT_TRUE(test::close(model->encode(input("in.x")).cpu(), reference["z"]));
}

INSTANTIATE_TEST_SUITE_P(Cases, SimulatedTiles,
                         ::testing::Values(TiledCase{"hunyuan_vae_spatial_tiles", "tiny.json", true, true},
                                           TiledCase{"hunyuan_vae_temporal_tiles", "tiny.json", true, true},
                                           TiledCase{"hunyuan_vae_all_tiles", "tiny.json", true, true},
                                           TiledCase{"dc_ae_all_tiles", "tiny_high_compression.json", false, true},
                                           TiledCase{"dc_ae_encode_tiles", "tiny_high_compression.json", true, false}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace opensora
