// Attention by blocks against its definition in float64.
#include "nn/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/machine.h"
#include "core/meta_device.h"
#include "nn/linear.h"

namespace opensora {
namespace {

class FlashAttention : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::vector<std::string> flags = cpu_info().flags;
    if (std::find(flags.begin(), flags.end(), "avx2") == flags.end()) GTEST_SKIP() << "needs AVX2";
    at::manual_seed(3);
  }

  static at::Tensor by_definition(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
    const at::Tensor scores = at::matmul(q.to(at::kDouble), k.to(at::kDouble).transpose(-1, -2)) * scale;
    return at::matmul(scores.softmax(-1), v.to(at::kDouble)).to(at::kFloat);
  }
};

TEST_F(FlashAttention, IsAttention) {
  for (const int64_t width : {16, 40, 64, 128}) {
    for (const auto& [length, keys] : {std::pair<int64_t, int64_t>{1, 1}, {7, 1100}, {300, 77}, {513, 513}}) {
      const at::Tensor q = at::randn({2, 3, length, width}) * 3, k = at::randn({2, 3, keys, width});
      const at::Tensor v = at::randn({2, 3, keys, width});
      const double scale = 1 / std::sqrt(static_cast<double>(width));
      const at::Tensor out = nn::flash_attention(q, k, v, scale);
      EXPECT_EQ(out.sizes(), q.sizes());
      EXPECT_LT((out - by_definition(q, k, v, scale)).abs().max().item<float>(), 2e-5) << width << ' ' << length;
    }
  }
}

// As the transformer has them: slices of one tensor.
TEST_F(FlashAttention, TakesStrides) {
  const at::Tensor qkv = at::randn({2, 200, 3, 4, 32});
  const at::Tensor q = qkv.select(2, 0).transpose(1, 2), k = qkv.select(2, 1).transpose(1, 2);
  const at::Tensor v = qkv.select(2, 2).transpose(1, 2);
  EXPECT_LT((nn::flash_attention(q, k, v, 0.2) - by_definition(q, k, v, 0.2)).abs().max().item<float>(), 1e-5);
  EXPECT_LT((nn::attention(q, k, v) - by_definition(q, k, v, 1 / std::sqrt(32.0))).abs().max().item<float>(), 1e-5);
}

TEST_F(FlashAttention, LargeScoresDoNotOverflow) {
  const at::Tensor q = at::randn({1, 1, 130, 64}) * 100, k = at::randn({1, 1, 1030, 64}),
                   v = at::randn({1, 1, 1030, 64});
  EXPECT_LT((nn::flash_attention(q, k, v, 1) - by_definition(q, k, v, 1)).abs().max().item<float>(), 1e-3);
}

TEST_F(FlashAttention, NotANumberStays) {
  const at::Tensor q = at::randn({1, 1, 20, 64}), k = at::randn({1, 1, 600, 64}), v = at::randn({1, 1, 600, 64});
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN()}) {
    at::Tensor bad_q = q.clone();
    bad_q[0][0][5][1] = bad;
    const at::Tensor out = nn::flash_attention(bad_q, k, v, 1);
    EXPECT_TRUE(out[0][0][5].isnan().all().item<bool>());
    EXPECT_TRUE(out[0][0][4].isfinite().all().item<bool>());
    at::Tensor bad_k = k.clone();
    bad_k[0][0][599][0] = bad;
    EXPECT_TRUE(nn::flash_attention(q, bad_k, v, 1).isnan().all().item<bool>());
  }
}

TEST_F(FlashAttention, IsForFloat32OnSomeProcessors) {
  const at::Tensor x = at::randn({2, 3, 20, 64}), narrow = at::randn({2, 3, 20, 8});
  const bool wanted = nn::prefers_onednn();
  EXPECT_EQ(nn::is_for_flash_attention(x, x, x), wanted);
  EXPECT_EQ(nn::is_for_flash_attention(x, x.narrow(2, 0, 5), x.narrow(2, 0, 5)), wanted);
  EXPECT_FALSE(nn::is_for_flash_attention(x, x, x.narrow(2, 0, 5)));
  EXPECT_FALSE(nn::is_for_flash_attention(x, x.narrow(0, 0, 1), x.narrow(0, 0, 1)));
  EXPECT_FALSE(nn::is_for_flash_attention(x, x.narrow(1, 0, 1), x.narrow(1, 0, 1)));
  EXPECT_FALSE(nn::is_for_flash_attention(x.transpose(2, 3), x.transpose(2, 3), x.transpose(2, 3)));
  EXPECT_FALSE(nn::is_for_flash_attention(narrow, narrow, narrow));
  const at::Tensor half = x.to(at::kBFloat16);
  EXPECT_FALSE(nn::is_for_flash_attention(half, half, half));
  const nn::OnlyAttentionBackend only("math");
  EXPECT_FALSE(nn::is_for_flash_attention(x, x, x));
}

// A plan counts the result and the keys, and the FLOPs.
TEST_F(FlashAttention, IsPlanned) {
  MetaDevice counted(at::kCPU);
  const at::Tensor x = at::empty({2, 3, 20, 64}, at::TensorOptions(at::kMeta).dtype(at::kFloat));
  counted.reset_peak();
  const at::Tensor out = nn::attention(x, x, x);
  EXPECT_EQ(out.sizes(), x.sizes());
  const auto bytes = static_cast<int64_t>(x.nbytes());
  EXPECT_EQ(counted.peak_bytes(), (nn::prefers_onednn() ? 3 : 2) * bytes);  // x, the result, perhaps the keys
  EXPECT_EQ(counted.flops().attention, 4.0 * 2 * 3 * 20 * 20 * 64);
}

}  // namespace
}  // namespace opensora
