// The simulated device finds seeded faults by their cause, and finds nothing where the right event stands in their
// place.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/device.h"
#include "support/contains.h"
#include "support/simulated_device/simulated_device.h"

namespace opensora::test {
namespace {

class SimulatedRace : public ::testing::Test {
 protected:
  SimulatedRace() {
    simulated::start();
    second_ = second_stream(device_);
  }

  at::Tensor on_device(int64_t size) const { return at::ones({size}, at::TensorOptions().device(device_)); }
  at::Tensor pinned(int64_t size) const { return at::ones({size}, at::TensorOptions().pinned_memory(true)); }
  void expect_no_race() const { EXPECT_EQ(simulated::take_races(), std::vector<std::string>{}); }
  // One race whose line has these words.
  void expect_race(const std::vector<std::string>& words) const {
    const std::vector<std::string> races = simulated::take_races();
    ASSERT_EQ(races.size(), 1);
    for (const std::string& word : words) EXPECT_TRUE(contains(races.front(), word)) << races.front();
  }

  c10::InferenceMode inference_;
  at::Device device_ = simulated::device();
  std::optional<c10::Stream> second_;
};

std::string in_stream(const std::optional<c10::Stream>& stream) { return "in stream " + std::to_string(stream->id()); }

TEST_F(SimulatedRace, WriteAfterWriteWithoutAnEvent) {
  const at::Tensor x = on_device(1000);
  const c10::OptionalStreamGuard guard(second_);
  x.fill_(2);
  expect_race({"aten::fill_ " + in_stream(second_) + " writes memory", "aten::fill_ writes in stream 0"});
}

TEST_F(SimulatedRace, ReadAfterWriteWithoutAnEvent) {
  const at::Tensor x = on_device(1000);
  const c10::OptionalStreamGuard guard(second_);
  const at::Tensor y = x * 2;
  expect_race({"aten::mul", "reads memory", "aten::fill_ writes in stream 0"});
}

TEST_F(SimulatedRace, WriteAfterReadWithoutAnEvent) {
  const at::Tensor x = on_device(1000);
  synchronize(device_);
  {
    const c10::OptionalStreamGuard guard(second_);
    const at::Tensor y = x * 2;
  }
  expect_no_race();
  x.mul_(2);
  expect_race({"aten::mul in stream 0 writes memory", "aten::mul reads " + in_stream(second_)});
}

TEST_F(SimulatedRace, AnEventPutsThemInOrder) {
  const at::Tensor x = on_device(1000);
  DeviceEvent written(device_);
  written.record_current();
  written.block(second_);
  {
    const c10::OptionalStreamGuard guard(second_);
    x.mul_(2);
  }
  DeviceEvent doubled(device_);
  doubled.record(second_);
  doubled.block_current();
  x.add_(1);
  expect_no_race();
  EXPECT_EQ(x.sum().item<float>(), 3000);
}

TEST_F(SimulatedRace, AnEventDoesNotCoverWhatComesAfterIt) {
  DeviceEvent early(device_);
  early.record_current();
  const at::Tensor x = on_device(1000);
  early.block(second_);
  const c10::OptionalStreamGuard guard(second_);
  x.mul_(2);
  expect_race({"aten::fill_ writes in stream 0"});
}

TEST_F(SimulatedRace, TheHostsWaitingCountsForItsThread) {
  const at::Tensor x = on_device(1000);
  std::thread([&] { synchronize(device_); }).join();  // this thread may not rely on it
  {
    const c10::OptionalStreamGuard guard(second_);
    x.mul_(2);
  }
  expect_race({"aten::mul"});
  synchronize(device_);
  x.mul_(2);
  expect_no_race();
}

TEST_F(SimulatedRace, MemoryFreedWhileAnotherStreamReadsIt) {
  at::Tensor x = on_device(1000);
  synchronize(device_);
  {
    const c10::OptionalStreamGuard guard(second_);
    const at::Tensor y = x * 2;
  }
  x.reset();
  expect_race({"the host, for stream 0, frees memory", "reads " + in_stream(second_)});
}

TEST_F(SimulatedRace, MemoryMayBeFreedOnceAnyThreadHasWaited) {
  at::Tensor x = on_device(1000);
  synchronize(device_);
  {
    const c10::OptionalStreamGuard guard(second_);
    const at::Tensor y = x * 2;
  }
  std::thread([&] { synchronize(device_); }).join();
  x.reset();
  on_device(1000);  // in the same place
  expect_no_race();
}

TEST_F(SimulatedRace, MemoryThatItsFormerOwnerMayStillWrite) {
  const void* const place = on_device(1000).storage().data();
  const at::Tensor x = at::empty({1000}, at::TensorOptions().device(device_));
  ASSERT_EQ(x.storage().data(), place);
  const c10::OptionalStreamGuard guard(second_);
  x.fill_(2);
  expect_race({"aten::fill_ " + in_stream(second_) + " writes memory", "aten::fill_ writes in stream 0"});
}

TEST_F(SimulatedRace, RecordStreamKeepsMemoryUntilItsReaderIsDone) {
  at::Tensor x = on_device(1000);
  synchronize(device_);
  {
    const c10::OptionalStreamGuard guard(second_);
    const at::Tensor y = x * 2;
    x.record_stream(*second_);
  }
  const void* const place = x.unsafeGetTensorImpl()->storage().data();
  x.reset();
  expect_no_race();
  const at::Tensor other = on_device(1000);
  EXPECT_NE(other.storage().data(), place);
  synchronize(device_);
  EXPECT_EQ(on_device(1000).storage().data(), place);
  expect_no_race();
}

TEST_F(SimulatedRace, PinnedMemoryRefilledBeforeItWasRead) {
  const at::Tensor x = on_device(1000), staging = pinned(1000);
  x.copy_(staging, /*non_blocking=*/true);
  staging.fill_(2);
  expect_race({"the host writes pinned memory", "aten::copy_ reads in stream 0"});
}

TEST_F(SimulatedRace, PinnedMemoryRefilledAfterItsEvent) {
  const at::Tensor x = on_device(1000), staging = pinned(1000);
  x.copy_(staging, /*non_blocking=*/true);
  DeviceEvent read(device_);
  read.record_current();
  EXPECT_EQ(staging.sum().item<float>(), 1000);  // reading is no race
  read.wait();
  staging.fill_(2);
  x.copy_(staging);
  staging.fill_(3);
  expect_no_race();
  EXPECT_EQ(x.sum().item<float>(), 2000);
}

TEST_F(SimulatedRace, PinnedMemoryReadBeforeItWasWritten) {
  const at::Tensor x = on_device(1000), host = pinned(1000);
  host.copy_(x, /*non_blocking=*/true);
  const auto* const data = static_cast<const volatile float*>(host.const_data_ptr());
  EXPECT_EQ(data[2], 1);  // by a pointer that LibTorch knows nothing of
  expect_race({"the host touches pinned memory", "aten::copy_ writes in stream 0"});
}

TEST_F(SimulatedRace, PinnedMemoryFreedTooEarly) {
  const at::Tensor x = on_device(1000);
  at::Tensor staging = pinned(1000);
  x.copy_(staging, /*non_blocking=*/true);
  staging.reset();
  expect_race({"the host frees pinned memory", "aten::copy_ reads in stream 0"});
  EXPECT_EQ(simulated::pinned_bytes(), 0);
}

TEST_F(SimulatedRace, WhatABlockingCopyHasDoneIsDone) {
  const at::Tensor x = on_device(1000);
  x.copy_(at::ones({1000}));
  std::thread([&] {
    const c10::OptionalStreamGuard guard(second_);
    EXPECT_EQ((x * 2).sum().item<float>(), 2000);
  }).join();
  expect_no_race();
}

// A ring of staging buffers and slots as weights are streamed through, right and with each of its waits left out.
struct Ring {
  at::Device device = simulated::device();
  std::optional<c10::Stream> copying = second_stream(device);
  at::Tensor slot = at::empty({1000}, at::TensorOptions().device(device));
  at::Tensor staging = at::empty({1000}, at::TensorOptions().pinned_memory(true));
  DeviceEvent copied{device}, used{device}, read{device};

