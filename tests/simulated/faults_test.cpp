// Memory that runs out and copies that fail on the simulated device: at every place of a short run, in two parts, and
// at every 37th of batches. The right error, nothing left behind, and other videos as if nothing had been.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <exception>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/failure.h"
#include "models/model_set.h"
#include "models/text_encoder.h"
#include "opensora/batch.h"
#include "opensora/error.h"
#include "opensora/text.h"
#include "simulated/simulated_test.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::simulated::Counters;
using test::simulated::Options;

// What can fail: which of them does, how many there were, and the exit code of its error.
struct Fault {
  const char* name;
  int64_t Options::*failing;
  int64_t Counters::*count;
  ExitCode code;
};
constexpr Fault kAllocation{"allocation", &Options::failing_allocation, &Counters::device_allocations,
                            ExitCode::kOutOfMemory};
constexpr Fault kCopy{"copy", &Options::failing_copy, &Counters::copies, ExitCode::kDevice};

void expect_failure(const std::exception_ptr& error, ExitCode code) {
  ASSERT_TRUE(error);
  const Failure failure = describe_failure(error);
  EXPECT_EQ(failure.code, static_cast<int>(code)) << failure.message;
  EXPECT_EQ(failure.message.find('\n'), std::string::npos) << failure.message;
}

class SimulatedFaults : public test::SimulatedTest {
 protected:
  // Runs with the first of them failing, then with number 1 + `stride` and so on, until there is none of that number.
  // Returns how often one was met.
  int64_t with_each(const Fault& fault, int64_t stride, const std::function<void()>& run) {
    int64_t met = 0;
    for (int64_t k = 1; !HasFailure(); k += stride) {
      SCOPED_TRACE(std::string(fault.name) + " " + std::to_string(k) + " fails");
      Options options;
      options.*fault.failing = k;
      restart(options);
      run();
      expect_clean();
      if (test::simulated::counters().*fault.count < k) break;
      ++met;
    }
    return met;
  }

  // Whether it fails; then it must be as that fault makes it. (Weights that are read ahead may never be needed, and a
  // stage for which memory ran out may be tried again.)
  static bool fails(const Fault& fault, const std::function<void()>& run) {
    try {
      run();
      return false;
    } catch (...) {
      expect_failure(std::current_exception(), fault.code);
      return true;
    }
  }
};

// What both text encoders make of some ids, on the host. T5's blocks are streamed.
std::vector<at::Tensor> encoded_texts(models::ModelSet& models) {
  std::vector<at::Tensor> states;
  for (const Component encoder : {Component::kClip, Component::kT5}) {
    const at::Tensor ids = at::arange(1, models::encoder_max_length(encoder, models.choice().config) + 1, at::kLong);
    states.push_back(models.encode_text(encoder, ids.unsqueeze(0)).cpu());
  }
  return states;
}

void expect_equal(const std::vector<at::Tensor>& actual, const std::vector<at::Tensor>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(at::equal(actual[i], expected[i])) << i;
}

class SimulatedTextFaults : public SimulatedFaults, public ::testing::WithParamInterface<Fault> {};

// After each of them the same encoders, as far as they have been loaded, encode the next text.
TEST_P(SimulatedTextFaults, EveryOneInBothEncoders) {
  const c10::InferenceMode inference;
  const models::ModelChoice choice{.model_dir = test::checkpoint_dir(),
                                   .config = load_config(test::checkpoint_dir() / "tiny.json")};
  const models::SetOptions options{.device = test::simulated::device(), .offload = models::Offload::kBlock};
  std::vector<at::Tensor> expected;
  {
    models::ModelSet models(choice, options);
    expected = encoded_texts(models);
  }
  int64_t failed = 0;
  const int64_t met = with_each(GetParam(), 1, [&] {
    models::ModelSet models(choice, options);
    const auto encode = [&] { expect_equal(encoded_texts(models), expected); };
    // Of two, as what was read ahead for the next one is missed by the next one.
    if (!fails(GetParam(), encode) && !fails(GetParam(), encode)) return;
    ++failed;
    encode();
  });
  EXPECT_GT(failed, met / 2);  // how much is read ahead and never needed depends on the threads
  EXPECT_GT(met, 50);
  RecordProperty("met", std::to_string(met));
}

// One or two videos of one step that differ in their seed, from texts that have been encoded.
class SimulatedVideoFaults : public SimulatedFaults {
 protected:
  void SetUp() override {
    SimulatedFaults::SetUp();
    const GenerateRequest request = test::short_request(texts_.path());
    encode_text({.texts = embedded_texts(request.prompt, request.negative_prompt, request.config),
                 .model_dir = request.model_dir,
                 .config = request.config,
                 .files = {},
                 .device = request.device,
                 .dtype = request.dtype,
                 .threads = request.threads,
                 .output_dir = texts_.path(),
                 .overwrite = true});
  }

  GenerateRequest request(const fs::path& folder, uint64_t seed) const {
    GenerateRequest request = test::short_request(folder, /*steps=*/1);
    request.seed = seed;
    request.text_embeddings = texts_.path();
    request.offload = "block";
    request.save_tensors = folder / tensors_file(seed);
    return request;
  }
  static std::string tensors_file(uint64_t seed) { return std::to_string(seed) + ".safetensors"; }

