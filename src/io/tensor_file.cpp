#include "io/tensor_file.h"

#include <fstream>
#include <set>
#include <string>

#include "io/gguf_file.h"
#include "io/pytorch_file.h"
#include "io/safetensors.h"

namespace opensora::io {
namespace {

// A safetensors file starts with its header's length in 64 bits, then JSON. As a length, the four bytes that zip
// archives and GGUF files start with would mean a header of 67 MB and of 1.2 GB.
std::string first_bytes(const std::filesystem::path& path) {
  std::error_code unreadable;
  std::string start(4, '\0');
  if (!std::filesystem::is_regular_file(path, unreadable)) return start;  // opening a pipe would wait for its writer
  std::ifstream(path, std::ios::binary).read(start.data(), static_cast<std::streamsize>(start.size()));
  return start;
}

}  // namespace

bool has_pytorch_name(const std::filesystem::path& path) {
  static const std::set<std::string> extensions = {".bin", ".pt", ".pth", ".ckpt"};
  return extensions.contains(path.extension().string());
}

std::shared_ptr<const TensorFile> open_tensor_file(const std::filesystem::path& path) {
  const std::string start = first_bytes(path);
  if (start == "GGUF" || path.extension() == ".gguf") return std::make_shared<const GgufFile>(path);
  if (has_pytorch_name(path) || start == "PK\x03\x04") return std::make_shared<const PyTorchFile>(path);
  return std::make_shared<const SafetensorsFile>(path);
}

}  // namespace opensora::io
