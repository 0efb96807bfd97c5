// Models whose activations leave float16's range, computed in it as a GPU does: the results are finite and near those
// of float32. The weights of T5-XXL and FLUX are such.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "diffusion/mmdit.h"
#include "support/contains.h"
#include "support/reference.h"
#include "text/encoders.h"

namespace opensora {
namespace {

constexpr double kLargestHalf = 65504;

// A checkpoint, some of whose tensors are multiplied: those whose names contain a key.
class Scaled final : public WeightSource {
 public:
  Scaled(std::shared_ptr<const WeightSource> source, std::map<std::string, double> factors)
      : source_(std::move(source)), factors_(std::move(factors)) {}
  std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef shape) const override {
    std::optional<at::Tensor> tensor = source_->find(name, shape);
    for (const auto& [part, factor] : factors_) {
      if (tensor && test::contains(name, part)) tensor = tensor->to(at::kFloat) * factor;
    }
    return tensor;
  }
  bool contains(const std::string& name) const override { return source_->contains(name); }
  std::vector<std::string> names() const override { return {}; }
  std::string description() const override { return source_->description(); }

 private:
  std::shared_ptr<const WeightSource> source_;
  std::map<std::string, double> factors_;
};

// float16 is computed in float16 on accelerators alone: the model is told that it is for one, and then runs here.
Weights weights_of(const std::shared_ptr<const WeightSource>& source, at::ScalarType dtype) {
  WeightOptions options;
  if (dtype == at::kHalf) options.stands_for = at::Device(at::kCUDA);
  return {source, at::kCPU, dtype, options};
}

double largest(const at::Tensor& x) { return x.abs().max().item<double>(); }

TEST(Float16, TheTransformersStreamDoesNotOverflow) {
  const test::Case reference("mmdit");
  const MMDiTConfig config = load_config(test::checkpoint_dir() / "tiny.json").model;
  const auto source = std::make_shared<Scaled>(
      io::Checkpoint::open(test::checkpoint_dir() / "Open_Sora_v2.safetensors"),
      std::map<std::string, double>{{"mlp.2.", 1e5}, {"linear2.", 1e5}, {"attn.proj.", 1e3}, {"img_in.", 1e4}});
  const at::Tensor ids = at::cat({reference["in.txt_ids"][0], reference["in.img_ids"][0]});
  const diffusion::RotaryEmbedding pe = diffusion::rotary_embedding(ids, config);
  double highest = 0;
  const auto run = [&](at::ScalarType dtype) {
    const diffusion::MMDiT model(weights_of(source, dtype), config);
    EXPECT_EQ(model.computes_in, dtype);
    const at::Tensor img = reference["in.img"];
    const diffusion::MMDiTInput input{.img = img.to(dtype),
                                      .txt = reference["in.txt"].to(dtype),
                                      .y_vec = reference["in.y_vec"].to(dtype),
                                      .timesteps = reference["in.timesteps"],
                                      .cond = reference["in.cond"].to(dtype),
                                      .guidance = {}};
    const diffusion::Modulations mods = model.modulations(model.embed_vector(input));
    const diffusion::Workspace work = model.workspace(img.size(0), ids.size(0), at::kCPU);
    const at::Tensor out = model.forward(
        {.img = input.img, .txt = model.embed_text(input.txt), .cond = input.cond, .modulations = mods}, pe, work);
    highest = largest(work.x.to(at::kFloat)) / work.scale();
    return out;
  };
  const at::Tensor expected = run(at::kFloat);
  EXPECT_GT(highest, 2 * kLargestHalf);  // or it would prove nothing
  const at::Tensor actual = run(at::kHalf);
  EXPECT_EQ(actual.scalar_type(), at::kHalf);
  EXPECT_TRUE(at::isfinite(actual).all().item<bool>());
  EXPECT_LT(test::relative_error(actual, expected), 0.01);
}

TEST(Float16, T5DoesNotOverflow) {
  const test::Case reference("t5");
  const text::T5Config config = text::load_t5_config(test::checkpoint_dir() / "google/t5-v1_1-xxl");
  const auto source = std::make_shared<Scaled>(
      io::Checkpoint::open(test::checkpoint_dir() / "google/t5-v1_1-xxl"),
      std::map<std::string, double>{{"DenseReluDense.wi_1", 1e4}, {"DenseReluDense.wo", 1e2}, {"shared", 1e3}});
  const at::Tensor ids = reference.raw("ids");
  const text::T5Encoder exact(weights_of(source, at::kFloat), config);
  at::Tensor x = exact.shared(ids, at::kFloat);
  const at::Tensor bias = exact.position_bias(ids.size(1));
  for (size_t i = 0; i < exact.blocks.size(); ++i) x = exact.blocks[i](x, bias);
  EXPECT_GT(largest(x), 2 * kLargestHalf);  // or it would prove nothing
  const text::T5Encoder encoder(weights_of(source, at::kHalf), config);
  EXPECT_EQ(encoder.computes_in, at::kHalf);
  const at::Tensor actual = encoder.forward(ids);
  EXPECT_EQ(actual.scalar_type(), at::kHalf);
  EXPECT_TRUE(at::isfinite(actual).all().item<bool>());
  EXPECT_LT(test::relative_error(actual, exact.forward(ids)), 0.01);
}

}  // namespace
}  // namespace opensora
