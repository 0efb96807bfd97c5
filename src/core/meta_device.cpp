#include "core/meta_device.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/record_function.h>
#include <torch/library.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace opensora {
namespace {

struct Counter {
  at::DeviceType device;  // the one that the meta device stands in for
  int64_t live = 0, peak = 0;
  FlopCount flops;
  ByteCount bytes;

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
at::MemoryFormat channels_last_of(const at::Tensor& x) {
  return x.dim() == 5 ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::ChannelsLast;
}
bool is_channels_last(const at::Tensor& x) {
  return (x.dim() == 4 || x.dim() == 5) && x.is_contiguous(channels_last_of(x)) && !x.is_contiguous();
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
                             channels_last ? channels_last_of(x) : at::MemoryFormat::Contiguous);
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

// Products of 8-bit numbers, whose FLOPs are counted as those of other products are.
at::Tensor& int8_product(const at::Tensor& /*x*/, const at::Tensor& /*weight*/, at::Tensor& out) { return out; }
at::Tensor& fp8_product(const at::Tensor& /*x*/, const at::Tensor& /*weight*/, const at::Tensor& /*x_scale*/,
                        const at::Tensor& /*weight_scale*/, const OptionalTensor& /*bias*/,
                        const OptionalTensor& /*result_scale*/, std::optional<at::ScalarType> /*dtype*/,
                        bool /*use_fast_accum*/, at::Tensor& out) {
  return out;
}

torch::Library missing_kernels() {
  torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
  library.impl("convolution", TORCH_FN(convolution));
  library.impl("scaled_dot_product_attention", TORCH_FN(attention));
  library.impl("native_layer_norm", TORCH_FN(layer_norm));
  library.impl("native_group_norm", TORCH_FN(group_norm));
  library.impl("index_select", TORCH_FN(index_select));
  library.impl("_int_mm.out", TORCH_FN(int8_product));
  library.impl("_scaled_mm.out", TORCH_FN(fp8_product));
  library.impl("abs", TORCH_FN(elementwise));
  library.impl("relu", TORCH_FN(elementwise));
  return library;
}

// Of the tensors' elements that lie in memory: a broadcast one's are fewer than its shape says.
double stored_bytes(const at::Tensor& x) {
  if (!x.defined() || !x.is_meta()) return 0;
  double elements = 1;
  for (int64_t i = 0; i < x.dim(); ++i) elements *= x.stride(i) == 0 ? 1 : length(x, i);
  return elements * static_cast<double>(x.element_size());
}

double stored_bytes(const c10::IValue& value) {
  if (value.isTensor()) return stored_bytes(value.toTensor());
  if (!value.isTensorList()) return 0;
  double bytes = 0;
  for (const at::Tensor& x : value.toTensorVector()) bytes += stored_bytes(x);
  return bytes;
}

// How an operator is counted, as its schema tells.
struct Signature {
  double ByteCount::*kind = nullptr;  // nullptr: a view or an allocation, of which nothing is counted
  std::vector<double> passes;         // over each argument: 1 what is read or written, 2 what is changed, 0 nothing
  bool makes_results = false;         // which are written; else they are arguments
  bool gathers = false;               // reads as much as it writes, whatever its table holds
};

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

double ByteCount::*kind_of(const std::string& name) {
  if (is_one_of(name, {"linear", "addmm", "mm", "bmm", "baddbmm", "_int_mm", "_scaled_mm"})) return &ByteCount::linear;
  if (name == "convolution") return &ByteCount::convolution;
  if (name == "scaled_dot_product_attention") return &ByteCount::attention;
  const bool moves_nothing = name.starts_with("empty") || name.starts_with("new_empty") || name.starts_with("resize") ||
                             is_one_of(name, {"_unsafe_view", "item", "_local_scalar_dense"});
  return moves_nothing ? nullptr : &ByteCount::elementwise;
}

Signature read_signature(const c10::FunctionSchema& schema) {
  const std::string name = schema.name().substr(schema.name().find("::") + 2);
  Signature signature{.kind = kind_of(name), .passes = {}, .gathers = name == "index_select"};
  for (const c10::Argument& argument : schema.arguments()) {
    const bool is_changed = argument.alias_info() != nullptr && argument.alias_info()->isWrite();
    const bool is_only_written = argument.is_out() || is_one_of(name, {"copy_", "fill_", "zero_"});
    signature.passes.push_back(is_changed && !is_only_written ? 2 : 1);
  }
  for (const c10::Argument& result : schema.returns()) {
    if (result.alias_info() == nullptr) {
      signature.makes_results = true;
    } else if (!result.alias_info()->isWrite()) {
      signature.kind = nullptr;
    }
  }
  return signature;
}

// Each schema is read once: an operator's name lies where its schema does.
const Signature& signature_of(const at::RecordFunction& fn) {
  thread_local std::unordered_map<const char*, Signature> known;
  const auto found = known.find(fn.name());
  if (found != known.end()) return found->second;
  const std::optional<c10::FunctionSchema> schema = fn.operator_schema();
  return known.emplace(fn.name(), schema ? read_signature(*schema) : Signature{}).first->second;
}

// An operator that runs. Operators call others: an element-wise one counts if none within it has counted, the products,
// convolutions and attention count for all within them.
struct Call final : at::ObserverContext {
  Call* outer = nullptr;
  const Signature* signature = nullptr;  // nullptr: within an operator that counts for it
  double bytes = 0;
  bool has_counted = false;

