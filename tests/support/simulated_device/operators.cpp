// Operators: LibTorch's kernels for the CPU on the device's memory, through one function for all of them.
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/simulated_device/memory.h"
#include "support/simulated_device/operation.h"
#include "support/simulated_device/state.h"

namespace opensora::test::simulated {
namespace {

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

at::Tensor empty_memory_format(at::IntArrayRef size, std::optional<at::ScalarType> dtype,
                               std::optional<at::Layout> /*layout*/, std::optional<at::Device> /*device*/,
                               std::optional<bool> /*pin_memory*/, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &device_allocator(), kKeys, dtype.value_or(at::kFloat), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout> /*layout*/, std::optional<at::Device> /*device*/,
                         std::optional<bool> /*pin_memory*/) {
  return at::detail::empty_strided_generic(size, stride, &device_allocator(), kKeys, dtype.value_or(at::kFloat));
}

// Contiguous, with new memory where it must grow; what it held is then gone, unlike LibTorch's.
const at::Tensor& resize_here(const at::Tensor& self, at::IntArrayRef size,
                              std::optional<at::MemoryFormat> /*format*/) {
  auto* const storage = self.storage().unsafeGetStorageImpl();
  const size_t bytes = static_cast<size_t>(c10::multiply_integers(size)) * self.element_size();
  if (bytes > storage->nbytes()) {
    storage->set_data_ptr_noswap(device_allocator().allocate(bytes));
    storage->set_nbytes(bytes);
  }
  self.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return self;
}

at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(source.storage());
  self.unsafeGetTensorImpl()->set_sizes_and_strides(source.sizes(), source.strides(), source.storage_offset());
  return self;
}

at::Tensor& set_storage(at::Tensor& self, c10::Storage source, int64_t offset, at::IntArrayRef size,
                        at::IntArrayRef stride) {
  return at::native::set_storage_cpu_(self, std::move(source), offset, size, stride);
}

void record_stream(at::Tensor& self, c10::Stream stream) {
  device_allocator().recordStream(self.storage().data_ptr(), stream);
}

// New memory of the device that holds what an operator has computed on the CPU.
at::Tensor moved_here(Operation& operation, const at::Tensor& computed) {
  at::Tensor result = empty_strided(computed.sizes(), computed.strides(), computed.scalar_type(), {}, {}, {});
  if (computed.numel() > 0) operation.use(result, /*writes=*/true).copy_(computed);
  return result;
}

// A tensor of the CPU that an operator has returned, and one of the device.
bool same_place(const at::Tensor& computed, const at::Tensor& here) {
  return computed.numel() > 0 && here.numel() > 0 && computed.storage().data() == worked_at(here.storage().data());
}

bool same_view(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.strides() == b.strides() && a.storage_offset() == b.storage_offset();
}

// A call of any operator: its arguments are exchanged for tensors of the CPU, and its results for tensors of the
// device.
class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack& stack)
      : op_(op), stack_(stack), operation_(op.schema().name()) {}
  void run();

 private:
  at::Tensor argument(const at::Tensor& tensor, bool writes);
  c10::IValue argument(const c10::IValue& value, bool writes);
  at::Tensor result(const at::Tensor& tensor);
  c10::IValue result(const c10::IValue& value);
  void fill_empty_outputs();

  struct EmptyOutput {
    at::Tensor here, cpu;
  };

  const c10::OperatorHandle& op_;
  torch::jit::Stack& stack_;
  Operation operation_;
  std::vector<at::Tensor> arguments_;       // of the device
  std::vector<EmptyOutput> empty_outputs_;  // which the operator makes large enough
};

at::Tensor Call::argument(const at::Tensor& tensor, bool writes) {
  if (!tensor.defined()) return tensor;
  if (!is_here(tensor)) {
    TORCH_CHECK(tensor.dim() == 0 && !writes, op_.schema().name(),
                ": expected all tensors to be on the same device, found one on ", tensor.device(), " beside ",
                device());
    return tensor;  // a number, which CUDA's kernels take as well
  }
  if (tensor.numel() == 0 && writes) {
    empty_outputs_.push_back({tensor, at::empty(tensor.sizes(), tensor.options().device(at::kCPU))});
    return empty_outputs_.back().cpu;
  }
  arguments_.push_back(tensor);
  return operation_.use(tensor, writes);
}

