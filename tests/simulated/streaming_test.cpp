// Blocks that are streamed to the simulated device: the same result, so many bytes, and every wait is needed.
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "diffusion/mmdit.h"
#include "opensora/quantize.h"
#include "simulated/simulated_test.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

constexpr const char* kWeights = "Open_Sora_v2.safetensors";

// The reference's transformer and its inputs on the device. After this is made, a forward needs nothing of the host but
// weights that are streamed.
class TinyTransformer {
 public:
  explicit TinyTransformer(const WeightOptions& options,
                           const std::filesystem::path& weights = test::checkpoint_dir() / kWeights,
                           at::Device device = test::simulated::device())
      : device_(device),
        reference_("mmdit"),
        model_(Weights(io::Checkpoint::open(weights), device_, at::kFloat, options),
               load_config(test::checkpoint_dir() / "tiny.json").model) {
    const diffusion::MMDiTInput vectors{.img = {},
                                        .txt = {},
                                        .y_vec = input("in.y_vec"),
                                        .timesteps = input("in.timesteps"),
                                        .cond = {},
                                        .guidance = {}};
    modulations_ = model_.modulations(model_.embed_vector(vectors));
    img_ = input("in.img");
    txt_ = model_.embed_text(input("in.txt"));
    cond_ = input("in.cond");
    const at::Tensor ids = at::cat({input("in.txt_ids")[0], input("in.img_ids")[0]});
    pe_.emplace(diffusion::rotary_embedding(ids, model_.config));
    work_.emplace(model_.workspace(txt_.size(0), ids.size(0), device_));
  }

  at::Tensor forward() const {
    return model_.forward({.img = img_, .txt = txt_, .cond = cond_, .modulations = modulations_}, *pe_, *work_);
  }

 private:
  at::Tensor input(const char* key) const { return reference_[key].to(device_); }

  const at::Device device_;
  test::Case reference_;
  diffusion::MMDiT model_;
  diffusion::Modulations modulations_;
  at::Tensor img_, txt_, cond_;
  std::optional<diffusion::RotaryEmbedding> pe_;
  std::optional<diffusion::Workspace> work_;
};

// Bytes of each block's weights, without its modulation's, in the order of use: in float32 what is not quantised.
std::vector<int64_t> block_bytes(const std::filesystem::path& weights) {
  const io::SafetensorsFile file(weights);
  std::map<std::string, int64_t> bytes;  // "double_blocks.0" comes before "single_blocks.0"
  for (const auto& [name, info] : file.tensors()) {
    if (name.find("_blocks.") == std::string::npos || name.find("mod") != std::string::npos) continue;
    if (name.ends_with(".comfy_quant")) continue;
    const bool is_quantized = c10::elementSize(info.dtype) == 1;
    bytes[name.substr(0, name.find('.', name.find("_blocks.") + 8))] +=
        c10::multiply_integers(info.shape) * (is_quantized ? 1 : static_cast<int64_t>(sizeof(float)));
  }
  std::vector<int64_t> in_order;
  for (const auto& [block, count] : bytes) in_order.push_back(count);
  return in_order;
}

struct Streaming {
  int64_t ahead, staging_bytes;
};

// Products of 8-bit numbers would be the device's.
constexpr bool kExactProducts = true;

WeightOptions streamed(const Streaming& streaming) {
  return {.residence = Residence::kStreamed,
          .ahead = streaming.ahead,
          .exact_products = kExactProducts,
          .staging_bytes = streaming.staging_bytes};
}

class SimulatedStreaming : public test::SimulatedTest, public ::testing::WithParamInterface<Streaming> {
 protected:
  const c10::InferenceMode inference_;
  test::TemporaryFolder folder_;
};

// Bytes that come to the device as a model is bound and goes forward so many times.
int64_t bytes_to_device(const WeightOptions& options, int forwards, at::Tensor* out,
                        const std::filesystem::path& weights) {
  const int64_t before = test::simulated::counters().bytes_to_device;
  {
    const TinyTransformer transformer(options, weights);
    at::Tensor last;
    for (int i = 0; i < forwards; ++i) last = transformer.forward();
    *out = last.cpu();
  }  // no thread copies any more
  return test::simulated::counters().bytes_to_device - before;
}

