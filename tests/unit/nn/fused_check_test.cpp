// Kernels are used only where they agree with the plain path: right ones, wrong ones, and one that throws.
#include "nn/fused.h"

#include <gtest/gtest.h>

#include <limits>

#include "nn/quantized_product.h"
#include "support/contains.h"
#include "support/log_capture.h"

namespace opensora {
namespace {

using nn::FusedKernels;

// The CPU's, with a LayerNorm of `kernel`.
FusedKernels with_layer_norm(decltype(FusedKernels::modulated_layer_norm) kernel) {
  FusedKernels kernels = nn::built_kernels(at::kCPU);
  kernels.modulated_layer_norm = kernel;
  return kernels;
}

bool plain_layer_norm(const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale,
                      double eps) {
  nn::plain::modulated_layer_norm(out, x, shift, scale, eps);
  return true;
}

TEST(FusedCheck, TheCpusKernelsAgree) {
  const test::LogCapture log;
  const FusedKernels built = nn::built_kernels(at::kCPU), used = nn::agreeing_kernels(built, at::kCPU);
  EXPECT_EQ(used.modulated_layer_norm, built.modulated_layer_norm);
  EXPECT_EQ(used.rms_norm_rope, built.rms_norm_rope);
  EXPECT_EQ(used.gelu_tanh, built.gelu_tanh);
  EXPECT_EQ(used.quantize_rows, built.quantize_rows);
  EXPECT_EQ(used.rescale_sums, built.rescale_sums);
  EXPECT_EQ(log.text(), "");
  int with_kernel = 0;
  for (const nn::KernelTrial& trial : nn::try_kernels(built, at::kCPU)) with_kernel += trial.has_one;
  EXPECT_EQ(with_kernel, 10) << "five kernels in float32 and bfloat16";
}

TEST(FusedCheck, AWrongKernelIsSwitchedOffAndTheOthersStay) {
  const test::LogCapture log;
  const FusedKernels used =
      nn::agreeing_kernels(with_layer_norm([](const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift,
                                              const at::Tensor& scale, double eps) {
                             plain_layer_norm(out, x, shift, scale, eps);
                             out.select(0, 1).select(0, 4).select(0, 7).add_(0.125);  // one element of the last row
                             return true;
                           }),
                           at::kCPU);
  EXPECT_EQ(used.modulated_layer_norm, nullptr);
  EXPECT_NE(used.rms_norm_rope, nullptr);
  EXPECT_NE(used.gelu_tanh, nullptr);
  EXPECT_TRUE(test::contains(log.text(), "modulated_layer_norm is switched off on cpu: in Float it differs by"))
      << log.text();
}

TEST(FusedCheck, WritingOutsideItsRowsIsWrongToo) {
  const test::LogCapture log;
  const FusedKernels used = nn::agreeing_kernels(
      with_layer_norm(
          [](const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale, double eps) {
            plain_layer_norm(out, x, shift, scale, eps);
            out.as_strided({1}, {1}, out.storage_offset() + out.size(2)).add_(1);  // behind the first row
            return true;
          }),
      at::kCPU);
  EXPECT_EQ(used.modulated_layer_norm, nullptr);
}

TEST(FusedCheck, NanIsWrong) {
  const test::LogCapture log;
  const FusedKernels used =
      nn::agreeing_kernels(with_layer_norm([](const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift,
                                              const at::Tensor& scale, double eps) {
                             plain_layer_norm(out, x, shift, scale, eps);
                             if (out.scalar_type() == at::kHalf) out.fill_(std::numeric_limits<float>::quiet_NaN());
                             return true;
                           }),
                           at::kCPU);
  EXPECT_EQ(used.modulated_layer_norm, nullptr);
  EXPECT_TRUE(test::contains(log.text(), "in Half it differs by inf")) << log.text();
}

TEST(FusedCheck, AKernelThatThrowsIsSwitchedOff) {
  const test::LogCapture log;
  const FusedKernels used = nn::agreeing_kernels(
      with_layer_norm([](const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, double) -> bool {
        throw std::runtime_error("no kernel image");
      }),
      at::kCPU);
  EXPECT_EQ(used.modulated_layer_norm, nullptr);
  EXPECT_TRUE(test::contains(log.text(), "no kernel image")) << log.text();
}

TEST(FusedCheck, ARoundingThatIsAStepOffIsWrong) {
  const test::LogCapture log;
  FusedKernels kernels = nn::built_kernels(at::kCPU);
  kernels.quantize_rows = [](const at::Tensor& q, const at::Tensor& scale, const at::Tensor& x) {
    if (q.scalar_type() != at::kChar) return false;
    nn::plain::quantize_rows(q, scale, x);
    q.select(0, 4).select(0, 3).add_(1);
    return true;
  };
  EXPECT_EQ(nn::agreeing_kernels(kernels, at::kCPU).quantize_rows, nullptr);
  EXPECT_TRUE(test::contains(log.text(), "quantize_rows is switched off on cpu: in Float it differs by")) << log.text();
}

TEST(FusedCheck, ARightKernelOfAnotherKindIsUsed) {
  const test::LogCapture log;
  EXPECT_EQ(nn::agreeing_kernels(with_layer_norm(plain_layer_norm), at::kCPU).modulated_layer_norm, plain_layer_norm);
  EXPECT_EQ(log.text(), "");
}

TEST(FusedCheck, ADeviceWithoutThemHasNone) {
  EXPECT_EQ(nn::built_kernels(at::kCUDA).modulated_layer_norm, nullptr) << "the plug-in was not loaded";
  EXPECT_TRUE(nn::try_kernels({}, at::kCPU).empty());
}

}  // namespace
}  // namespace opensora
