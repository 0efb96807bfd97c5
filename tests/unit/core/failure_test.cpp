// What exceptions come to: exit codes, one line, and memory that ran out in whatever words.
#include "core/failure.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <new>
#include <system_error>

#include "support/contains.h"

namespace opensora {
namespace {

using test::contains;

template <typename Work>
Failure failure_of(Work&& work) {
  try {
    work();
  } catch (...) {
    return describe_failure(std::current_exception());
  }
  return {.code = 0, .message = "no failure", .flags = {}, .detail = {}};
}

template <typename Exception>
Failure failure_with(const Exception& exception) {
  return failure_of([&] { throw exception; });
}

TEST(Failure, MemoryThatRanOutIsOneKindInAllWords) {
  const int code = static_cast<int>(ExitCode::kOutOfMemory);
  const Failure tensor = failure_of([] { at::empty({int64_t{1} << 50}); });
  EXPECT_EQ(tensor.code, code);
  EXPECT_TRUE(contains(tensor.message, "out of memory: 4194304.00 GiB more were wanted"));
  EXPECT_EQ(failure_with(std::bad_alloc()).code, code);
  EXPECT_EQ(failure_with(std::system_error(EAGAIN, std::generic_category(), "thread")).code, code);
  EXPECT_EQ(failure_with(std::filesystem::filesystem_error("x", std::error_code(ENOMEM, std::generic_category()))).code,
            code);
  EXPECT_EQ(failure_with(OutputError("libavcodec.so.59: failed to map segment from shared object")).code, code);
  EXPECT_EQ(failure_with(InputMediaError("a.png: cannot decode: Cannot allocate memory")).code, code);
  EXPECT_EQ(failure_with(std::runtime_error("CUDA out of memory. Tried to allocate 2.00 GiB")).code, code);
  EXPECT_EQ(failure_with(CheckpointError("out of memory: a.st cannot be mapped: the address space has no room for it"))
                .message,
            "out of memory: a.st cannot be mapped: the address space has no room for it");
  const Failure known = failure_with(OutOfMemoryError("no room", {"`vae_tiling`"}));
  EXPECT_EQ(known.code, code);
  EXPECT_EQ(known.message, "no room");
  EXPECT_EQ(known.flags, std::vector<std::string>{"`vae_tiling`"});
}

// As LibTorch passes on what CUDA's libraries say.
TEST(Failure, CudasLibrariesHaveWordsOfTheirOwn) {
  for (const char* text : {
           "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
           "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
           "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
           "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
           "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
           "CUDA driver error: out of memory",
           "cuLaunchKernel failed with CUDA_ERROR_OUT_OF_MEMORY",
           "cudaErrorMemoryAllocation: too many resources",
           "cuFFT error: CUFFT_ALLOC_FAILED",
       }) {
    const Failure torch = failure_of([&] { TORCH_CHECK(false, text); });
    EXPECT_EQ(torch.code, 6) << text;
    EXPECT_TRUE(torch.message.starts_with("out of memory")) << torch.message;
    EXPECT_EQ(failure_with(std::runtime_error(text)).code, 6) << text;
  }
  for (const char* text : {"CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`",
                           "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED", "CUDA error: an illegal memory access"}) {
    EXPECT_EQ(failure_of([&] { TORCH_CHECK(false, text); }).code, 5) << text;
  }
}

TEST(Failure, NamesTheSettingForGpusWithoutVirtualMemory) {
  const Failure failure = failure_of([] { TORCH_CHECK(false, "CUDA driver error: operation not supported"); });
  EXPECT_EQ(failure.code, 5);
  EXPECT_TRUE(contains(failure.message, "PYTORCH_ALLOC_CONF=expandable_segments:False")) << failure.message;
}

TEST(Failure, AnythingElseIsNotMemory) {
  EXPECT_EQ(failure_with(UsageError("`output`: failed to map segment.mp4: expected .mp4")).code, 2);
  EXPECT_EQ(failure_with(OutputError("out of memory.mp4 exists")).code, 7);
  EXPECT_EQ(failure_with(std::system_error(ENOSPC, std::generic_category(), "x")).code, 1);
  EXPECT_EQ(failure_with(TimeoutError("too long")).code, 124);
}

TEST(Failure, ADeviceThatFailsIsNoInternalError) {
  const Failure failure = failure_of([] { TORCH_CHECK(false, "CUDA error: unspecified launch failure\nmore"); });
  EXPECT_EQ(failure.code, static_cast<int>(ExitCode::kDevice));
  EXPECT_EQ(failure.message, "the device failed: CUDA error: unspecified launch failure");
  EXPECT_TRUE(contains(failure.detail, "frame #")) << failure.detail;
}

TEST(Failure, AnInternalErrorIsOneLineAndKeepsItsDetail) {
  const Failure torch = failure_of([] { at::zeros({2, 3}).matmul(at::zeros({2, 3})); });
  EXPECT_EQ(torch.code, 1);
  EXPECT_TRUE(torch.message.starts_with("internal error: mat1 and mat2 shapes cannot be multiplied")) << torch.message;
  EXPECT_FALSE(contains(torch.message, "\n"));
  EXPECT_TRUE(contains(torch.detail, "frame #")) << torch.detail;
  const Failure standard = failure_with(std::out_of_range("map::at\nmore"));
  EXPECT_EQ(standard.message, "internal error: map::at");
  EXPECT_EQ(standard.detail, "map::at\nmore");
  EXPECT_EQ(failure_of([] { throw 5; }).code, 1);
}

}  // namespace
}  // namespace opensora
