// Streamed weights: the same result as weights that are there, whatever the order of use, and within a memory budget.
#include "core/weight_stream.h"

#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/machine.h"
#include "core/memory_budget.h"
#include "diffusion/mmdit.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/reference.h"
#include "support/simulated_device/simulated_device.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// Tensors in memory; notes what advice it was given, by any thread.
class NotingSource final : public WeightSource {
 public:
  std::optional<at::Tensor> find(const std::string&, at::IntArrayRef) const override { return std::nullopt; }
  bool contains(const std::string&) const override { return false; }
  std::vector<std::string> names() const override { return {}; }
  std::string description() const override { return "tensors"; }
  void advise(const at::Tensor& tensor, PageAdvice advice) const override {
    const std::lock_guard lock(mutex);
    if (tensor.data_ptr() == fails_at) throw std::runtime_error("cannot be read");
    (advice == PageAdvice::kRead ? read : let_go).insert(tensor.data_ptr());
  }

  mutable std::mutex mutex;
  mutable std::set<void*> read, let_go;
  std::atomic<void*> fails_at = nullptr;
};

struct StreamedGroups {
  std::shared_ptr<NotingSource> source = std::make_shared<NotingSource>();
  std::unique_ptr<WeightStream> stream;
  std::vector<at::Tensor> host, device;

  StreamedGroups(int64_t count, WeightStreamOptions options, at::ScalarType dtype = at::kFloat) {
    stream = std::make_unique<WeightStream>(source, options);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t rows = i < count / 3 ? 200 : 100;  // some are about twice as large, as double blocks are
      host.push_back(at::full({rows, 30 + i}, static_cast<double>(i), at::kBFloat16));
      stream->begin_group();
      device.push_back(stream->add(host.back(), dtype));
    }
  }
  bool holds(int64_t group) const { return at::equal(device[group], host[group].to(device[group].scalar_type())); }
};

class WeightStreamRing : public ::testing::TestWithParam<std::tuple<int64_t, int64_t, int64_t>> {};

TEST_P(WeightStreamRing, HasEachGroupAsItIsUsed) {
  const auto [count, ahead, staging] = GetParam();
  StreamedGroups groups(count, {.ahead = ahead, .staging_bytes = staging});
  groups.stream->finish();
  for (int round = 0; round < 20; ++round) {
    for (int64_t i = 0; i < count; ++i) {
      groups.stream->use(i);
      ASSERT_TRUE(groups.holds(i)) << "group " << i << " of round " << round;
    }
  }
  for (const int64_t i : {count - 1, int64_t{0}, count / 2, count / 2, int64_t{0}}) {  // jumps
    groups.stream->use(i);
    ASSERT_TRUE(groups.holds(i)) << "group " << i;
  }
}
// Numbers of groups that the ring's length divides and does not, one shorter than the ring, buffers of odd sizes.
INSTANTIATE_TEST_SUITE_P(Sizes, WeightStreamRing,
                         ::testing::Combine(::testing::Values(1, 2, 3, 4, 5, 7, 9), ::testing::Values(1, 2, 3),
                                            ::testing::Values(0, 1000, 1 << 20)));

TEST(WeightStream, KeepsWhatIsFineAsItIs) {
  StreamedGroups groups(3, {.keeps_views = true}, at::kBFloat16);
  groups.stream->finish();
  for (int64_t i = 0; i < 3; ++i) {
    groups.stream->use(i);
    EXPECT_EQ(groups.device[i].data_ptr(), groups.host[i].data_ptr());
  }
}

TEST(WeightStream, GivesPagesBackBehind) {
  StreamedGroups copied(5, {.gives_back = true});
  copied.stream->finish();
  for (int64_t i = 0; i < 5; ++i) copied.stream->use(i);
  copied.stream.reset();
  for (const at::Tensor& tensor : copied.host) EXPECT_TRUE(copied.source->let_go.contains(tensor.data_ptr()));

  StreamedGroups viewed(5, {.copies = false, .gives_back = true, .smallest_read_ahead = 0});
  viewed.stream->finish();
  for (int64_t i = 0; i < 5; ++i) viewed.stream->use(i);
  viewed.stream.reset();
  EXPECT_FALSE(viewed.source->let_go.contains(viewed.host[4].data_ptr()));  // in use
}

TEST(WeightStream, ReadingThatFailsIsToldAtUse) {
  StreamedGroups groups(4, {});
  groups.source->fails_at = groups.host[2].data_ptr();
  groups.stream->finish();
  groups.stream->use(0);
  EXPECT_THROW(
      {
        groups.stream->use(1);
        groups.stream->use(2);
      },
      std::runtime_error);
}

// The thread that reads ahead of copying is ahead of the one that copies, too.
TEST(WeightStream, StagedReadingThatFailsIsToldAtUse) {
  StreamedGroups groups(4, {.staging_bytes = 1000});
  groups.source->fails_at = groups.host[2].data_ptr();
  groups.stream->finish();
  groups.stream->use(0);
  groups.stream->use(1);
  EXPECT_TRUE(groups.holds(1));
  EXPECT_THROW(groups.stream->use(2), std::runtime_error);
}

