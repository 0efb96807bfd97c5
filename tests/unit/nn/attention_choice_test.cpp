// Kernels of attention are tried before one is preferred: right ones, wrong ones, and ones that throw.
#include "nn/attention_choice.h"

#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "nn/attention.h"
#include "support/contains.h"
#include "support/log_capture.h"

namespace opensora {
namespace {

using nn::AttentionKernel;
using nn::AttentionShape;
using nn::AttentionTrial;

constexpr int64_t kTokens = 300;

AttentionShape shape_of(at::ScalarType dtype) {
  return {.device = at::kCPU, .dtype = dtype, .heads = 3, .tokens = kTokens, .head_dim = 128};
}

at::Tensor plain(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const at::Tensor scores = q.to(at::kFloat).matmul(k.to(at::kFloat).transpose(2, 3)).div(std::sqrt(128.0));
  return scores.softmax(-1).matmul(v.to(at::kFloat)).to(q.scalar_type());
}

at::Tensor without_last_key(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return plain(q, k.narrow(2, 0, kTokens - 1), v.narrow(2, 0, kTokens - 1));
}

at::Tensor not_a_number(const at::Tensor& q, const at::Tensor&, const at::Tensor&) {
  return at::full_like(q, std::numeric_limits<double>::quiet_NaN());
}

at::Tensor no_plan(const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  TORCH_CHECK(false, "cuDNN Frontend error: [cudnn_frontend] Error: No execution plans support the graph.");
}

AttentionTrial tried(const decltype(AttentionKernel::run)& run, at::ScalarType dtype) {
  return nn::try_attention({{"flash", run}}, shape_of(dtype)).at(0);
}

AttentionTrial timed(const std::string& kernel, double seconds) {
  return {.kernel = kernel, .seconds = seconds, .error = 0, .limit = 1, .problem = {}};
}

// Puts LibTorch's order and switches back.
class AttentionChoice : public ::testing::Test {
 protected:
  AttentionChoice()
      : order_(at::globalContext().sDPPriorityOrder()),
        cudnn_(at::globalContext().userEnabledCuDNNSDP()),
        flash_(at::globalContext().userEnabledFlashSDP()) {}
  ~AttentionChoice() override {
    std::vector<int64_t> order;
    for (const at::SDPBackend backend : order_) order.push_back(static_cast<int64_t>(backend));
    at::globalContext().setSDPPriorityOrder(order);
    at::globalContext().setSDPUseCuDNN(cudnn_);
    at::globalContext().setSDPUseFlash(flash_);
  }

 private:
  decltype(at::globalContext().sDPPriorityOrder()) order_;
  bool cudnn_, flash_;
};

TEST_F(AttentionChoice, EveryKernelOfThisCpuAgreesInEachDtype) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const std::vector<AttentionKernel> kernels = nn::allowed_attention(shape_of(dtype));
    ASSERT_FALSE(kernels.empty());
    for (const AttentionTrial& trial : nn::try_attention(kernels, shape_of(dtype))) {
      EXPECT_TRUE(trial.agrees()) << trial.kernel << ": " << trial.error << " > " << trial.limit << trial.problem;
      EXPECT_GT(trial.seconds, 0);
    }
  }
}

TEST_F(AttentionChoice, WrongKernelsDisagree) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    EXPECT_TRUE(tried(plain, dtype).agrees());
    EXPECT_FALSE(tried(without_last_key, dtype).agrees());
    EXPECT_FALSE(tried(not_a_number, dtype).agrees());
    const AttentionTrial thrown = tried(no_plan, dtype);
    EXPECT_FALSE(thrown.agrees());
    EXPECT_TRUE(test::contains(thrown.problem, "No execution plans support the graph"));
    EXPECT_FALSE(test::contains(thrown.problem, "\n"));
  }
}

TEST_F(AttentionChoice, PlainAttentionIsTriedOnlyWhereNoOtherAgrees) {
  const AttentionKernel flash = {"flash", plain}, failing = {"cudnn", no_plan}, math = {"math", plain};
  EXPECT_EQ(nn::try_attention({failing, flash, math}, shape_of(at::kFloat)).size(), 2U);
  const std::vector<AttentionTrial> trials = nn::try_attention({failing, math}, shape_of(at::kFloat));
  ASSERT_EQ(trials.size(), 2U);
  EXPECT_EQ(nn::fastest_attention(trials), "math");
}

