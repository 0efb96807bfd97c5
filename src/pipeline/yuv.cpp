#include "pipeline/yuv.h"

namespace opensora::pipeline {
namespace {

// BT.709: the weights of red and blue in luma. Limited range: luma has 219 levels from 16, chroma 224 around 128.
constexpr double kRed = 0.2126, kBlue = 0.0722, kGreen = 1 - kRed - kBlue;
constexpr double kFull = 255, kLuma = 219, kChroma = 224;

// Repeats the last row or column where there is an odd number of them.
at::Tensor even(const at::Tensor& x, int64_t dim) {
  return x.size(dim) % 2 == 0 ? x : at::cat({x, x.narrow(dim, x.size(dim) - 1, 1)}, dim);
}

// With the first element of a dimension `before` times more in front of it, and the last `after` times more behind.
at::Tensor replicated(const at::Tensor& x, int64_t dim, int64_t before, int64_t after) {
  std::vector<at::Tensor> parts = {x};
  for (int64_t i = 0; i < before; ++i) parts.insert(parts.begin(), x.narrow(dim, 0, 1));
  for (int64_t i = 0; i < after; ++i) parts.push_back(x.narrow(dim, x.size(dim) - 1, 1));
  return at::cat(parts, dim);
}

// Every second element from the first.
at::Tensor halved(const at::Tensor& x, int64_t dim, int64_t first, int64_t count) {
  return x.slice(dim, first, first + 2 * count - 1, 2);
}

// A triangle as wide as two pixels of the result. Across: centred on the left pixel of two, 1 2 1. Down: between the
// two rows, 1 3 3 1. [3, h, w] -> [3, h/2, w/2]
at::Tensor shrunk(const at::Tensor& x) {
  const int64_t rows = x.size(1) / 2, columns = x.size(2) / 2;
  const at::Tensor wide = replicated(x, 2, 1, 0);
  const at::Tensor narrow =
      (halved(wide, 2, 0, columns) + 2 * halved(wide, 2, 1, columns) + halved(wide, 2, 2, columns)) / 4;
  const at::Tensor tall = replicated(narrow, 1, 1, 1);
  return (halved(tall, 1, 0, rows) + 3 * halved(tall, 1, 1, rows) + 3 * halved(tall, 1, 2, rows) +
          halved(tall, 1, 3, rows)) /
         8;
}

// Of [3, h, w]: the sum of its channels, each times its weight, [h, w].
at::Tensor mixed(const at::Tensor& x, double red, double green, double blue) {
  return red * x[0] + green * x[1] + blue * x[2];
}

at::Tensor to_levels(const at::Tensor& x) { return x.round().clamp(0, kFull).to(at::kByte).flatten(); }

}  // namespace

at::Tensor to_yuv420p(const at::Tensor& rgb) {
  const at::Tensor x = even(even(rgb.permute({2, 0, 1}).to(at::kFloat), 1), 2) / kFull;  // [3, h, w]
  const at::Tensor small = shrunk(x);
  const double u = kChroma / (2 * (1 - kBlue)), v = kChroma / (2 * (1 - kRed));
  return at::cat({to_levels(16 + kLuma * mixed(x, kRed, kGreen, kBlue)),
                  to_levels(128 + u * mixed(small, -kRed, -kGreen, 1 - kBlue)),
                  to_levels(128 + v * mixed(small, 1 - kRed, -kGreen, -kBlue))});
}

}  // namespace opensora::pipeline