// Once: after that it is read again, from any group on.
TEST(WeightStream, ReadsAgainAfterAFailure) {
  for (const int64_t staging : {0, 1000}) {
    StreamedGroups groups(5, {.staging_bytes = staging});
    groups.source->fails_at = groups.host[2].data_ptr();
    groups.stream->finish();
    groups.stream->use(0);
    groups.stream->use(1);
    EXPECT_THROW(groups.stream->use(2), std::runtime_error);
    EXPECT_THROW(groups.stream->use(2), std::runtime_error) << "it still cannot be read";
    groups.source->fails_at = nullptr;
    for (const int64_t i : {0, 1, 2, 3, 4, 0}) {
      groups.stream->use(i);
      ASSERT_TRUE(groups.holds(i)) << i;
    }
  }
}

TEST(WeightStream, KeepsAllGroups) {
  StreamedGroups groups(5, {.keeps_all = true, .gives_back = true, .staging_bytes = 1000});
  EXPECT_EQ(groups.device[3].sizes(), groups.host[3].sizes());  // from the start, as a model may look at it
  groups.stream->finish();
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(groups.holds(i)) << i;
    EXPECT_TRUE(groups.source->read.contains(groups.host[i].data_ptr())) << i;
    EXPECT_TRUE(groups.source->let_go.contains(groups.host[i].data_ptr())) << i;
  }
  groups.stream->use(3);
  EXPECT_TRUE(groups.holds(0));
}

TEST(WeightStream, KeepingAllThatFailsIsToldWhenItIsBound) {
  StreamedGroups groups(4, {.keeps_all = true, .staging_bytes = 1000});
  groups.source->fails_at = groups.host[2].data_ptr();
  EXPECT_THROW(groups.stream->finish(), std::runtime_error);
}

// On a device with streams: results are right and in order, jumps and ends in the middle of copying included.
TEST(SimulatedWeightStream, IsInOrder) {
  test::simulated::start();
  const c10::InferenceMode inference;
  const at::Device device = resolve_device("sim");
  const at::TensorOptions on_device = at::TensorOptions(at::kFloat).device(device);
  for (const int64_t count : {1, 4, 9}) {
    for (const int64_t staging : {0, 5000, 1 << 20}) {
      for (const bool keeps_all : {false, true}) {
        StreamedGroups groups(count, {.device = device, .keeps_all = keeps_all, .staging_bytes = staging});
        groups.stream->finish();
        at::Tensor sum = at::zeros({}, on_device);
        const auto use = [&](int64_t i) {
          groups.stream->use(i);
          sum.add_(groups.device[i].sum());
          EXPECT_EQ(groups.device[i].cpu()[99][29].item<int64_t>(), i);
        };
        for (int64_t i = 0; i < 3 * count; ++i) use(i % count);
        for (const int64_t i : {count - 1, int64_t{0}, count / 2, count / 2, int64_t{0}}) use(i);
        groups.stream.reset();
        for (int64_t i = 0; i < count; ++i) groups.device[i] = at::Tensor();
      }
    }
  }
  EXPECT_EQ(test::simulated::take_races(), std::vector<std::string>());
}

MMDiTConfig tiny_config() { return load_config(test::checkpoint_dir() / "tiny.json").model; }

at::Tensor forward(const WeightOptions& options, const std::string& file, const MMDiTConfig& config,
                   at::ScalarType dtype, at::Device device = at::kCPU, int forwards = 2) {
  const test::Case reference("mmdit");
  const auto checkpoint = io::Checkpoint::open(file);
  const diffusion::MMDiT model(Weights(checkpoint, device, dtype, options), config);
  const diffusion::MMDiTInput input{.img = reference["in.img"].to(device),
                                    .txt = reference["in.txt"].to(device),
                                    .y_vec = reference["in.y_vec"].to(device),
                                    .timesteps = reference["in.timesteps"].to(device),
                                    .cond = reference["in.cond"].to(device),
                                    .guidance = {}};
  const at::Tensor ids = at::cat({reference["in.txt_ids"][0], reference["in.img_ids"][0]});
  const diffusion::RotaryEmbedding pe = diffusion::rotary_embedding(ids.to(device), config);
  at::Tensor out;
  for (int i = 0; i < forwards; ++i) out = model.forward(input, pe);  // the second from blocks that came round again
  return out;
}

TEST(StreamedTransformer, IsBitForBitThatOfWeightsThatAreThere) {
  const std::string file = test::checkpoint_dir() / "Open_Sora_v2.safetensors";
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor mapped = forward({}, file, tiny_config(), dtype);
    for (const int64_t ahead : {1, 2, 4}) {
      for (const int64_t staging : {0, 4096}) {
        const WeightOptions streamed{.residence = Residence::kStreamed,
                                     .ahead = ahead,
                                     .gives_back_pages = true,
                                     .works_on_views = false,
                                     .staging_bytes = staging};
        EXPECT_TRUE(at::equal(forward(streamed, file, tiny_config(), dtype), mapped))
            << dtype << ", " << ahead << " ahead, staged by " << staging;
      }
    }
    for (const int64_t staging : {0, 4096}) {
      const WeightOptions held{.residence = Residence::kDevice, .works_on_views = false, .staging_bytes = staging};
      EXPECT_TRUE(at::equal(forward(held, file, tiny_config(), dtype), mapped)) << dtype << ", staged by " << staging;
    }
  }
}

