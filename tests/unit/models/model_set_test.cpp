// The set of a run's models over its sources: files, their headers alone, and none.
#include "models/model_set.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "models/examination.h"
#include "opensora/error.h"
#include "opensora/process.h"
#include "support/reference.h"

namespace opensora::models {
namespace {

using autoencoder::Half;

ModelChoice tiny() { return {test::checkpoint_dir(), load_config(test::checkpoint_dir() / "tiny_t2i2v.json")}; }

// All whose files are there.
const std::vector<Component> kAll = {Component::kModel, Component::kAe,      Component::kClip,
                                     Component::kT5,    Component::kImgFlux, Component::kImgFluxAe};

std::map<std::string, std::vector<int64_t>> shapes(const ModelSet& models, Component component) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const MetaSource::Entry& tensor : models.tensors(component)) shapes[tensor.name] = tensor.shape;
  return shapes;
}

TEST(ModelSet, BindsEveryModelOverEverySource) {
  for (const Source source : {Source::kFiles, Source::kHeaders, Source::kPublished, Source::kRandom}) {
    ModelSet models(tiny(), {.source = source});
    for (const Component component : kAll) EXPECT_NO_THROW(models.bind(component)) << component_name(component);
    const bool has_data = source == Source::kFiles || source == Source::kRandom;
    EXPECT_EQ(models.device(), has_data ? at::kCPU : at::kMeta);
    for (const Component component : kAll) EXPECT_EQ(models.tensors(component).empty(), has_data);
  }
}

TEST(ModelSet, HeadersAreWhatTheModelsAskFor) {
  ModelSet headers(tiny(), {.source = Source::kHeaders}), published(tiny(), {.source = Source::kPublished});
  for (const Component component : {Component::kModel, Component::kAe, Component::kImgFlux, Component::kImgFluxAe}) {
    headers.bind(component);
    published.bind(component);
    EXPECT_EQ(shapes(headers, component), shapes(published, component)) << component_name(component);
  }
}

TEST(ModelSet, LoadsOnceUntilReleasedAndTells) {
  std::vector<std::string> loaded;
  ModelSet models(tiny(), {}, [&](std::string_view model, double /*seconds*/) { loaded.emplace_back(model); });
  const auto first = models.transformer();
  EXPECT_EQ(models.transformer(), first);
  models.release(Component::kModel);
  EXPECT_NE(models.transformer(), first);
  models.transformer(Component::kImgFlux);
  models.bind(Component::kT5);
  EXPECT_EQ(loaded, (std::vector<std::string>{"transformer", "transformer", "flux", "t5"}));
}

TEST(ModelSet, AnAutoencoderOfOtherTilesIsAnother) {
  ModelSet models(tiny());
  HunyuanVAEConfig tiled = std::get<HunyuanVAEConfig>(models.choice().config.ae);
  const auto decoder = models.autoencoder(Component::kAe, Half::kDecoder);
  const auto encoder = models.autoencoder(Component::kAe, Half::kEncoder);
  EXPECT_EQ(models.video_autoencoder(Half::kDecoder, tiled), decoder);
  tiled.use_spatial_tiling = !tiled.use_spatial_tiling;
  EXPECT_NE(models.video_autoencoder(Half::kDecoder, tiled), decoder);
  EXPECT_EQ(models.autoencoder(Component::kAe, Half::kEncoder), encoder);
}

TEST(ModelSet, CountsWhatWouldBeHeldWithoutData) {
  ModelSet models(tiny(), {.source = Source::kHeaders, .device = at::kCUDA, .dtype = at::kBFloat16});
  models.bind(Component::kModel);
  const ModelBytes bytes = models.bytes(Component::kModel);
  int64_t elements = 0, on_host = 0;
  for (const MetaSource::Entry& tensor : models.tensors(Component::kModel)) {
    const std::string& name = tensor.name;
    const bool stays = name.find("mod") != std::string::npos || name.find("adaLN") != std::string::npos ||
                       name.starts_with("time_in") || name.starts_with("vector_in");
    (stays ? on_host : elements) += tensor.elements();
  }
  EXPECT_GT(on_host, 0);
  EXPECT_EQ(bytes.held, 2 * elements);
  EXPECT_EQ(bytes.mapped, 0);
  ModelSet here(tiny(), {.source = Source::kHeaders});
  here.bind(Component::kModel);
  EXPECT_EQ(here.mapped_bytes(), here.bytes(Component::kModel).stored);
  here.release(Component::kModel);
  EXPECT_EQ(here.mapped_bytes(), 0);
}

TEST(ModelSet, SaysWhichWeightsAreMissing) {
  ModelChoice elsewhere = tiny();
  elsewhere.model_dir = "/nonexistent";
  for (const Source source : {Source::kFiles, Source::kHeaders}) {
    ModelSet models(elsewhere, {.source = source});
    for (const Component component : kAll) EXPECT_THROW(models.bind(component), MissingComponentError);
  }
}

// Nothing is wrong with the files then. In a process of its own, as a wish to stop is not taken back.
TEST(ExaminationDeathTest, AWishToStopIsNoProblemOfTheFiles) {
  const auto stopped = [] {
    request_stop(SIGTERM);
    try {
      examine(Component::kT5, tiny());
    } catch (const InterruptedError&) {
      _exit(0);
    }
    _exit(1);
  };
  EXPECT_EXIT(stopped(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace opensora::models