  void run(const std::string& without) {
    std::vector<at::Tensor> sums;
    for (int i = 0; i < 3; ++i) {
      if (without != "read") read.wait();
      staging.fill_(i);
      if (without != "used") used.block(copying);
      {
        const c10::OptionalStreamGuard guard(copying);
        slot.copy_(staging, /*non_blocking=*/true);
      }
      read.record(copying);
      copied.record(copying);
      if (without != "copied") copied.block_current();
      sums.push_back(slot.sum());
      used.record_current();
    }
    for (int i = 0; i < 3; ++i) EXPECT_EQ(sums[i].item<float>(), 1000 * i);  // right, as the work is done at once
  }
};

TEST_F(SimulatedRace, EachWaitOfARingIsNeeded) {
  Ring().run("");
  expect_no_race();
  for (const char* without : {"read", "used", "copied"}) {
    Ring ring;
    ring.run(without);
    EXPECT_FALSE(simulated::take_races().empty()) << without;
  }
}

TEST_F(SimulatedRace, ThrowsIfAsked) {
  simulated::start({.race_throws = true});
  const at::Tensor x = on_device(1000);
  at::Tensor staging = pinned(1000);
  {
    const c10::OptionalStreamGuard guard(second_);
    EXPECT_THROW(x.mul_(2), c10::Error);
  }
  synchronize(device_);
  x.copy_(staging, /*non_blocking=*/true);
  staging.reset();  // cannot throw
  EXPECT_THROW(x.mul_(2), c10::Error);
}

}  // namespace
}  // namespace opensora::test