TEST(SimulatedStreamedTransformer, IsInOrderAndTheSameAsOneThatIsThere) {
  test::simulated::start();
  const c10::InferenceMode inference;
  const at::Device device = resolve_device("sim");
  const std::string file = test::checkpoint_dir() / "Open_Sora_v2.safetensors";
  const auto on_device = [&](const WeightOptions& options) {
    return forward(options, file, tiny_config(), at::kFloat, device).cpu();
  };
  const at::Tensor there = on_device({.residence = Residence::kDevice});
  EXPECT_TRUE(test::close(there, forward({}, file, tiny_config(), at::kFloat), 1e-4, 1e-4));
  EXPECT_TRUE(at::equal(on_device({}), there));
  for (const int64_t ahead : {1, 2, 3}) {
    const WeightOptions streamed{.residence = Residence::kStreamed, .ahead = ahead, .staging_bytes = 1 << 16};
    EXPECT_TRUE(at::equal(on_device(streamed), there)) << ahead;
  }
  EXPECT_EQ(test::simulated::take_races(), std::vector<std::string>());
}

TEST(MemoryBudget, RefusesWhatExceedsItAndNamesTheFlag) {
  const MemoryBudget budget(at::kCPU, anonymous_bytes() + 64 * kMiB);
  const at::Tensor fits = at::empty({40 * kMiB}, at::kByte);
  try {
    at::empty({40 * kMiB}, at::kByte);
    FAIL() << "more than the budget was given";
  } catch (const OutOfMemoryError& error) {
    EXPECT_TRUE(test::contains(error.what(), "`max_memory`")) << error.what();
    EXPECT_TRUE(test::contains(error.what(), "40 MiB more")) << error.what();
  }
}

TEST(MemoryBudget, CountsWhatIsGivenBack) {
  at::Tensor outlives;
  {
    const MemoryBudget budget(at::kCPU, anonymous_bytes() + 64 * kMiB);
    for (int i = 0; i < 100; ++i) at::empty({40 * kMiB}, at::kByte);
    outlives = at::zeros({kMiB}, at::kByte);
  }
  EXPECT_NO_THROW(at::empty({200 * kMiB}, at::kByte));  // no budget, no limit
  outlives.resize_({2 * kMiB});
  EXPECT_EQ(outlives[0].item<int>(), 0);
}

// Weights of some 100 MB in float32: all of them exceed what three of the blocks need.
TEST(MemoryBudget, AStreamedModelRunsWhereAWholeOneDoesNot) {
  const test::TemporaryFolder folder;
  MMDiTConfig config = tiny_config();
  config.depth = config.depth_single_blocks = 120;
  const test::Case reference("mmdit");
  const std::string tiny = test::checkpoint_dir() / "Open_Sora_v2.safetensors";
  // The tiny checkpoint's blocks again and again, under other numbers.
  class Repeated final : public WeightSource {
   public:
    explicit Repeated(std::shared_ptr<const io::Checkpoint> checkpoint) : checkpoint_(std::move(checkpoint)) {}
    std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef shape) const override {
      const size_t at = name.find("_blocks.");
      if (at == std::string::npos) return checkpoint_->find(name, shape);
      const size_t number = at + std::strlen("_blocks."), end = name.find('.', number);
      return checkpoint_->find(name.substr(0, number) + "0" + name.substr(end), shape);
    }
    bool contains(const std::string& name) const override { return checkpoint_->contains(name); }
    std::vector<std::string> names() const override { return {}; }
    std::string description() const override { return checkpoint_->description(); }

   private:
    std::shared_ptr<const io::Checkpoint> checkpoint_;
  };
  const auto run = [&](Residence residence) {
    const auto source = std::make_shared<Repeated>(io::Checkpoint::open(tiny));
    const MemoryBudget budget(at::kCPU, anonymous_bytes() + 24 * kMiB);
    const diffusion::MMDiT model(Weights(source, at::kCPU, at::kFloat, {.residence = residence}), config);
    const at::Tensor ids = at::cat({reference["in.txt_ids"][0], reference["in.img_ids"][0]});
    model.forward({.img = reference["in.img"],
                   .txt = reference["in.txt"],
                   .y_vec = reference["in.y_vec"],
                   .timesteps = reference["in.timesteps"],
                   .cond = reference["in.cond"],
                   .guidance = {}},
                  diffusion::rotary_embedding(ids, config));
  };
  EXPECT_THROW(run(Residence::kDevice), OutOfMemoryError);
  EXPECT_NO_THROW(run(Residence::kStreamed));
  EXPECT_NO_THROW(run(Residence::kMapped));
}

}  // namespace
}  // namespace opensora
