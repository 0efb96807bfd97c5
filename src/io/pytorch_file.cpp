#include "io/pytorch_file.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/json_text.h"
#include "core/weights.h"
#include "io/foreign_file.h"
#include "io/mapped_file.h"
#include "io/zip_archive.h"
#include "opensora/error.h"

namespace opensora::io {
namespace {

struct FormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void check_is_zip(const MappedFile& file, const std::filesystem::path& path) {
  const std::string_view start = file.text(0, std::min<uint64_t>(file.size(), kForeignBytes));
  if (start.starts_with("PK")) return;
  if (const auto foreign = foreign_file(path, start)) throw FormatError(*foreign);
  throw FormatError("is not a file that torch.save writes (it does not start as a zip archive)");
}

// torch.save puts all records into a folder, which is called like the file was at that time.
std::string find_folder(const ZipArchive& archive) {
  constexpr std::string_view kPickle = "data.pkl", kCode = "/constants.pkl";
  bool is_program = false, is_numpy = false;
  std::optional<std::string> folder;
  for (const std::string& name : archive.names()) {
    is_program = is_program || name.ends_with(kCode);
    is_numpy = is_numpy || name.ends_with(".npy");
    if (name.ends_with(kPickle) && (name.size() == kPickle.size() || name.ends_with("/data.pkl"))) {
      folder = name.substr(0, name.size() - kPickle.size());
    }
  }
  if (is_program) {
    throw FormatError("is a TorchScript program, which is not supported; take the model's safetensors file");
  }
  if (folder) return *folder;
  if (is_numpy) throw FormatError("is an archive of NumPy arrays, which is not supported; take the safetensors file");
  throw FormatError("is a zip archive, but not one that torch.save writes; unpack it first");
}

// Elements from the tensor's first to one past its last, nullopt where that is no number or something is negative.
std::optional<int64_t> extent(const PickledTensor& tensor) {
  if (tensor.shape.size() != tensor.strides.size() || tensor.offset < 0 || tensor.storage_numel < 0) return {};
  int64_t last = 0, numel = 1;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    int64_t step = 0;
    if (tensor.shape[i] < 0 || tensor.strides[i] < 0) return {};
    if (__builtin_mul_overflow(std::max<int64_t>(tensor.shape[i] - 1, 0), tensor.strides[i], &step)) return {};
    if (__builtin_add_overflow(last, step, &last) || __builtin_mul_overflow(numel, tensor.shape[i], &numel)) return {};
  }
  if (numel == 0) return 0;
  return last == INT64_MAX ? std::nullopt : std::optional(last + 1);
}

// Where the tensor lies in the file.
TensorInfo place(const PickledTensor& tensor, const ByteRange& record, uint64_t file_bytes) {
  const auto element = static_cast<int64_t>(c10::elementSize(tensor.dtype));
  const std::optional<int64_t> elements = extent(tensor);
  const int64_t held = static_cast<int64_t>(record.size()) / element;
  if (!elements || tensor.storage_numel > held || tensor.offset > tensor.storage_numel ||
      *elements > tensor.storage_numel - tensor.offset) {
    throw FormatError("shape " + shape_string(tensor.shape) + ", strides " + shape_string(tensor.strides) +
                      " and offset " + std::to_string(tensor.offset) + " do not fit its storage of " +
                      std::to_string(held) + " elements");
  }
  // Strides of 0 repeat what the storage holds, but nobody repeats more than the whole file.
  int64_t bytes = element;
  for (const int64_t size : tensor.shape) {
    if (!__builtin_mul_overflow(bytes, size, &bytes) && static_cast<uint64_t>(bytes) <= file_bytes) continue;
    throw FormatError("shape " + shape_string(tensor.shape) + " of " + std::string(c10::toString(tensor.dtype)) +
                      " takes more bytes than the whole file has (" + std::to_string(file_bytes) + ")");
  }
  const uint64_t begin = record.begin + static_cast<uint64_t>(tensor.offset * element);
  return {tensor.dtype, tensor.shape, begin, begin + static_cast<uint64_t>(bytes)};
}

}  // namespace

PyTorchFile::PyTorchFile(std::filesystem::path path)
    : path_(std::move(path)), mapping_(std::make_shared<const MappedFile>(path_)) {
  std::string where = path_.string() + ": ";
  try {
    check_is_zip(*mapping_, path_);
    const ZipArchive archive(mapping_->text(0, mapping_->size()));
    const std::string folder = find_folder(archive);
    const auto text = [&](const std::string& record) {
      const ByteRange range = archive.range(folder + record);
      return mapping_->text(range.begin, range.size());
    };
    if (archive.contains(folder + "byteorder") && text("byteorder") != "little") {
      throw FormatError("was saved on a big-endian machine, which is not supported");
    }
    std::map<std::string, ByteRange> records;
    for (const auto& [name, tensor] : read_state_dict(text("data.pkl"))) {
      where = path_.string() + ": tensor " + json_excerpt(name) + ": ";
      const std::string record = folder + "data/" + tensor->storage;
      if (tensor->storage_numel > 0 && !records.contains(record)) records[record] = archive.range(record);
      tensors_.emplace(name, place(*tensor, records[record], mapping_->size()));
      strides_.emplace(name, tensor->strides);
    }
  } catch (const FormatError& error) {
    throw CheckpointError(where + error.what());
  } catch (const PickleError& error) {
    throw CheckpointError(where + error.what());
  } catch (const ZipError& error) {
    throw CheckpointError(where + "cannot be read as a PyTorch file: " + error.what());
  }
}

at::Tensor PyTorchFile::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw CheckpointError(path_.string() + ": holds no tensor " + json_excerpt(name));
  const TensorInfo& info = found->second;
  const std::vector<int64_t>& strides = strides_.at(name);
  const std::byte* data = mapping_->data() + info.begin;
  if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(info.dtype) != 0) {
    at::Tensor copy = at::empty_strided(info.shape, strides, info.dtype);
    if (copy.numel() > 0) std::memcpy(copy.mutable_data_ptr(), data, copy.storage().nbytes());
    return copy;
  }
  // ATen has no tensors of constant memory; the deleter is what keeps the mapping alive.
  return at::from_blob(
      const_cast<std::byte*>(data), info.shape, strides, [keep = mapping_](void*) {}, at::TensorOptions(info.dtype));
}

}  // namespace opensora::io
