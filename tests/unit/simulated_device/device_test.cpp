// The simulated device computes what the CPU does, keeps its memory to itself, counts, and fails when it is told to.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <functional>
#include <string>

#include "core/device.h"
#include "nn/attention.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/simulated_device/simulated_device.h"

namespace opensora::test {
namespace {

constexpr int64_t kPage = 4096;

class SimulatedDevice : public ::testing::Test {
 protected:
  SimulatedDevice() { simulated::start(); }

  at::Tensor pages(int64_t count) const {
    return at::empty({count * kPage}, at::TensorOptions(at::kByte).device(simulated::device()));
  }

  c10::InferenceMode inference_;
  at::Device device_ = simulated::device();
};

std::string torch_error(const std::function<void()>& work) {
  try {
    work();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "";
}

TEST_F(SimulatedDevice, IsFoundByName) {
  EXPECT_EQ(resolve_device("sim"), device_);
  EXPECT_EQ(resolve_device(device_.str()), device_);
  EXPECT_EQ(resolve_device("cpu"), at::kCPU);
  EXPECT_THROW(resolve_device("simulated"), UsageError);
  EXPECT_EQ(resolve_dtype("", device_), at::kBFloat16);
}

TEST_F(SimulatedDevice, ComputesWhatTheCpuDoes) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const at::Tensor a = at::randn({4, 6}).to(dtype), b = at::randn({6, 10}).to(dtype);
    const auto compute = [](const at::Tensor& x, const at::Tensor& y) {
      const at::Tensor product = at::matmul(x, y).add_(1).relu();
      const at::Tensor view = product.narrow(1, 2, 5).transpose(0, 1).unflatten(0, {5, 1});
      return at::cat({at::softmax(view, -1), view.contiguous().select(1, 0).unsqueeze(1)}, -1);
    };
    const at::Tensor here = compute(a.to(device_), b.to(device_));
    EXPECT_EQ(here.device(), device_);
    EXPECT_EQ(here.scalar_type(), dtype);
    EXPECT_TRUE(at::equal(here.cpu(), compute(a, b)));
  }
}

TEST_F(SimulatedDevice, ViewsShareMemory) {
  const at::Tensor x = at::zeros({4, 6}, at::TensorOptions().device(device_));
  x.view({2, 12}).select(0, 1).narrow(0, 0, 3).fill_(1);
  x.unfold(0, 2, 2).select(0, 0).add_(2);  // a view that comes from the CPU's kernel
  const at::Tensor expected = at::zeros({4, 6});
  expected[2].narrow(0, 0, 3).fill_(1);
  expected.narrow(0, 0, 2).add_(2);
  EXPECT_TRUE(at::equal(x.cpu(), expected));
}

TEST_F(SimulatedDevice, MakesOutputsLargeEnough) {
  const at::Tensor a = at::ones({3, 5}, at::TensorOptions().device(device_));
  at::Tensor out = at::empty({0}, a.options());
  at::mm_out(out, a, a.t());
  EXPECT_TRUE(at::equal(out.cpu(), at::full({3, 3}, 5.0F)));
}

TEST_F(SimulatedDevice, ConvolvesAndAttends) {
  const at::Tensor x = at::randn({1, 3, 4, 5, 6}), weight = at::randn({2, 3, 3, 3, 3}), bias = at::randn({2});
  EXPECT_TRUE(at::allclose(at::conv3d(x.to(device_), weight.to(device_), bias.to(device_)).cpu(),
                           at::conv3d(x, weight, bias), 1e-5, 1e-5));
  const auto half = [](const at::Tensor& tensor) { return tensor.to(at::kHalf); };
  EXPECT_TRUE(at::equal(at::conv3d(half(x).to(device_), half(weight).to(device_)).cpu(),
                        half(at::conv3d(half(x).to(at::kFloat), half(weight).to(at::kFloat)))));
  const at::Tensor q = at::randn({1, 2, 7, 16});
  const at::Tensor expected = at::scaled_dot_product_attention(q, q, q);
  for (const char* backend : {"efficient", "math"}) {
    const nn::OnlyAttentionBackend only(backend);
    EXPECT_EQ(nn::attention_backend(device_, at::kFloat, 7, 16), backend);
    const at::Tensor here = q.to(device_);
    EXPECT_TRUE(at::allclose(at::scaled_dot_product_attention(here, here, here).cpu(), expected, 1e-5, 1e-5));
  }
  for (const char* backend : {"cudnn", "flash"}) {
    const nn::OnlyAttentionBackend only(backend);
    EXPECT_EQ(nn::attention_backend(device_, at::kBFloat16, 7, 16), backend);
    EXPECT_EQ(nn::attention_backend(device_, at::kFloat, 7, 16), "none");
    const at::Tensor here = q.to(device_, at::kBFloat16);
    EXPECT_TRUE(
        at::allclose(at::scaled_dot_product_attention(here, here, here).cpu().to(at::kFloat), expected, 2e-2, 2e-2));
  }
}

TEST_F(SimulatedDevice, RefusesTensorsOfTheHost) {
  const at::Tensor here = at::ones({4}, at::TensorOptions().device(device_)), there = at::ones({4});
  EXPECT_TRUE(contains(torch_error([&] { here.add(there); }), "same device"));
  EXPECT_TRUE(contains(torch_error([&] { at::cat({here, there}); }), "same device"));
  EXPECT_TRUE(contains(torch_error([&] { here.index_select(0, at::zeros({2}, at::kLong)); }), "same device"));
  EXPECT_TRUE(contains(torch_error([&] { at::conv1d(here.view({1, 1, 4}), there.view({1, 1, 4})); }), "same device"));
  EXPECT_EQ(here.mul(at::scalar_tensor(3)).sum().item<float>(), 12);  // a number is none
}

TEST_F(SimulatedDevice, RefusesGeneratorsOfTheHost) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>();
  at::Tensor x = at::empty({4}, at::TensorOptions().device(device_));
  EXPECT_TRUE(contains(torch_error([&] { x.normal_(0, 1, generator); }), "aten::normal_: expected a generator"));
  at::manual_seed(1);
  const at::Tensor drawn = at::randn({4}, x.options()).cpu();
  at::manual_seed(1);
  EXPECT_TRUE(at::equal(at::randn({4}), drawn));
}

