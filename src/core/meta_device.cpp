#include "core/meta_device.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/record_function.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace opensora {
namespace {

struct Counter {
  at::DeviceType device;  // the one that the meta device stands in for
  int64_t live = 0, peak = 0;
  FlopCount flops;

  void add(int64_t bytes) {
    live += bytes;
    peak = std::max(peak, live);
  }
};

// Owned by a tensor's storage: its bytes count until the storage is freed.
struct Block {
  std::shared_ptr<Counter> counter;
  int64_t bytes;
};

void free_block(void* context) {
  const std::unique_ptr<Block> block(static_cast<Block*>(context));
  block->counter->live -= block->bytes;
}

class MetaAllocator final : public c10::Allocator {
 public:
  explicit MetaAllocator(std::shared_ptr<Counter> counter) : counter_(std::move(counter)) {}

  c10::DataPtr allocate(size_t bytes) override {
    auto block = std::make_unique<Block>(Block{counter_, static_cast<int64_t>(bytes)});
    counter_->add(block->bytes);
    return {nullptr, block.release(), &free_block, at::kMeta};
  }
  void copy_data(void*, const void*, std::size_t) const override {}  // there is no data

 private:
  std::shared_ptr<Counter> counter_;
};

using OptionalTensor = std::optional<at::Tensor>;

// The counter of the MetaDevice that made `x`, or nullptr if none did.
Counter* counter_of(const at::Tensor& x) {
  if (!x.is_meta()) return nullptr;
  const Block* block = x.storage().data_ptr().cast_context<Block>(&free_block);
  return block != nullptr ? block->counter.get() : nullptr;
}

void add_flops(const at::Tensor& x, double FlopCount::*kind, double flops) {
  if (Counter* counter = counter_of(x)) counter->flops.*kind += flops;
}

double count(const at::Tensor& x) { return static_cast<double>(x.numel()); }
double length(const at::Tensor& x, int64_t dim) { return static_cast<double>(x.size(dim)); }

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// How many channels oneDNN's blocked layouts keep together: as many floats as a vector register holds.
int64_t channel_block() { return at::get_cpu_capability().starts_with("AVX512") ? 16 : 8; }

// Whether the channels of frames lie innermost in memory. A convolution reads such frames as they are, and its result
// has the same layout.
bool is_channels_last(const at::Tensor& x) {
  return x.dim() == 5 && x.is_contiguous(at::MemoryFormat::ChannelsLast3d) && !x.is_contiguous();
}

// The bytes that at::convolution allocates on the CPU beside its input and output, as measured with LibTorch 2.11 on a
// CPU with AVX-512. oneDNN computes in a layout of its own: the input is copied into it, and the result out of it.
int64_t convolution_scratch(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& out, int64_t groups) {
  const auto in_bytes = static_cast<int64_t>(x.nbytes()), out_bytes = static_cast<int64_t>(out.nbytes());
  if (x.scalar_type() != at::kFloat) return std::max(in_bytes, 2 * out_bytes);
  const bool pointwise = weight.size(-1) == 1 && weight.size(-2) == 1;
  if (pointwise && groups == 1 && at::get_num_threads() == 1) return 0;  // LibTorch's own kernel, a matrix product
  const int64_t block = channel_block(), in = x.size(1), out_channels = out.size(1);
  const bool is_small = groups == 1 && x.size(1) * x.size(2) * x.size(3) <= 20480;
  if (x.dim() == 5 && groups == 1 && (in < block || is_small)) {  // a matrix product of the unfolded input
    const int64_t taps = weight.numel() / weight.size(0);
    return taps * (out.numel() / out_channels) * x.element_size();
  }
  if (is_channels_last(x)) return static_cast<int64_t>(weight.numel()) * x.element_size();  // only it is reordered
  const int64_t in_copy = in_bytes / in * round_up(in, block);
  const int64_t out_copy = out_bytes / out_channels * round_up(out_channels, block);
  // By the time the output itself is touched, the input's copy is gone.
  return std::max(in_copy + out_copy - out_bytes, out_copy);
}

// The value for an axis; a list of one value holds for all axes.
int64_t along(at::IntArrayRef values, int64_t axis) { return values.size() == 1 ? values[0] : values[axis]; }

std::vector<int64_t> convolved_shape(const at::Tensor& x, const at::Tensor& weight, at::IntArrayRef stride,
                                     at::IntArrayRef padding, at::IntArrayRef dilation) {
  std::vector<int64_t> shape = {x.size(0), weight.size(0)};
  for (int64_t i = 2; i < x.dim(); ++i) {
    const int64_t axis = i - 2, reach = along(dilation, axis) * (weight.size(i) - 1) + 1;
    shape.push_back((x.size(i) + 2 * along(padding, axis) - reach) / along(stride, axis) + 1);
  }
  return shape;
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const OptionalTensor& /*bias*/,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef /*output_padding*/, int64_t groups) {
  TORCH_CHECK(!transposed, "no transposed convolutions on the meta device");
  const bool channels_last = is_channels_last(input);
  const at::Tensor x = channels_last ? input : input.contiguous();
  at::Tensor out = at::empty(convolved_shape(x, weight, stride, padding, dilation), x.options(),
                             channels_last ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::Contiguous);
  add_flops(out, &FlopCount::convolution, 2 * count(out) * count(weight) / length(weight, 0));
  // The size of cuDNN's workspace is not known, but its default limit is small beside the activations.
  if (kernel_device(out) == at::kCPU) {
    at::empty({convolution_scratch(x, weight, out, groups)}, x.options().dtype(at::kByte));
  }
  return out;
}

// As the fused kernels do it: no scores in memory, and a result laid out as [B, L, H, D].
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptionalTensor& /*mask*/,
                     double /*dropout*/, bool /*causal*/, std::optional<double> /*scale*/, bool /*enable_gqa*/) {
  const at::Tensor out = at::empty({q.size(0), q.size(2), q.size(1), v.size(3)}, q.options());
  add_flops(out, &FlopCount::attention, 2 * count(q) * length(k, -2) * (1 + length(v, -1) / length(k, -1)));
  return out.transpose(1, 2);
}

