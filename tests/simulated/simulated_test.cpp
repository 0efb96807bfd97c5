#include "simulated/simulated_test.h"

#include "io/safetensors.h"
#include "support/reference.h"

namespace opensora::test {

void SimulatedTest::restart(const simulated::Options& options) {
  simulated::start(options);
  held_before_ = simulated::allocated_bytes();
  pinned_before_ = simulated::pinned_bytes();
}

void SimulatedTest::expect_clean() const {
  EXPECT_EQ(simulated::take_races(), std::vector<std::string>());
  EXPECT_EQ(simulated::allocated_bytes(), held_before_) << "something is left on the device";
  EXPECT_EQ(simulated::pinned_bytes(), pinned_before_) << "something is left in pinned memory";
}

GenerateRequest short_request(const std::filesystem::path& folder, int64_t steps) {
  GenerateRequest request;
  request.prompt = "rain";
  request.model_dir = checkpoint_dir();
  request.config = load_config(checkpoint_dir() / "tiny.json");
  SamplingConfig& sampling = request.config.sampling;
  sampling.resolution = sampling.aspect_ratio = std::nullopt;
  sampling.height = sampling.width = 16;
  sampling.num_frames = 5;
  sampling.num_steps = steps;
  request.seed = 1;
  request.device = kSimulated;
  request.dtype = "fp32";
  request.threads = 1;
  request.output = folder / "video.mp4";
  request.save_tensors = folder / "tensors.safetensors";
  request.overwrite = true;
  return request;
}

std::vector<simulated::Counters> counters_by_step(const GenerateRequest& request, GenerateResult* result) {
  std::vector<simulated::Counters> found;
  const GenerateResult made = generate(request, [&](const Progress& progress) {
    if (progress.stage == "denoise" && progress.done > 0) found.push_back(simulated::counters());
  });
  if (result != nullptr) *result = made;
  return found;
}

void expect_equal_tensors(const std::filesystem::path& file, const std::filesystem::path& expected) {
  const io::SafetensorsFile actual(file), wanted(expected);
  EXPECT_EQ(actual.tensors().size(), wanted.tensors().size());
  for (const auto& [name, info] : wanted.tensors()) {
    EXPECT_TRUE(at::equal(actual.tensor(name), wanted.tensor(name))) << name;
  }
}

}  // namespace opensora::test
