#include "nn/linear.h"

#include "core/cpu_features.h"
#include "core/device.h"
#include "core/trace.h"

namespace at::native {
// LibTorch exports this function but installs no header for it: result = alpha * mat1 mat2 + beta * result.
TORCH_API void mkldnn_matmul(const Tensor& mat1, const Tensor& mat2, const Tensor& result, float beta, float alpha);
}  // namespace at::native

namespace opensora::nn {

bool prefers_onednn() {
  const CpuFeatures& cpu = cpu_features();
  return cpu.is_amd && cpu.avx512;
}

void product(const at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const TraceSpan span("product");
  at::Tensor result = out;
  const bool is_float_on_cpu = x.is_cpu() && x.scalar_type() == at::kFloat;
  if (is_float_on_cpu && x.numel() > 0 && x.stride(1) == 1 && out.stride(1) == 1 && prefers_onednn()) {
    if (bias.defined()) result.copy_(bias.expand_as(result));
    at::native::mkldnn_matmul(x, weight.t(), result, bias.defined() ? 1.0F : 0.0F, 1.0F);
  } else if (bias.defined()) {
    at::addmm_out(result, bias, x, weight.t());
  } else {
    at::mm_out(result, x, weight.t());
  }
}

Linear::Linear(const Weights& weights, int64_t in_features, int64_t out_features, bool with_bias)
    : weight(weights.tensor("weight", {out_features, in_features})),
      bias(with_bias ? weights.tensor("bias", {out_features}) : at::Tensor()) {}

at::Tensor WeightBuffer::converted(const at::Tensor& weight, const at::Tensor& x) {
  if (weight.scalar_type() == x.scalar_type() && weight.device() == x.device()) return weight;
  const TraceSpan span("convert weight");
  const bool fits = data_.defined() && data_.numel() >= weight.numel() && data_.scalar_type() == x.scalar_type() &&
                    data_.device() == x.device();
  if (!fits) {
    data_.reset();  // first, or both would exist for a moment
    data_ = at::empty({weight.numel()}, x.options());
    use_huge_pages(data_);
  }
  return data_.narrow(0, 0, weight.numel()).view(weight.sizes()).copy_(weight);
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  WeightBuffer buffer;
  const Linear layer = converted_for(x, buffer);
  if (!bias.defined()) return at::linear(x, layer.weight);
  return at::linear(x, layer.weight, layer.bias);
}

void Linear::into(const at::Tensor& out, const at::Tensor& x) const {
  WeightBuffer buffer;
  into(out, x, buffer);
}

void Linear::into(const at::Tensor& out, const at::Tensor& x, WeightBuffer& buffer) const {
  const Linear layer = converted_for(x, buffer);
  for (int64_t b = 0; b < x.size(0); ++b) product(out.select(0, b), x.select(0, b), layer.weight, layer.bias);
}

Linear Linear::outputs(int64_t first, int64_t count) const {
  return {weight.narrow(0, first, count), bias.defined() ? bias.narrow(0, first, count) : bias};
}

Linear Linear::converted_for(const at::Tensor& x, WeightBuffer& buffer) const {
  return {buffer.converted(weight, x), bias.defined() ? bias.to(x.device(), x.scalar_type()) : bias};
}

Embedding::Embedding(const Weights& weights, int64_t count, int64_t width, std::string_view name)
    : weight(weights.tensor(name, {count, width})) {}

at::Tensor Embedding::operator()(const at::Tensor& ids, at::ScalarType dtype) const {
  // Rows are gathered in the checkpoint's dtype: the table itself is never converted.
  return at::embedding(weight, ids.to(weight.device())).to(dtype);
}

}  // namespace opensora::nn
