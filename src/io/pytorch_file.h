// Reading the files that torch.save writes: a zip archive of a pickle (names, shapes) and one record a storage.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "io/pickle.h"
#include "io/tensor_file.h"

namespace opensora::io {

class MappedFile;

// One file, mapped read-only. Opening reads and checks the list of tensors and touches no tensor's data.
class PyTorchFile final : public TensorFile {
 public:
  // Throws CheckpointError that names the file: not there, written by PyTorch before 1.6 (not a zip archive), damaged
  // or cut short, holding anything but a dictionary of plain tensors, a tensor outside its storage.
  explicit PyTorchFile(std::filesystem::path path);

  const std::filesystem::path& path() const override { return path_; }
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  const std::map<std::string, std::string>& metadata() const override { return metadata_; }
  at::Tensor tensor(const std::string& name) const override;

 private:
  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> mapping_;
  std::map<std::string, TensorInfo> tensors_;  // begin and end: bytes from the start of the file
  std::map<std::string, std::vector<int64_t>> strides_;
  std::map<std::string, std::string> metadata_;  // always empty
};

}  // namespace opensora::io
