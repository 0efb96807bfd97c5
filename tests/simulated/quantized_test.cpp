// Whole runs from weights in 8 bits and fewer on the simulated device.
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "core/quantized.h"
#include "opensora/quantize.h"
#include "simulated/simulated_test.h"
#include "support/quantized_files.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;

class SimulatedDequantization : public test::SimulatedTest {};

// LibTorch's operators and the CPU's loops agree: in every bit, but for the order of a rotation's sums.
TEST_F(SimulatedDequantization, IsTheCpus) {
  const c10::InferenceMode inference;
  at::manual_seed(1);
  const at::Tensor weight = at::randn({40, 128});
  for (const QuantizedFormat format : {QuantizedFormat::kInt8, QuantizedFormat::kFp8E4M3}) {
    for (const int64_t rotation : {0, 64}) {
      QuantizedTensor matrix = quantized_by_row(weight, format, rotation);
      for (const at::Tensor& scale : {matrix.scale, at::rand({1}), at::rand({40, 4}), at::Tensor()}) {
        matrix.scale = scale;
        QuantizedTensor there = matrix;
        there.data = matrix.data.to(test::simulated::device());
        if (scale.defined()) there.scale = scale.to(test::simulated::device());
        for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
          const at::Tensor actual = dequantized(there, dtype).cpu(), expected = dequantized(matrix, dtype);
          if (rotation == 0) {
            EXPECT_TRUE(actual.equal(expected)) << format_name(format) << dtype;
          } else {
            EXPECT_LT(test::relative_error(actual, expected.to(at::kFloat)), dtype == at::kFloat ? 1e-6 : 1e-3);
          }
        }
      }
    }
  }
}

class SimulatedQuantized : public test::SimulatedTest, public ::testing::WithParamInterface<const char*> {
 protected:
  // A run whose transformer and T5 are in 8 bits.
  GenerateRequest quantized_request() {
    GenerateRequest request = test::short_request(folder_.path());
    const auto in_8_bits = [&](const char* model, const char* name) {
      fs::path file = folder_.path() / name;
      if (GetParam() == std::string("gguf")) {
        const bool is_t5 = model != std::string("Open_Sora_v2.safetensors");
        test::write_gguf(file, test::all_weights(test::checkpoint_dir() / model), QuantizedFormat::kQ5_K,
                         is_t5 ? "t5encoder" : "flux");
        return file;
      }
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
  request.quant_compute = "weights";  // products of 8-bit numbers differ between devices
  const auto latent = [&](const char* offload) {
    request.offload = offload;
    generate(request);
    return test::saved_latent(request.save_tensors);
  };
  const at::Tensor resident = latent("none");
  for (const char* offload : {"model", "block"}) EXPECT_TRUE(at::equal(latent(offload), resident)) << offload;
  request.device = "cpu";
  EXPECT_TRUE(test::close(resident, latent("block"), 1e-4, 1e-4));
  request.device = test::kSimulated;
  request.quant_compute = "full";
  const at::Tensor rounded = latent("none");
  EXPECT_TRUE(at::equal(latent("block"), rounded));
  const double error = test::relative_error(rounded, resident);
  const bool has_products = GetParam() != std::string("gguf");
  EXPECT_EQ(error > 1e-4, has_products) << "whether activations were rounded";
  EXPECT_LT(error, GetParam() == std::string("int8") ? 0.02 : 0.06);
}

INSTANTIATE_TEST_SUITE_P(Formats, SimulatedQuantized, ::testing::Values("int8", "fp8", "gguf"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace opensora