// Held and streamed, a model of these weights makes `expected`, and each forward takes each block to the device once,
// in the bytes in which it is held.
void expect_each_block_once(const Streaming& streaming, const std::filesystem::path& weights,
                            const at::Tensor& expected) {
  constexpr int kForwards = 3;
  at::Tensor whole, by_blocks;
  const int64_t held =
      bytes_to_device({.exact_products = kExactProducts}, kForwards, &whole, weights);  // each block once
  const int64_t streamed_bytes = bytes_to_device(streamed(streaming), kForwards, &by_blocks, weights);
  EXPECT_TRUE(test::close(whole, expected));
  EXPECT_TRUE(at::equal(whole, by_blocks));

  const std::vector<int64_t> blocks = block_bytes(weights);
  ASSERT_EQ(blocks.size(), 5U);
  const int64_t forward = std::accumulate(blocks.begin(), blocks.end(), int64_t{0});
  int64_t read_ahead = streamed_bytes - held - (kForwards - 1) * forward;  // whole blocks of the next forward
  int64_t count = 0;
  for (; read_ahead > 0 && count < static_cast<int64_t>(blocks.size()); ++count) read_ahead -= blocks[count];
  EXPECT_EQ(read_ahead, 0) << "not the bytes of " << kForwards << " forwards and some blocks";
  EXPECT_LT(count, static_cast<int64_t>(blocks.size()));
}

TEST_P(SimulatedStreaming, AForwardTakesEachBlockToTheDeviceOnce) {
  expect_each_block_once(GetParam(), test::checkpoint_dir() / kWeights, test::Case("mmdit")["out"]);
}

TEST_P(SimulatedStreaming, QuantizedBlocksComeAsTheyAreStored) {
  for (const char* to : {"int8", "fp8"}) {
    const std::filesystem::path weights = folder_.path() / (std::string(to) + ".safetensors");
    quantize({.input = test::checkpoint_dir() / kWeights,
              .output = weights,
              .to = to,
              .rotate = to == std::string("int8"),
              .overwrite = true});
    const at::Tensor on_cpu = TinyTransformer({.exact_products = kExactProducts}, weights, at::kCPU).forward();
    EXPECT_LT(test::relative_error(on_cpu, test::Case("mmdit")["out"]), to == std::string("int8") ? 0.02 : 0.05);
    expect_each_block_once(GetParam(), weights, on_cpu);
  }
}

class SimulatedWaits : public test::SimulatedTest {
  const c10::InferenceMode inference_;
};

// A forward with one wait left out after the other, as if it was not in the code: its own for copies, that of copies
// for the blocks before, that of the thread that copies for its buffers. Not those of binding, where not all are
// needed: a StagingRing that ends waits for each of its buffers, and the last implies the others; and weights that are
// converted once are staged in a stream that the host has mostly waited for already, as inputs are copied in it.
TEST_F(SimulatedWaits, AreAllNeeded) {
  const auto waits = [] { return test::simulated::counters().waits; };
  int64_t tried = 0;
  for (bool was_met = true; was_met; ++tried) {
    restart();
    {
      const TinyTransformer transformer(streamed({.ahead = 1, .staging_bytes = 1 << 14}));
      test::simulated::ignore_wait(tried + 1);
      const int64_t last = waits() + tried + 1;  // the ignored one is not after it
      transformer.forward();
      was_met = waits() >= last;
    }
    const bool was_found = !test::simulated::take_races().empty();
    if (was_met) EXPECT_TRUE(was_found) << "wait " << tried + 1;
  }
  EXPECT_GT(tried, 5 + 3) << "for each of five blocks, and of most of them for what is overwritten";
  RecordProperty("waits", std::to_string(tried - 1));
}

// Buffers that hold one tensor or a part of it, and buffers with room for many.
INSTANTIATE_TEST_SUITE_P(Rings, SimulatedStreaming,
                         ::testing::Values(Streaming{1, 1000}, Streaming{2, 1000}, Streaming{3, 1000}, Streaming{1, 0},
                                           Streaming{2, 1 << 20}, Streaming{3, 0}),
                         [](const auto& info) {
                           return std::to_string(info.param.ahead) + "_ahead_" +
                                  std::to_string(info.param.staging_bytes);
                         });

}  // namespace
}  // namespace opensora
