#include "io/tensor_file.h"

#include <fstream>
#include <set>

#include "io/pytorch_file.h"
#include "io/safetensors.h"

namespace opensora::io {
namespace {

// A safetensors file starts with its header's length in 64 bits, then JSON. As a length, these four bytes would mean a
// header of 67 MB.
bool starts_as_zip(const std::filesystem::path& path) {
  std::error_code unreadable;
  if (!std::filesystem::is_regular_file(path, unreadable)) return false;  // opening a pipe would wait for its writer
  char start[4] = {};
  std::ifstream(path, std::ios::binary).read(start, sizeof(start));
  return std::string_view(start, sizeof(start)) == "PK\x03\x04";
}

}  // namespace

bool has_pytorch_name(const std::filesystem::path& path) {
  static const std::set<std::string> extensions = {".bin", ".pt", ".pth", ".ckpt"};
  return extensions.contains(path.extension().string());
}

std::shared_ptr<const TensorFile> open_tensor_file(const std::filesystem::path& path) {
  if (has_pytorch_name(path) || starts_as_zip(path)) return std::make_shared<const PyTorchFile>(path);
  return std::make_shared<const SafetensorsFile>(path);
}

}  // namespace opensora::io
