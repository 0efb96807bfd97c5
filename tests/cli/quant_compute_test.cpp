// --quant-compute: what becomes of 8-bit weights in a run, on CPUs that multiply them and on others, and what is said.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/quantized.h"
#include "nn/quantized_product.h"
#include "support/contains.h"
#include "support/generate_fixture.h"
#include "support/program.h"
#include "support/reference.h"

namespace opensora {
namespace {

using test::contains;
using test::ProgramResult;
using test::operator+;

class QuantCompute : public test::GenerateCommand {
 protected:
  static bool multiplies_int8() { return nn::quantized_product_problem(QuantizedFormat::kInt8, at::kCPU).empty(); }

  // The tiny transformer in "int8" or "fp8".
  std::string weights_in(const std::string& format) const {
    const std::filesystem::path file = folder_.path() / (format + ".safetensors");
    const ProgramResult result = test::run_program(
        {"quantize", test::checkpoint_dir() / "Open_Sora_v2.safetensors", file, "--to", format, "--overwrite"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return file;
  }

  struct Made {
    at::Tensor latent;
    std::string log;
  };
  Made make(const std::vector<std::string>& more, bool is_older_cpu = false) const {
    const std::filesystem::path tensors = folder_.path() / "run.safetensors";
    test::ProgramOptions options;
    if (is_older_cpu) options.environment = {"ONEDNN_MAX_CPU_ISA=AVX2", "ATEN_CPU_CAPABILITY=avx2"};
    const ProgramResult result =
        test::run_program(quick() + test::Arguments{"--overwrite", "--save-tensors", tensors} + more, options);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return {test::saved_latent(tensors), result.err};
  }
};

TEST_F(QuantCompute, DecidesWhetherActivationsAreRounded) {
  const std::string int8 = weights_in("int8");
  const Made weights = make({"--diffusion-model", int8, "--quant-compute", "weights"});
  const Made full = make({"--diffusion-model", int8, "--quant-compute", "full"});
  const Made by_default = make({"--diffusion-model", int8});
  EXPECT_TRUE(at::equal(by_default.latent, full.latent));
  const double error = test::relative_error(full.latent, weights.latent);
  if (multiplies_int8()) {
    EXPECT_TRUE(contains(by_default.log, "weights in int8 are multiplied as they are")) << by_default.log;
    EXPECT_FALSE(contains(full.log, "warning")) << full.log;
    EXPECT_GT(error, 1e-4);
    EXPECT_LT(error, 0.02);
  } else {
    EXPECT_EQ(error, 0);
  }
}

TEST_F(QuantCompute, AnOlderCpuDequantisesAndSaysSo) {
  const std::string int8 = weights_in("int8");
  const Made weights = make({"--diffusion-model", int8, "--quant-compute", "weights"}, /*is_older_cpu=*/true);
  const Made full = make({"--diffusion-model", int8, "--quant-compute", "full"}, /*is_older_cpu=*/true);
  EXPECT_TRUE(at::equal(full.latent, weights.latent));
  EXPECT_TRUE(contains(full.log, "weights in int8 are dequantised as layers run: the CPU has no AVX-512 VNNI"))
      << full.log;
  EXPECT_FALSE(contains(weights.log, "dequantised")) << "as it was told";
}

TEST_F(QuantCompute, FullWithoutAnythingToMultiplyIsAWarning) {
  const Made bf16 = make({"--quant-compute", "full"});
  EXPECT_TRUE(contains(bf16.log, "--quant-compute full has no effect, as no weights are in 8 bits")) << bf16.log;
  const Made fp8 = make({"--diffusion-model", weights_in("fp8"), "--quant-compute", "full"});
  EXPECT_TRUE(contains(fp8.log, "the CPU has no products of fp8 (e4m3)")) << fp8.log;
}

TEST_F(QuantCompute, IsRecordedWhereItIsGiven) {
  const std::string int8 = weights_in("int8");
  const auto recorded = [&](const std::vector<std::string>& more) {
    make(test::Arguments{"--diffusion-model", int8, "--sidecar"} + more);
    return test::read_file(folder_.path() / "out.json");
  };
  EXPECT_TRUE(contains(recorded({"--quant-compute", "weights"}), "\"quant_compute\""));
  EXPECT_FALSE(contains(recorded({}), "quant"));
}

}  // namespace
}  // namespace opensora
