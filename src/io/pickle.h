// The pickle inside a PyTorch file, as far as a state dict needs it.
//
// A pickle is a program; Python runs whatever functions it names. This reader knows the instructions that build
// dictionaries of tensors and none that calls anything: a file that names another class or function is refused. It is
// ours because LibTorch's reader (torch::jit::Unpickler, which runs no code either) turns an OrderedDict into None,
// and an OrderedDict is what every state_dict() is.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/tensor_file.h"

namespace opensora::io {

// What the pickle says of a tensor; nothing of it is checked against the storage.
struct PickledTensor {
  std::string storage;  // the record "data/<storage>" holds the elements
  at::ScalarType dtype = at::kFloat;
  int64_t storage_numel = 0;
  int64_t offset = 0;  // elements from the storage's start
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // elements
};

// By name. Tensors are shared: a file may give one under many names.
using PickledTensors = std::map<std::string, std::shared_ptr<const PickledTensor>>;

// Bytes of a list of tensors; those of the largest models have some hundred thousand.
constexpr size_t kLongestPickle = size_t{16} << 20;

// Takes memory and time in proportion to the pickle's length. Throws FormatError: too long, not a pickle that
// torch.save writes, cut short, not a dictionary from names to tensors (says what was found, and under which key).
PickledTensors read_state_dict(std::string_view pickle);

}  // namespace opensora::io