using SimulatedDeviceDeathTest = SimulatedDevice;

TEST_F(SimulatedDeviceDeathTest, TheHostCannotTouchItsMemory) {
  const at::Tensor x = at::ones({1000}, at::TensorOptions().device(device_));
  const auto* const data = static_cast<const volatile float*>(x.const_data_ptr());
  EXPECT_EXIT(static_cast<void>(data[2]), ::testing::KilledBySignal(SIGSEGV),
              "the host touches the device's memory, 8 bytes into a block of 4096");
}

TEST_F(SimulatedDevice, CountsWhatItDoes) {
  const at::Tensor host = at::ones({1000}), pinned = at::ones({1000}, at::TensorOptions().pinned_memory(true));
  const at::Tensor x = at::empty({1000}, at::TensorOptions().device(device_));
  x.copy_(host);
  x.copy_(pinned, /*non_blocking=*/true);
  x.add_(1).mul_(2);
  const at::Tensor sum = x.sum();
  EXPECT_EQ(sum.item<float>(), 4000);
  pinned.copy_(x, /*non_blocking=*/true);
  synchronize(device_);
  const simulated::Counters counters = simulated::counters();
  EXPECT_EQ(counters.kernels, 3);
  EXPECT_EQ(counters.copies, 4);
  EXPECT_EQ(counters.bytes_to_device, 8000);
  EXPECT_EQ(counters.bytes_to_host, 4004);
  EXPECT_EQ(counters.synchronizations, 3);  // the first copy, the number, the last line
  EXPECT_EQ(counters.device_allocations, 2);
  EXPECT_EQ(simulated::pinned_bytes(), kPage);
}

TEST_F(SimulatedDevice, OperatorsWithAResultForTheHostWait) {
  const at::Tensor x = at::ones({10}, at::TensorOptions().device(device_));
  at::equal(x, x);
  at::nonzero(x);
  EXPECT_EQ(simulated::counters().synchronizations, 2);
}

TEST_F(SimulatedDevice, KeepsFreedMemory) {
  const int64_t before = simulated::allocated_bytes();
  for (int step = 0; step < 3; ++step) {
    const at::Tensor x = pages(1), y = pages(2);
    EXPECT_EQ(simulated::allocated_bytes() - before, 3 * kPage);
  }
  EXPECT_EQ(simulated::allocated_bytes(), before);
  EXPECT_EQ(simulated::peak_allocated_bytes() - before, 3 * kPage);
  EXPECT_EQ(simulated::counters().device_allocations, 2);
  EXPECT_EQ(simulated::reserved_bytes() - before, 3 * kPage);
  EXPECT_EQ(peak_device_bytes(device_), simulated::peak_allocated_bytes());
  release_cached_memory(device_);
  EXPECT_EQ(simulated::reserved_bytes(), before);
}

TEST_F(SimulatedDevice, KeepsFreedMemoryForItsStream) {
  const void* const place = pages(1).storage().data();
  EXPECT_EQ(pages(1).storage().data(), place);
  const c10::OptionalStreamGuard guard(second_stream(device_));
  EXPECT_NE(pages(1).storage().data(), place);
}

TEST_F(SimulatedDevice, HasALimit) {
  const int64_t before = simulated::allocated_bytes();
  simulated::start({.memory_bytes = before + 10 * kPage});
  EXPECT_EQ(at::accelerator::getMemoryInfo(0).first, 10 * kPage);
  { const at::Tensor x = pages(4), y = pages(3); }
  EXPECT_EQ(at::accelerator::getMemoryInfo(0).first, 3 * kPage);
  const at::Tensor x = pages(8);  // the cache makes room
  EXPECT_THROW(pages(3), c10::OutOfMemoryError);
  EXPECT_EQ(simulated::allocated_bytes(), before + 8 * kPage);
}

TEST_F(SimulatedDevice, KeepsToThePartOfItsMemoryThatLibTorchAllows) {
  if (nvidia_gpu_count() > 0) GTEST_SKIP() << "the setting is that of LibTorch's CUDA half";
  simulated::start({.memory_bytes = 2 * simulated::allocated_bytes() + 20 * kPage});
  c10::CachingAllocator::setAllocatorSettings("per_process_memory_fraction:0.5");
  EXPECT_THROW(pages(11), c10::OutOfMemoryError);
  EXPECT_EQ(pages(10).numel(), 10 * kPage);
}

TEST_F(SimulatedDevice, FailsAtTheAllocationThatItIsTold) {
  simulated::start({.failing_allocation = 2});
  const at::Tensor x = pages(1);
  EXPECT_THROW(pages(2), c10::OutOfMemoryError);
  EXPECT_EQ(pages(2).numel(), 2 * kPage);
}

TEST_F(SimulatedDevice, FailsAtTheCopyThatItIsTold) {
  simulated::start({.failing_copy = 2});
  const at::Tensor x = at::ones({4}).to(device_);
  EXPECT_TRUE(contains(torch_error([&] { x.cpu(); }), "CUDA error"));
  EXPECT_TRUE(at::equal(x.cpu(), at::ones({4})));
}

}  // namespace
}  // namespace opensora::test
