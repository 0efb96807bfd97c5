// Reading the files that torch.save writes: a zip archive of a pickle (names, shapes) and one record a storage.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "io/pickle.h"
#include "io/tensor_file.h"

namespace opensora::io {

class PyTorchFile final : public TensorFile {
 public:
  // Throws CheckpointError that names the file: not there, written by PyTorch before 1.6 (not a zip archive), damaged
  // or cut short, holding anything but a dictionary of plain tensors, a tensor outside its storage.
  explicit PyTorchFile(std::filesystem::path path);

  at::Tensor tensor(const std::string& name) const override;

 private:
  std::map<std::string, std::vector<int64_t>> strides_;  // of tensors_
};

}  // namespace opensora::io