c10::IValue Call::argument(const c10::IValue& value, bool writes) {
  if (value.isTensor()) return argument(value.toTensor(), writes);
  if (value.isDevice()) return at::Device(at::kCPU);
  TORCH_CHECK(!value.isGenerator(), op_.schema().name(), ": expected a generator of the device, found one of the host");
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(argument(tensor, writes));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
      list.push_back(tensor ? std::optional(argument(*tensor, writes)) : std::nullopt);
    }
    return list;
  }
  return value;
}

at::Tensor Call::result(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  for (const EmptyOutput& output : empty_outputs_) {
    if (tensor.is_same(output.cpu)) return output.here;
  }
  for (const at::Tensor& argument : arguments_) {
    if (!same_place(tensor, argument)) continue;
    if (same_view(tensor, argument)) return argument;
    return argument.as_strided(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  }
  return moved_here(operation_, tensor);
}

c10::IValue Call::result(const c10::IValue& value) {
  if (value.isTensor()) return result(value.toTensor());
  if (!value.isTensorList()) return value;
  c10::List<at::Tensor> list;
  for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(result(tensor));
  return list;
}

void Call::fill_empty_outputs() {
  for (const EmptyOutput& output : empty_outputs_) {
    if (output.cpu.numel() == 0) continue;
    resize_here(output.here, output.cpu.sizes(), {});
    operation_.use(output.here, /*writes=*/true).copy_(output.cpu);
  }
}

bool is_written(const c10::Argument& argument) {
  const c10::AliasInfo* info = argument.alias_info();
  if (info == nullptr) return false;
  if (info->isWrite()) return true;
  for (const c10::AliasInfo& element : info->containedTypes()) {
    if (element.isWrite()) return true;
  }
  return false;
}

void Call::run() {
  const auto& arguments = op_.schema().arguments();
  const size_t first = stack_.size() - arguments.size();
  ++state().counters.kernels;
  for (size_t i = 0; i < arguments.size(); ++i) {
    stack_[first + i] = argument(stack_[first + i], is_written(arguments[i]));
  }
  op_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack_);
  fill_empty_outputs();
  for (size_t i = first; i < stack_.size(); ++i) stack_[i] = result(stack_[i]);
  // The host learns a value, or the size of a result.
  if (op_.hasTag(at::Tag::data_dependent_output) || op_.hasTag(at::Tag::dynamic_output_shape)) operation_.wait();
}

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) { Call(op, *stack).run(); }

// LibTorch dispatches convolutions of its own devices in another way. As on a GPU, sums are of float32 whatever the
// dtype; the CPU's kernels for other dtypes would also be slow.
at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups) {
  Operation operation("aten::convolution");
  ++state().counters.kernels;
  const bool has_bias = bias && bias->defined();
  TORCH_CHECK(is_here(x) && is_here(weight) && (!has_bias || is_here(*bias)),
              "aten::convolution: expected all tensors to be on the same device");
  const auto wide = [&](const at::Tensor& tensor) { return operation.use(tensor, false).to(at::kFloat); };
  const std::optional<at::Tensor> its_bias = has_bias ? std::optional(wide(*bias)) : std::nullopt;
  const at::Tensor sums =
      at::convolution(wide(x), wide(weight), its_bias, stride, padding, dilation, transposed, output_padding, groups);
  return moved_here(operation, sums.to(x.scalar_type()));
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty_memory_format);
  library.impl("empty_strided", &empty_strided);
  library.impl("resize_", &resize_here);
  library.impl("set_.source_Storage_storage_offset", &set_storage);
  library.impl("set_.source_Tensor", &set_tensor);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", &at::native::view);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("record_stream", &record_stream);
  library.impl("convolution_overrideable", &convolution);
}

}  // namespace
}  // namespace opensora::test::simulated
