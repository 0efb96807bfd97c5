// Whole runs from weights in 8 bits on the simulated device.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "io/safetensors.h"
#include "opensora/quantize.h"
#include "simulated/simulated_test.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;

at::Tensor latent_of(const fs::path& tensors) {
  return io::SafetensorsFile(tensors).tensor("latent").to(at::kFloat).clone();
}

class SimulatedQuantized : public test::SimulatedTest, public ::testing::WithParamInterface<const char*> {
 protected:
  // A run whose transformer and T5 are in 8 bits.
  GenerateRequest quantized_request() {
    GenerateRequest request = test::short_request(folder_.path());
    const auto in_8_bits = [&](const char* model, const char* name) {
      fs::path file = folder_.path() / name;
      quantize({.input = test::checkpoint_dir() / model,
                .output = file,
                .to = GetParam(),
                .rotate = GetParam() == std::string("int8"),
                .overwrite = true});
      return file;
    };
    request.files.diffusion_model = in_8_bits("Open_Sora_v2.safetensors", "transformer.safetensors");
    request.files.t5xxl = in_8_bits("google/t5-v1_1-xxl", "t5.safetensors");
    return request;
  }
  test::TemporaryFolder folder_;
};

TEST_P(SimulatedQuantized, RunsAreTheSameWhereverTheWeightsAreAndNearTheCpus) {
  GenerateRequest request = quantized_request();
  request.offload = "none";
  generate(request);
  const at::Tensor resident = latent_of(request.save_tensors);
  for (const char* offload : {"model", "block"}) {
    request.offload = offload;
    generate(request);
    EXPECT_TRUE(at::equal(latent_of(request.save_tensors), resident)) << offload;
  }
  request.device = "cpu";
  generate(request);
  EXPECT_TRUE(test::close(resident, latent_of(request.save_tensors), 1e-4, 1e-4));
}

INSTANTIATE_TEST_SUITE_P(Formats, SimulatedQuantized, ::testing::Values("int8", "fp8"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace opensora
