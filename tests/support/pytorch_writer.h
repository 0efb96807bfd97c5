// Files as torch.save writes them, for tests: a zip archive with a pickle of protocol 2 and one record a tensor.
#pragma once

#include <ATen/ATen.h>
#include <caffe2/serialize/inline_container.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/named_tensors.h"

namespace opensora::test {

// The pickle's instructions, one after the other (Python's pickletools describes them).
class Pickle {
 public:
  Pickle& raw(const std::string& bytes) {
    bytes_ += bytes;
    return *this;
  }
  Pickle& global(const std::string& module, const std::string& name) {
    return raw("c").raw(module).raw("\n").raw(name).raw("\n");
  }
  Pickle& text(const std::string& value) { return raw("X").raw(little_endian(value.size(), 4)).raw(value); }
  Pickle& number(int64_t value) { return raw("\x8a\x08").raw(little_endian(static_cast<uint64_t>(value), 8)); }
  Pickle& tuple(at::IntArrayRef values) {
    raw("(");
    for (const int64_t value : values) number(value);
    return raw("t");
  }
  Pickle& ordered_dict() { return global("collections", "OrderedDict").raw(")R"); }
  // torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)
  Pickle& tensor(const std::string& storage_class, const std::string& key, int64_t numel, int64_t offset,
                 at::IntArrayRef shape, at::IntArrayRef strides) {
    global("torch._utils", "_rebuild_tensor_v2").raw("((").text("storage").global("torch", storage_class);
    text(key).text("cpu").number(numel).raw("tQ").number(offset).tuple(shape).tuple(strides);
    return raw("\x89").ordered_dict().raw("tR");
  }
  std::string finish() const { return "\x80\x02" + bytes_ + "."; }

 private:
  static std::string little_endian(uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
    return text;
  }
  std::string bytes_;
};

inline const char* storage_class(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "FloatStorage";
    case at::kHalf:
      return "HalfStorage";
    case at::kBFloat16:
      return "BFloat16Storage";
    case at::kLong:
      return "LongStorage";
    default:
      throw std::invalid_argument("no storage class");
  }
}

inline void write_pytorch_archive(const std::filesystem::path& path, const std::string& pickle,
                                  const std::vector<at::Tensor>& storages) {
  caffe2::serialize::PyTorchStreamWriter writer(path.string());
  writer.writeRecord("data.pkl", pickle.data(), pickle.size());
  for (size_t i = 0; i < storages.size(); ++i) {
    writer.writeRecord("data/" + std::to_string(i), storages[i].const_data_ptr(), storages[i].nbytes());
  }
  writer.writeEndOfFile();
}

// torch.save(module.state_dict()): an OrderedDict with the attribute `_metadata`.
inline void save_pytorch(const std::filesystem::path& path, const NamedTensors& tensors) {
  Pickle pickle;
  pickle.ordered_dict().raw("(");
  std::vector<at::Tensor> storages;
  for (const auto& [name, tensor] : tensors) {
    storages.push_back(tensor.contiguous());
    pickle.text(name).tensor(storage_class(tensor.scalar_type()), std::to_string(storages.size() - 1), tensor.numel(),
                             0, tensor.sizes(), storages.back().strides());
  }
  pickle.raw("u}").text("_metadata").ordered_dict().raw("sb");
  write_pytorch_archive(path, pickle.finish(), storages);
}

}  // namespace opensora::test