using Three = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

Three layer_norm(const at::Tensor& x, at::IntArrayRef normalized, const OptionalTensor&, const OptionalTensor&,
                 double) {
  const at::Tensor statistics = at::empty({x.numel() / c10::multiply_integers(normalized)}, x.options());
  return {at::empty_like(x), statistics, at::empty_like(statistics)};
}

Three group_norm(const at::Tensor& x, const OptionalTensor&, const OptionalTensor&, int64_t n, int64_t /*channels*/,
                 int64_t /*area*/, int64_t groups, double) {
  const at::Tensor statistics = at::empty({n, groups}, x.options());
  return {at::empty_like(x), statistics, at::empty_like(statistics)};
}

at::Tensor index_select(const at::Tensor& x, int64_t dim, const at::Tensor& index) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape[at::maybe_wrap_dim(dim, x.dim())] = index.numel();
  return at::empty(shape, x.options());
}

// Stands for any function that is computed element by element.
at::Tensor elementwise(const at::Tensor& x) { return at::empty_like(x); }

torch::Library missing_kernels() {
  torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
  library.impl("convolution", TORCH_FN(convolution));
  library.impl("scaled_dot_product_attention", TORCH_FN(attention));
  library.impl("native_layer_norm", TORCH_FN(layer_norm));
  library.impl("native_group_norm", TORCH_FN(group_norm));
  library.impl("index_select", TORCH_FN(index_select));
  library.impl("abs", TORCH_FN(elementwise));
  library.impl("relu", TORCH_FN(elementwise));
  return library;
}

// Counts the product of x and a matrix with so many columns.
void count_product(const at::Tensor& x, double columns) { add_flops(x, &FlopCount::linear, 2 * count(x) * columns); }

// LibTorch has meta kernels of its own for matrix products, so these are counted when they are called.
std::unique_ptr<at::ObserverContext> count_products(const at::RecordFunction& fn) {
  const std::string name = fn.name();
  const auto input = [&](size_t i) { return fn.inputs()[i].toTensor(); };
  // at::linear calls other operators. So addmm and mm count only if they are given a tensor to write into, their last
  // input.
  const auto writes_into = [&](size_t inputs) { return fn.inputs().size() == inputs + 1; };
  if (name == "aten::linear") {
    count_product(input(0), length(input(1), 0));
  } else if (name == "aten::addmm" && writes_into(5)) {
    count_product(input(1), length(input(2), 1));
  } else if (name == "aten::mm" && writes_into(2)) {
    count_product(input(0), length(input(1), 1));
  } else if (name == "aten::bmm") {
    count_product(input(0), length(input(1), 2));
  }
  return nullptr;
}

}  // namespace

struct MetaDevice::State {
  explicit State(at::DeviceType device) : counter(std::make_shared<Counter>(Counter{.device = device, .flops = {}})) {}

  std::shared_ptr<Counter> counter;
  MetaAllocator allocator{counter};
  c10::Allocator* previous = c10::GetAllocator(at::kMeta);
  torch::Library kernels = missing_kernels();
  at::CallbackHandle callback = 0;
};

MetaDevice::MetaDevice(at::Device device) : state_(std::make_unique<State>(device.type())) {
  c10::SetAllocator(at::kMeta, &state_->allocator);
  state_->callback = at::addThreadLocalCallback(
      at::RecordFunctionCallback(count_products).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

MetaDevice::~MetaDevice() {
  at::removeCallback(state_->callback);
  c10::SetAllocator(at::kMeta, state_->previous);
}

int64_t MetaDevice::live_bytes() const { return state_->counter->live; }
int64_t MetaDevice::peak_bytes() const { return state_->counter->peak; }
void MetaDevice::reset_peak() { state_->counter->peak = state_->counter->live; }
const FlopCount& MetaDevice::flops() const { return state_->counter->flops; }
void MetaDevice::reset_flops() { state_->counter->flops = {}; }

at::DeviceType kernel_device(const at::Tensor& x) {
  const Counter* counter = counter_of(x);
  return counter != nullptr ? counter->device : x.device().type();
}

void count_convolution(const at::Tensor& x, double flops) { add_flops(x, &FlopCount::convolution, flops); }

}  // namespace opensora
