#include "io/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "core/output_file.h"
#include "io/safetensors.h"
#include "opensora/error.h"
#include "opensora/stop.h"

namespace opensora::io {
namespace {

using NamedTensor = std::pair<std::string, at::Tensor>;

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& problem) {
  throw OutputError(path.string() + ": " + problem);
}

// The file's descriptor; errors name the file that was asked for.
class FileWriter {
 public:
  FileWriter(const std::filesystem::path& temporary, const std::filesystem::path& path)
      : path_(path), fd_(::open(temporary.c_str(), O_WRONLY | O_CLOEXEC)) {
    if (fd_ < 0) fail(path_, std::string("cannot be opened: ") + std::strerror(errno));
  }
  ~FileWriter() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* data, size_t bytes) {
    const char* next = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t written = ::write(fd_, next, bytes);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail_write();
      next += written;
      bytes -= static_cast<size_t>(written);
    }
  }

  void close() {
    if (::close(std::exchange(fd_, -1)) != 0) fail_write();
  }

 private:
  [[noreturn]] void fail_write() const { fail(path_, std::string("cannot be written: ") + std::strerror(errno)); }

  std::filesystem::path path_;
  int fd_;
};

void check_entries(const std::vector<TensorEntry>& tensors) {
  std::set<std::string> names = {"__metadata__"};
  for (const TensorEntry& tensor : tensors) {
    if (!names.insert(tensor.name).second) throw std::invalid_argument("safetensors: name used twice: " + tensor.name);
    if (!dtype_to_safetensors(tensor.dtype)) {
      throw std::invalid_argument("safetensors: dtype without a name in the format: " + tensor.name);
    }
  }
}

// Header with its length in front, padded so that the data starts on a multiple of 8 bytes.
std::string make_header(const std::vector<TensorEntry>& tensors, const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const TensorEntry& tensor : tensors) {
    const uint64_t end = offset + tensor.bytes();
    header[tensor.name] = {
        {"dtype", *dtype_to_safetensors(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + text;
}

}  // namespace

uint64_t TensorEntry::bytes() const {
  return static_cast<uint64_t>(c10::multiply_integers(shape)) * c10::elementSize(dtype);
}

namespace {

std::unique_ptr<OutputFile> stage(const std::filesystem::path& path, const std::vector<TensorEntry>& tensors,
                                  const MakeTensor& make, const std::map<std::string, std::string>& metadata,
                                  bool overwrite) {
  check_entries(tensors);
  auto output = std::make_unique<OutputFile>(path, overwrite);
  FileWriter file(output->temporary_path(), path);
  const std::string header = make_header(tensors, metadata);
  file.write(header.data(), header.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    uint64_t written = 0;
    make(i, [&](const at::Tensor& piece) {
      throw_if_stopped();
      const at::Tensor data = piece.to(at::kCPU).contiguous();
      file.write(data.const_data_ptr(), data.nbytes());
      written += data.nbytes();
    });
    if (written != tensors[i].bytes()) throw std::invalid_argument("safetensors: not of its size: " + tensors[i].name);
  }
  file.close();
  return output;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::vector<TensorEntry>& tensors,
                       const MakeTensor& make, const std::map<std::string, std::string>& metadata, bool overwrite) {
  stage(path, tensors, make, metadata, overwrite)->commit();
}

std::unique_ptr<OutputFile> stage_safetensors(const std::filesystem::path& path,
                                              const std::vector<NamedTensor>& tensors,
                                              const std::map<std::string, std::string>& metadata, bool overwrite) {
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.defined()) throw std::invalid_argument("safetensors: undefined tensor: " + name);
  }
  // Wide elements first: then every tensor is aligned for its dtype and can be mapped.
  std::vector<NamedTensor> ordered = tensors;
  std::stable_sort(ordered.begin(), ordered.end(), [](const NamedTensor& a, const NamedTensor& b) {
    return a.second.element_size() > b.second.element_size();
  });
  std::vector<TensorEntry> entries;
  entries.reserve(ordered.size());
  for (const auto& [name, tensor] : ordered) entries.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  return stage(
      path, entries, [&](size_t i, const WritePiece& write) { write(ordered[i].second); }, metadata, overwrite);
}

void save_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                      const std::map<std::string, std::string>& metadata, bool overwrite) {
  stage_safetensors(path, tensors, metadata, overwrite)->commit();
}

}  // namespace opensora::io
