#include "tools/quality.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace opensora::tools {
namespace {

constexpr double kPeak = 255;

// At most 11 values that add up to 1; an odd number of them, to have a middle.
std::vector<double> gaussian_window(int64_t edge) {
  constexpr double kSigma = 1.5;
  const int64_t radius = (std::min<int64_t>(edge, 11) - 1) / 2;
  std::vector<double> window;
  double sum = 0;
  for (int64_t x = -radius; x <= radius; ++x) {
    window.push_back(std::exp(-static_cast<double>(x * x) / (2 * kSigma * kSigma)));
    sum += window.back();
  }
  for (double& weight : window) weight /= sum;
  return window;
}

at::Tensor blur_along(const at::Tensor& x, int64_t dim) {
  const std::vector<double> window = gaussian_window(x.size(dim));
  const auto taps = static_cast<int64_t>(window.size());
  const int64_t length = x.size(dim) - taps + 1;
  at::Tensor sum = x.narrow(dim, 0, length) * window[0];
  for (int64_t k = 1; k < taps; ++k) sum.add_(x.narrow(dim, k, length), window[k]);
  return sum;
}

at::Tensor blur(const at::Tensor& x) { return blur_along(blur_along(x, 0), 1); }

}  // namespace

double mean_squared_error(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).square_().mean().item<double>();
}

double psnr_of(double mean_squared_error) {
  if (mean_squared_error == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(kPeak * kPeak / mean_squared_error);
}

double psnr(const at::Tensor& a, const at::Tensor& b) { return psnr_of(mean_squared_error(a, b)); }

double ssim(const at::Tensor& a, const at::Tensor& b) {
  constexpr double kC1 = (0.01 * kPeak) * (0.01 * kPeak), kC2 = (0.03 * kPeak) * (0.03 * kPeak);
  // In double: the variances are small differences of large squares.
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  const at::Tensor mean_x = blur(x), mean_y = blur(y);
  const at::Tensor mean_xx = mean_x * mean_x, mean_yy = mean_y * mean_y, mean_xy = mean_x * mean_y;
  const at::Tensor variance_x = blur(x * x) - mean_xx, variance_y = blur(y * y) - mean_yy;
  const at::Tensor covariance = blur(x * y) - mean_xy;
  const at::Tensor similarity =
      (2 * mean_xy + kC1) * (2 * covariance + kC2) / ((mean_xx + mean_yy + kC1) * (variance_x + variance_y + kC2));
  return similarity.mean().item<double>();  // the channels have as many values each
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace opensora::tools
