// Matrices in 8 bits, and the way between them and floating-point numbers.
#include "core/quantized.h"

#include <gtest/gtest.h>

#include <vector>

#include "support/reference.h"

namespace opensora {
namespace {

using test::close;
using test::relative_error;

const std::vector<QuantizedFormat> kByteFormats = {QuantizedFormat::kInt8, QuantizedFormat::kFp8E4M3,
                                                   QuantizedFormat::kFp8E5M2};

at::Tensor codes_of(QuantizedFormat format, int64_t rows, int64_t columns) {
  if (format == QuantizedFormat::kInt8) return at::randint(-127, 128, {rows, columns}, at::kChar);
  const bool is_e4m3 = format == QuantizedFormat::kFp8E4M3;
  return (at::randn({rows, columns}) * 20).to(is_e4m3 ? at::kFloat8_e4m3fn : at::kFloat8_e5m2);
}

// What the header says, in LibTorch's operators.
at::Tensor reference(const QuantizedTensor& from) {
  const at::Tensor values = from.data.to(at::kFloat);
  if (!from.scale.defined()) return values;
  if (from.scale.dim() < 2) return values * from.scale;
  return (values.unflatten(1, {from.scale.size(1), -1}) * from.scale.unsqueeze(-1)).flatten(1);
}

TEST(Quantized, EveryFormatAndShapeOfScaleIsComputedInFloat32AndRoundedOnce) {
  at::manual_seed(1);
  for (const QuantizedFormat format : kByteFormats) {
    for (const at::Tensor& scale : {at::Tensor(), at::rand({1}), at::rand({70, 1}), at::rand({70, 6})}) {
      const QuantizedTensor matrix{.format = format, .data = codes_of(format, 70, 96), .scale = scale};
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
        EXPECT_TRUE(dequantized(matrix, dtype).equal(reference(matrix).to(dtype))) << format_name(format) << dtype;
      }
    }
  }
}

TEST(Quantized, AllCodesOfFp8AreWhatLibTorchSaysTheyAre) {
  const at::Tensor codes = at::arange(256, at::kInt).to(at::kByte).view({2, 128});
  for (const at::ScalarType dtype : {at::kFloat8_e4m3fn, at::kFloat8_e5m2}) {
    const QuantizedTensor matrix{
        .format = dtype == at::kFloat8_e5m2 ? QuantizedFormat::kFp8E5M2 : QuantizedFormat::kFp8E4M3,
        .data = codes.view(dtype)};
    EXPECT_TRUE(at::allclose(dequantized(matrix, at::kFloat), codes.view(dtype).to(at::kFloat), 0, 0,
                             /*equal_nan=*/true));
  }
}

TEST(Quantized, ViewsOfRowsAndColumns) {
  at::manual_seed(2);
  const QuantizedTensor matrix{
      .format = QuantizedFormat::kInt8, .data = codes_of(QuantizedFormat::kInt8, 8, 64), .scale = at::rand({8, 4})};
  const QuantizedTensor part{.format = matrix.format,
                             .data = matrix.data.narrow(0, 2, 5).narrow(1, 16, 32),
                             .scale = matrix.scale.narrow(0, 2, 5).narrow(1, 1, 2)};
  EXPECT_TRUE(dequantized(part, at::kFloat).equal(reference(matrix).narrow(0, 2, 5).narrow(1, 16, 32)));
  const at::Tensor buffer = at::full({5, 40}, 7.0F);
  dequantize_into(buffer.narrow(1, 4, 32), part);
  EXPECT_TRUE(buffer.narrow(1, 4, 32).equal(dequantized(part, at::kFloat)));
  EXPECT_EQ((buffer == 7).sum().item<int64_t>(), 5 * 8);
}

TEST(Quantized, RowsAndColumnsByTheirUnits) {
  at::manual_seed(6);
  const at::Tensor weight = at::randn({8, 128});
  const QuantizedTensor rotated = quantized_by_row(weight, QuantizedFormat::kInt8, 64);
  const at::Tensor whole = dequantized(rotated, at::kFloat);
  EXPECT_TRUE(dequantized(rows_of(rotated, 3, 4), at::kFloat).equal(whole.narrow(0, 3, 4)));
  EXPECT_TRUE(dequantized(*columns_of(rotated, 64, 64), at::kFloat).equal(whole.narrow(1, 64, 64)));
  EXPECT_FALSE(columns_of(rotated, 32, 64));
  EXPECT_FALSE(columns_of(rotated, 64, 32));

  QuantizedTensor grouped{
      .format = QuantizedFormat::kInt8, .data = codes_of(QuantizedFormat::kInt8, 8, 96), .scale = at::rand({8, 3})};
  EXPECT_TRUE(
      dequantized(*columns_of(grouped, 32, 64), at::kFloat).equal(dequantized(grouped, at::kFloat).narrow(1, 32, 64)));
  EXPECT_FALSE(columns_of(grouped, 16, 32));
  grouped.scale = at::rand({1});
  EXPECT_TRUE(
      dequantized(*columns_of(grouped, 7, 5), at::kFloat).equal(dequantized(grouped, at::kFloat).narrow(1, 7, 5)));
  EXPECT_TRUE(dequantized(rows_of(grouped, 2, 3), at::kFloat).equal(dequantized(grouped, at::kFloat).narrow(0, 2, 3)));
}

// As a table of embeddings is read.
TEST(Quantized, RowsOfAnyIndicesAreThoseOfTheWhole) {
  at::manual_seed(7);
  const at::Tensor indices = at::tensor({5, 0, 5, 7}, at::kLong);
  const at::Tensor scale = at::rand({8, 3});
  for (const QuantizedFormat format : kByteFormats) {
    for (const at::Tensor& its_scale : {at::Tensor(), at::rand({1}), scale.slice(1, 0, 1), scale}) {
      const QuantizedTensor matrix{.format = format, .data = codes_of(format, 8, 96), .scale = its_scale};
      const at::Tensor expected = dequantized(matrix, at::kFloat).index_select(0, indices);
      EXPECT_TRUE(dequantized(rows_at(matrix, indices), at::kFloat).equal(expected)) << format_name(format);
    }
  }
}

// The Kronecker power, written out.
TEST(Quantized, TheRotationIsTheRegularHadamardMatrix) {
  const at::Tensor four = at::tensor({1, 1, 1, -1, 1, 1, -1, 1, 1, -1, 1, 1, -1, 1, 1, 1}).view({4, 4}) / 2.0F;
  at::manual_seed(3);
  at::Tensor matrix = at::ones({1, 1});
  for (const int64_t size : {1, 4, 16, 64, 256}) {
    EXPECT_TRUE(can_rotate(size));
    const at::Tensor x = at::randn({3, 2 * size}), rotated = x.clone();
    rotate_(rotated, size);
    EXPECT_TRUE(close(rotated, x.view({-1, size}).matmul(matrix).view_as(x), 1e-5, 1e-5)) << size;
    rotate_(rotated, size);
    EXPECT_TRUE(close(rotated, x, 1e-5, 1e-5)) << size;  // its own inverse
    matrix = at::kron(matrix, four);
  }
  for (const int64_t size : {0, 2, 8, 12, 128}) EXPECT_FALSE(can_rotate(size));
}

TEST(Quantized, ByRowAndBack) {
  at::manual_seed(4);
  const at::Tensor weight = at::randn({48, 512}) * at::rand({48, 1}).pow(4);
  for (const int64_t rotation : {0, 256}) {
    const QuantizedTensor int8 = quantized_by_row(weight, QuantizedFormat::kInt8, rotation);
    EXPECT_EQ(int8.shape(), weight.sizes());
    EXPECT_EQ(int8.nbytes(), 48 * 512 + 48 * 4);
    EXPECT_EQ(int8.data.abs().amax(1).min().item<int>(), 127);  // each row uses all of the range
    EXPECT_LT(relative_error(dequantized(int8, at::kFloat), weight), 0.01);
    const QuantizedTensor fp8 = quantized_by_row(weight, QuantizedFormat::kFp8E4M3, rotation);
    EXPECT_LT(relative_error(dequantized(fp8, at::kFloat), weight), 0.03);
  }
}

TEST(Quantized, RotationSavesRowsWithOutliers) {
  at::manual_seed(5);
  const at::Tensor weight = at::randn({16, 256});
  weight.select(1, 9).mul_(100);
  const auto error = [&](int64_t rotation) {
    const QuantizedTensor quantized = quantized_by_row(weight, QuantizedFormat::kInt8, rotation);
    const at::Tensor rest = (dequantized(quantized, at::kFloat) - weight).square();
    return rest.sum().sqrt().item<double>();
  };
  EXPECT_LT(error(256), error(0) / 2);
}

TEST(Quantized, RowsOfZerosStayZero) {
  for (const QuantizedFormat format : {QuantizedFormat::kInt8, QuantizedFormat::kFp8E4M3}) {
    const at::Tensor weight = at::randn({3, 16});
    weight.select(0, 1).zero_();
    const at::Tensor back = dequantized(quantized_by_row(weight, format), at::kFloat);
    EXPECT_TRUE(back.isfinite().all().item<bool>());
    EXPECT_EQ(back.select(0, 1).abs().max().item<float>(), 0);
  }
}

}  // namespace
}  // namespace opensora