  BatchResult run_two(const fs::path& folder, const char* overlap, const ProgressCallback& progress = {}) const {
    std::vector<BatchRow> rows(2);
    for (size_t i = 0; i < rows.size(); ++i) rows[i].request = request(folder, i);
    return run_batch(rows, {.output_dir = folder / "videos", .overlap = overlap}, {.progress = progress});
  }

 private:
  const test::TemporaryFolder texts_;
};

class SimulatedRunFaults : public SimulatedVideoFaults, public ::testing::WithParamInterface<Fault> {};

TEST_P(SimulatedRunFaults, EveryOne) {
  const test::TemporaryFolder expected, folder;
  generate(request(expected.path(), 0));
  const auto expect_equal = [&] {
    test::expect_equal_tensors(folder.path() / tensors_file(0), expected.path() / tensors_file(0));
  };
  int64_t failed = 0;
  const auto run = [&] { generate(request(folder.path(), 0)); };
  const int64_t met = with_each(GetParam(), 1, [&] {
    if (!fails(GetParam(), run)) return expect_equal();
    if (++failed % 16 != 0) return;
    run();
    expect_equal();
  });
  EXPECT_GT(failed, met / 2);  // how much is read ahead and never needed depends on the threads
  EXPECT_GT(met, 150);
  RecordProperty("met", std::to_string(met));
}

struct BatchFault {
  const char* overlap;
  Fault fault;
};

class SimulatedBatchFaults : public SimulatedVideoFaults, public ::testing::WithParamInterface<BatchFault> {
 protected:
  static bool is_done(const BatchResult& result, size_t video) {
    return result.videos[video].state == BatchState::kDone;
  }
  // Each video is as in `expected`, or has failed in the way of the fault.
  static void expect_right_or_failed(const BatchResult& result, const fs::path& folder, const fs::path& expected) {
    for (size_t i = 0; i < result.videos.size(); ++i) {
      if (is_done(result, i)) {
        test::expect_equal_tensors(folder / tensors_file(i), expected / tensors_file(i));
      } else {
        expect_failure(result.videos[i].error, GetParam().fault.code);
      }
    }
  }
};

TEST_P(SimulatedBatchFaults, LeaveTheOtherVideoAsItIs) {
  const test::TemporaryFolder expected;
  ASSERT_EQ(run_two(expected.path(), GetParam().overlap).exit_code(false), 0);
  constexpr int64_t kStride = 37;
  int64_t first_failed = 0, second_failed = 0;
  const int64_t met = with_each(GetParam().fault, kStride, [&] {
    const test::TemporaryFolder folder;
    const BatchResult result = run_two(folder.path(), GetParam().overlap);
    expect_right_or_failed(result, folder.path(), expected.path());
    if (!is_done(result, 0) && !is_done(result, 1)) {  // reading the texts is one stage for both
      EXPECT_EQ(run_two(folder.path(), GetParam().overlap).exit_code(false), 0);
    }
    first_failed += is_done(result, 0) ? 0 : 1;
    second_failed += is_done(result, 1) ? 0 : 1;
  });
  EXPECT_GT(met, 6);
  EXPECT_GT(first_failed + second_failed, 0) << "where videos overlap, much is tried again";
}

// The second video is sampled by the same transformer. (Where videos overlap, sampling goes on after memory ran out.)
TEST_P(SimulatedBatchFaults, WhileBlocksAreStreamedEndOnlyTheirVideo) {
  const auto& [overlap, fault] = GetParam();
  const bool is_retried = fault.code == ExitCode::kOutOfMemory && overlap == std::string_view("on");
  const test::TemporaryFolder expected;
  const auto run_expected = [&](const ProgressCallback& progress) {
    EXPECT_EQ(run_two(expected.path(), overlap, progress).exit_code(false), 0);
  };
  run_expected({});  // the first run of a process tries kernels
  restart();
  int64_t begin = 0, end = 0;
  run_expected([&](const Progress& now) {
    if (now.stage != "denoise" || now.video != 1) return;
    (now.done == 0 ? begin : end) = test::simulated::counters().*fault.count;
  });
  for (const int64_t part : {1, 2}) {  // of four; the last may be blocks for the next video, read ahead
    SCOPED_TRACE(part);
    Options options;
    options.*fault.failing = begin + (end - begin) * part / 4;
    restart(options);
    const test::TemporaryFolder folder;
    const BatchResult result = run_two(folder.path(), overlap);
    EXPECT_EQ(is_done(result, 0), is_retried);
    EXPECT_TRUE(is_done(result, 1));
    expect_right_or_failed(result, folder.path(), expected.path());
    expect_clean();
  }
}

std::string name_of(const Fault& fault) { return fault.name; }

INSTANTIATE_TEST_SUITE_P(Of, SimulatedTextFaults, ::testing::Values(kAllocation, kCopy),
                         [](const auto& info) { return name_of(info.param); });
// Two suites, so that they run side by side.
INSTANTIATE_TEST_SUITE_P(OfAllocations, SimulatedRunFaults, ::testing::Values(kAllocation));
INSTANTIATE_TEST_SUITE_P(OfCopies, SimulatedRunFaults, ::testing::Values(kCopy));
INSTANTIATE_TEST_SUITE_P(Of, SimulatedBatchFaults,
                         ::testing::Values(BatchFault{"off", kAllocation}, BatchFault{"off", kCopy},
                                           BatchFault{"on", kAllocation}, BatchFault{"on", kCopy}),
                         [](const auto& info) { return name_of(info.param.fault) + "_overlap_" + info.param.overlap; });

}  // namespace
}  // namespace opensora