  bool counts_for_all() const {
    return signature == nullptr || (signature->kind != nullptr && signature->kind != &ByteCount::elementwise);
  }
};

thread_local Counter* active_counter = nullptr;  // of the thread's MetaDevice
thread_local Call* innermost_call = nullptr;

// LibTorch has meta kernels of its own for matrix products, so that their FLOPs are counted when they are called.
void add_product(const at::RecordFunction& fn) {
  const std::string_view name = std::string_view(fn.name()).substr(std::string_view("aten::").size());
  const auto input = [&](size_t i) { return fn.inputs()[i].toTensor(); };
  const bool adds = name.find("add") != std::string_view::npos;  // x is the second, behind what is added
  const at::Tensor x = input(adds ? 1 : 0), weight = input(adds ? 2 : 1);
  const double columns = length(weight, name == "linear" ? 0 : -1);
  if (x.is_meta()) active_counter->flops.linear += 2 * count(x) * columns;
}

std::unique_ptr<at::ObserverContext> enter(const at::RecordFunction& fn) {
  auto call = std::make_unique<Call>();
  call->outer = std::exchange(innermost_call, call.get());
  if (call->outer != nullptr && call->outer->counts_for_all()) return call;
  call->signature = &signature_of(fn);
  if (call->signature->kind == nullptr) return call;
  if (call->signature->kind == &ByteCount::linear) add_product(fn);
  const size_t arguments = std::min(fn.inputs().size(), call->signature->passes.size());
  for (size_t i = 0; i < arguments && !call->signature->gathers; ++i) {
    call->bytes += call->signature->passes[i] * stored_bytes(fn.inputs()[i]);
  }
  return call;
}

void leave(const at::RecordFunction& fn, at::ObserverContext* context) {
  auto* call = static_cast<Call*>(context);
  innermost_call = call->outer;
  if (call->signature == nullptr) return;
  if (call->signature->kind != nullptr && !call->has_counted) {
    double made = 0;
    if (call->signature->makes_results) {
      for (const c10::IValue& result : fn.outputs()) made += stored_bytes(result);
    }
    call->bytes += call->signature->gathers ? 2 * made : made;
    call->has_counted = call->bytes > 0;
    active_counter->bytes.*(call->signature->kind) += call->bytes;
    active_counter->bytes.operators += call->has_counted ? 1 : 0;
  }
  if (call->outer != nullptr && call->has_counted) call->outer->has_counted = true;
}

void add_bytes(at::TensorList tensors, double ByteCount::*kind) {
  if (active_counter == nullptr) return;
  double bytes = 0;
  for (const at::Tensor& x : tensors) bytes += stored_bytes(x);
  active_counter->bytes.*kind += bytes;
  active_counter->bytes.operators += bytes > 0 ? 1 : 0;
}

}  // namespace

struct MetaDevice::State {
  explicit State(at::DeviceType device)
      : counter(std::make_shared<Counter>(Counter{.device = device, .flops = {}, .bytes = {}})) {}

  std::shared_ptr<Counter> counter;
  MetaAllocator allocator{counter};
  c10::Allocator* previous = c10::GetAllocator(at::kMeta);
  torch::Library kernels = missing_kernels();
  at::CallbackHandle callback = 0;
};

MetaDevice::MetaDevice(at::Device device) : state_(std::make_unique<State>(device.type())) {
  c10::SetAllocator(at::kMeta, &state_->allocator);
  active_counter = state_->counter.get();
  state_->callback = at::addThreadLocalCallback(at::RecordFunctionCallback(enter, leave)
                                                    .needsInputs(true)
                                                    .needsOutputs(true)
                                                    .scopes({at::RecordScope::FUNCTION}));
}

MetaDevice::~MetaDevice() {
  at::removeCallback(state_->callback);
  active_counter = nullptr;
  c10::SetAllocator(at::kMeta, state_->previous);
}

int64_t MetaDevice::live_bytes() const { return state_->counter->live; }
int64_t MetaDevice::peak_bytes() const { return state_->counter->peak; }
void MetaDevice::reset_peak() { state_->counter->peak = state_->counter->live; }
const FlopCount& MetaDevice::flops() const { return state_->counter->flops; }
const ByteCount& MetaDevice::bytes() const { return state_->counter->bytes; }
void MetaDevice::reset_counts() {
  state_->counter->flops = {};
  state_->counter->bytes = {};
}

at::DeviceType kernel_device(const at::Tensor& x) {
  const Counter* counter = counter_of(x);
  return counter != nullptr ? counter->device : x.device().type();
}

void count_convolution(const at::Tensor& out, at::TensorList read, double flops) {
  add_flops(out, &FlopCount::convolution, flops);
  std::vector<at::Tensor> tensors = read.vec();
  tensors.push_back(out);
  add_bytes(tensors, &ByteCount::convolution);
}

void count_pass(at::TensorList tensors) { add_bytes(tensors, &ByteCount::elementwise); }

}  // namespace opensora
