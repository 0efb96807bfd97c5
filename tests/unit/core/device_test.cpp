// What is settled for LibTorch's CUDA half, and which GPUs can be used, none of which needs one.
#include "core/device.h"

#include <ATen/Context.h>
#include <c10/core/AllocatorConfig.h>
#include <gtest/gtest.h>

namespace opensora {
namespace {

namespace allocator = c10::CachingAllocator;

TEST(CudaSettings, SegmentsGrowAndFloat32IsFloat32) {
  at::globalContext().setBenchmarkCuDNN(true);
  settle_cuda();
  EXPECT_TRUE(allocator::AcceleratorAllocatorConfig::use_expandable_segments());
  EXPECT_FALSE(at::globalContext().benchmarkCuDNN());
  EXPECT_FALSE(at::globalContext().allowTF32CuDNN());
  EXPECT_FALSE(at::globalContext().allowTF32CuBLAS());
}

TEST(CudaSettings, TheEnvironmentsWordOnSegmentsStays) {
  const std::string before = allocator::getAllocatorSettings();
  allocator::setAllocatorSettings("max_split_size_mb:512,expandable_segments:False");
  settle_cuda();
  EXPECT_FALSE(allocator::AcceleratorAllocatorConfig::use_expandable_segments());
  allocator::setAllocatorSettings("max_split_size_mb:512");
  settle_cuda();
  EXPECT_TRUE(allocator::AcceleratorAllocatorConfig::use_expandable_segments());
  EXPECT_EQ(allocator::getAllocatorSettings(), "max_split_size_mb:512,expandable_segments:True");
  allocator::setAllocatorSettings(before);
}

NvidiaDriver driver_with(int capability) {
  return {.problem = {}, .cuda_version = 13000, .gpus = {{.name = "A", .memory_bytes = 1, .capability = capability}}};
}

TEST(UsableGpus, FromTuringOnWithADriverForCuda13) {
  for (const int capability : {75, 80, 86, 89, 90, 100, 120}) EXPECT_EQ(driver_problem(driver_with(capability), 0), "");
  EXPECT_EQ(driver_problem(driver_with(0), 0), "") << "the driver does not tell: LibTorch will";
  EXPECT_NE(driver_problem(driver_with(72), 0), "");
  EXPECT_NE(driver_problem(driver_with(89), 1), "") << "there is one";
  EXPECT_NE(driver_problem({}, 0), "") << "no driver";
  NvidiaDriver driver = driver_with(89);
  driver.cuda_version = 13010;
  EXPECT_EQ(driver_problem(driver, 0), "");
  driver.cuda_version = 12090;
  EXPECT_NE(driver_problem(driver, 0), "");
}

TEST(UsableGpus, TuringIsWarnedOf) {
  EXPECT_NE(gpu_warning(driver_with(75).gpus[0], 0), "");
  EXPECT_EQ(gpu_warning(driver_with(80).gpus[0], 0), "");
  EXPECT_EQ(gpu_warning(driver_with(70).gpus[0], 0), "") << "which cannot be used at all";
}

TEST(UsableGpus, AKernelIsLaunchedOrItsErrorTold) {
  EXPECT_EQ(launch_problem(at::kCPU), "");
  const std::string problem = launch_problem(at::kMeta);
  EXPECT_NE(problem, "") << "a device without numbers";
  EXPECT_EQ(problem.find('\n'), std::string::npos) << problem;
}

}  // namespace
}  // namespace opensora