TEST_F(AttentionChoice, TheFastestThatAgreesIsTaken) {
  EXPECT_EQ(nn::fastest_attention({timed("cudnn", 3), timed("flash", 2), timed("efficient", 4)}), "flash");
  EXPECT_EQ(nn::fastest_attention({timed("cudnn", 2), timed("flash", 2)}), "cudnn") << "the first of equals";
  EXPECT_EQ(nn::fastest_attention({timed("math", 1), timed("efficient", 9)}), "efficient");
  AttentionTrial wrong = timed("cudnn", 1), thrown = timed("flash", 1);
  wrong.error = 2;
  thrown.problem = "no kernel image";
  EXPECT_EQ(nn::fastest_attention({wrong, thrown, timed("efficient", 5)}), "efficient");
  EXPECT_EQ(nn::fastest_attention({wrong, thrown}), "");
}

TEST_F(AttentionChoice, WhatIsChosenComesFirst) {
  const test::LogCapture log;
  nn::choose_attention(shape_of(at::kBFloat16));
  const auto first = at::globalContext().sDPPriorityOrder().at(0);
  EXPECT_TRUE(first == at::SDPBackend::flash_attention || first == at::SDPBackend::math);
  EXPECT_TRUE(test::contains(log.text(), first == at::SDPBackend::math ? "attention: math (" : "attention: flash ("));
  EXPECT_TRUE(test::contains(log.text(), " at 300 tokens)")) << log.text();
  nn::prefer_attention("efficient");
  EXPECT_EQ(at::globalContext().sDPPriorityOrder().at(0), at::SDPBackend::efficient_attention);
  nn::prefer_fast_attention();
  EXPECT_EQ(at::globalContext().sDPPriorityOrder().at(0), at::SDPBackend::cudnn_attention);
}

TEST_F(AttentionChoice, AFailureOfCudnnsLaterIsSurvived) {
  at::globalContext().setSDPUseCuDNN(true);
  const test::LogCapture log;
  int calls = 0;
  const auto fails_with_cudnn = [&] {
    ++calls;
    if (at::globalContext().userEnabledCuDNNSDP()) no_plan({}, {}, {});
    return at::ones({1});
  };
  EXPECT_EQ(nn::without_failing_cudnn(fails_with_cudnn).item<float>(), 1);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(nn::without_failing_cudnn(fails_with_cudnn).item<float>(), 1);
  EXPECT_EQ(calls, 3) << "it stays off";
  EXPECT_TRUE(test::contains(log.text(), "goes on without cuDNN's kernel")) << log.text();
}

// As where the kernels are tried one by one: what failed is then told of it, and not that nothing else may run.
TEST_F(AttentionChoice, WhereCudnnsIsTheOnlyKernelItsFailureIsThrown) {
  const test::LogCapture log;
  {
    const nn::OnlyAttentionBackend only("cudnn");
    const AttentionTrial trial =
        tried([](const at::Tensor& q, const at::Tensor& k,
                 const at::Tensor& v) { return nn::without_failing_cudnn([&] { return no_plan(q, k, v); }); },
              at::kFloat);
    EXPECT_TRUE(test::contains(trial.problem, "No execution plans support the graph")) << trial.problem;
  }
  EXPECT_FALSE(test::contains(log.text(), "goes on without")) << log.text();
}

TEST_F(AttentionChoice, OtherFailuresAreNotCudnns) {
  at::globalContext().setSDPUseCuDNN(true);
  for (const char* what : {"CUDA error: an illegal memory access was encountered", "CUDA out of memory. cuDNN"}) {
    int calls = 0;
    EXPECT_THROW(nn::without_failing_cudnn([&]() -> at::Tensor {
                   ++calls;
                   TORCH_CHECK(false, what);
                 }),
                 c10::Error);
    EXPECT_EQ(calls, 1) << what;
    EXPECT_TRUE(at::globalContext().userEnabledCuDNNSDP());
  }
}

}  // namespace
}  // namespace opensora
