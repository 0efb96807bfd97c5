#include "tools/quality.h"

#include <gtest/gtest.h>

#include <cmath>

namespace opensora::tools {
namespace {

constexpr double kC1 = 6.5025, kC2 = 58.5225;  // (0.01 * 255)^2, (0.03 * 255)^2

at::Tensor constant(int64_t height, int64_t width, int value) { return at::full({height, width, 3}, value, at::kByte); }

// The same numbers everywhere and always, without a pattern that a window would not see.
at::Tensor noisy(int64_t height, int64_t width, int64_t factor) {
  return at::arange(height * width * 3, at::kLong).mul_(factor).remainder_(251).view({height, width, 3}).to(at::kByte);
}

// The definition, pixel by pixel: weighted means, variances and covariance within each whole window.
double defined_ssim(const at::Tensor& a, const at::Tensor& b) {
  const auto x = a.accessor<uint8_t, 3>(), y = b.accessor<uint8_t, 3>();
  double weights[11][11], total = 0;
  for (int i = 0; i < 11; ++i) {
    for (int j = 0; j < 11; ++j) {
      weights[i][j] = std::exp(-((i - 5) * (i - 5) + (j - 5) * (j - 5)) / (2 * 1.5 * 1.5));
      total += weights[i][j];
    }
  }
  double sum = 0;
  int64_t count = 0;
  for (int64_t c = 0; c < 3; ++c) {
    for (int64_t top = 0; top + 11 <= a.size(0); ++top) {
      for (int64_t left = 0; left + 11 <= a.size(1); ++left, ++count) {
        const auto weighted = [&](auto&& value) {
          double result = 0;
          for (int i = 0; i < 11; ++i) {
            for (int j = 0; j < 11; ++j) {
              result += weights[i][j] / total * value(x[top + i][left + j][c], y[top + i][left + j][c]);
            }
          }
          return result;
        };
        const double mx = weighted([](double p, double) { return p; });
        const double my = weighted([](double, double q) { return q; });
        const double vx = weighted([&](double p, double) { return (p - mx) * (p - mx); });
        const double vy = weighted([&](double, double q) { return (q - my) * (q - my); });
        const double cov = weighted([&](double p, double q) { return (p - mx) * (q - my); });
        sum += (2 * mx * my + kC1) * (2 * cov + kC2) / ((mx * mx + my * my + kC1) * (vx + vy + kC2));
      }
    }
  }
  return sum / static_cast<double>(count);
}

TEST(Psnr, IsInfiniteForEqualPictures) { EXPECT_TRUE(std::isinf(psnr(noisy(9, 14, 37), noisy(9, 14, 37)))); }

TEST(Psnr, IsThatOfTheMeanSquaredError) {
  EXPECT_NEAR(psnr(constant(4, 6, 100), constant(4, 6, 105)), 20 * std::log10(255.0 / 5), 1e-9);
  EXPECT_NEAR(psnr(constant(4, 6, 3), constant(4, 6, 250)), 20 * std::log10(255.0 / 247), 1e-9);  // no wrap at 256
  EXPECT_NEAR(psnr(constant(4, 6, 0), constant(4, 6, 255)), 0, 1e-9);

  at::Tensor red = constant(4, 6, 0);
  red.select(2, 0).fill_(255);  // one channel of three
  EXPECT_NEAR(psnr(red, constant(4, 6, 0)), 10 * std::log10(3.0), 1e-9);
}

TEST(Ssim, IsOneForEqualPictures) {
  EXPECT_EQ(ssim(noisy(20, 31, 37), noisy(20, 31, 37)), 1);
  EXPECT_EQ(ssim(constant(11, 11, 0), constant(11, 11, 0)), 1);
}

TEST(Ssim, OfFlatPicturesComparesTheirBrightness) {
  const double expected = (2.0 * 100 * 150 + kC1) / (100.0 * 100 + 150 * 150 + kC1);
  EXPECT_NEAR(ssim(constant(16, 12, 100), constant(16, 12, 150)), expected, 1e-9);

  at::Tensor one_channel = constant(16, 12, 100);
  one_channel.select(2, 1).fill_(150);
  EXPECT_NEAR(ssim(constant(16, 12, 100), one_channel), (expected + 2) / 3, 1e-9);
}

TEST(Ssim, IsAsDefined) {
  const at::Tensor a = noisy(13, 17, 37), b = noisy(13, 17, 41);
  EXPECT_NEAR(ssim(a, b), defined_ssim(a, b), 1e-9);
  EXPECT_LT(ssim(a, b), 0.5);
  const at::Tensor softened = (a.to(at::kFloat) * 0.8 + 20).to(at::kByte);
  EXPECT_NEAR(ssim(a, softened), defined_ssim(a, softened), 1e-9);
  EXPECT_GT(ssim(a, softened), 0.9);
}

TEST(Ssim, NarrowsItsWindowForSmallPictures) {
  // A single pixel has no variance: only its brightness counts.
  EXPECT_NEAR(ssim(constant(1, 1, 10), constant(1, 1, 20)), (2.0 * 10 * 20 + kC1) / (100.0 + 400 + kC1), 1e-9);
  for (const int64_t edge : {1, 2, 5, 10}) {
    EXPECT_EQ(ssim(noisy(edge, 30, 37), noisy(edge, 30, 37)), 1) << edge;
    EXPECT_LT(ssim(noisy(edge, 30, 37), noisy(edge, 30, 41)), 0.9) << edge;
  }
}

}  // namespace
}  // namespace opensora::tools
