// The matrix product, the fully connected layer and the embedding table.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <utility>

#include "core/device.h"
#include "core/weights.h"

namespace opensora::nn {

// out = scale * (x W^T + bias). x [rows, in], out [rows, out], weight [out, in], all of one dtype; bias [out] or
// undefined. In float16, here and in what is made of it below, what is too large becomes the largest number.
void product(const at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
             double scale = 1);

// True where float32 products go through oneDNN: LibTorch asks MKL, which has no kernels for the 512-bit vectors of
// AMD's processors (oneDNN's are 5 to 18 % faster there).
bool prefers_onednn();

// Whether LibTorch has a product on `device` that ends in GELU with the tanh approximation, which saves a pass over the
// result: a GPU has, and the CPU's has the exact GELU. Tried on numbers of its own when it is first asked of an
// accelerator, which waits for that.
bool has_gelu_product(at::Device device);

// Memory for one converted weight, kept from layer to layer: a large block of new memory costs more than the
// conversion.
class WeightBuffer {
 public:
  // `weight` in x's dtype and on its device: itself, or a copy that lasts until the next call.
  at::Tensor converted(const at::Tensor& weight, const at::Tensor& x);
  // A quantised weight likewise, always a copy. From the host it goes to the device as it is stored.
  at::Tensor converted(const QuantizedTensor& weight, const at::Tensor& x);

 private:
  at::Tensor space_for(at::IntArrayRef shape, const at::Tensor& x);
  void copy_from_host(const at::Tensor& from, const at::Tensor& to);

  at::Tensor data_;
  std::optional<StagingRing> staging_;  // of weights on the host for an accelerator
};

// y = x W^T + b. The weight keeps the checkpoint's dtype, and its device if it was bound on the host; where those are
// not x's, or it is quantised and products are not made of 8-bit numbers, it is converted as the layer runs.
struct Linear {
  at::Tensor weight;  // [out, in]; undefined: quantised
  at::Tensor bias;    // [out], or undefined
  std::optional<QuantizedTensor> quantized;

  Linear(const Weights& weights, int64_t in_features, int64_t out_features, bool with_bias = true);
  Linear(at::Tensor weight, at::Tensor bias) : weight(std::move(weight)), bias(std::move(bias)) {}
  Linear(QuantizedTensor weight, at::Tensor bias) : bias(std::move(bias)), quantized(std::move(weight)) {}

  int64_t out_features() const { return quantized ? quantized->data.size(0) : weight.size(0); }

  at::Tensor operator()(const at::Tensor& x) const;  // [..., in] -> [..., out]
  // scale * y into `out`, without a copy where that is a buffer or tokens or columns of one: x [B, L, in],
  // out [B, L, out].
  void into(const at::Tensor& out, const at::Tensor& x, double scale = 1) const;
  void into(const at::Tensor& out, const at::Tensor& x, WeightBuffer& buffer, double scale = 1) const;
  // For weights that need no conversion, but for quantised ones: gelu(y), with the tanh approximation, into `out`;
  // scale * x W^T added to it.
  void gelu_into(const at::Tensor& out, const at::Tensor& x) const;
  void add_into(const at::Tensor& out, const at::Tensor& x, double scale = 1) const;

  // The layer of `count` of the outputs, or of the inputs: a view; of quantised inputs that begin or end within a group
  // of them, a copy in float32.
  Linear outputs(int64_t first, int64_t count) const;
  Linear inputs(int64_t first, int64_t count) const;
  // With its weights converted for x, so that it can run on several x and that is done once; it lasts until `buffer`
  // is used again. Quantised ones stay as they are where x is multiplied by them (nn/quantized_product.h).
  Linear converted_for(const at::Tensor& x, WeightBuffer& buffer) const;
};

// The layer, whose products are made in floating point even where its weights are quantised and the device multiplies
// such: for the few layers on which all others depend.
Linear with_exact_products(Linear layer);

struct Embedding {
  int64_t count;  // of the table's rows
  Matrix table;   // [count, width]

  Embedding(const Weights& weights, int64_t count, int64_t width, std::string_view name = "weight");
  // ids: int64 of any shape -> [..., width] in `dtype`
  at::Tensor operator()(const at::Tensor& ids, at::ScalarType dtype) const;
};

}  // namespace opensora::nn
