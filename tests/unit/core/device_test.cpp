// What is settled for LibTorch's CUDA half, none of which needs it.
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

}  // namespace
}  // namespace opensora
