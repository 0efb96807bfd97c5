#include "io/pytorch_file.h"

#include <caffe2/serialize/inline_container.h>

#include <cstring>
#include <optional>

#include "core/weights.h"
#include "io/json_text.h"
#include "io/mapped_file.h"
#include "opensora/error.h"

namespace opensora::io {
namespace {

using caffe2::serialize::PyTorchStreamReader;

struct FormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void check_is_zip(const MappedFile& file) {
  const std::string_view start = file.text(0, std::min<uint64_t>(file.size(), 100));
  if (start.starts_with("PK")) return;
  if (start.starts_with("version https://git-lfs")) {
    throw FormatError("is a Git LFS pointer, not the file itself; fetch it with \"git lfs pull\"");
  }
  if (start.starts_with("\x80\x02")) {
    throw FormatError(
        "is in the format of PyTorch before 1.6, which cannot be read; load it and save it again with a newer PyTorch, "
        "or take the safetensors file");
  }
  throw FormatError("is not a file that torch.save writes (it does not start as a zip archive)");
}

std::string read_record(PyTorchStreamReader& archive, const std::string& name) {
  const auto [data, size] = archive.getRecord(name);
  return {static_cast<const char*>(data.get()), size};
}

// The bytes of a stored record: from where to where in the file.
struct Range {
  uint64_t begin = 0, end = 0;
};

Range record_range(PyTorchStreamReader& archive, const std::string& name, const MappedFile& file) {
  constexpr uint64_t kMethodAt = 8;  // of a zip entry's local header
  const uint64_t header = archive.getRecordHeaderOffset(name);
  const Range range{archive.getRecordOffset(name), archive.getRecordOffset(name) + archive.getRecordSize(name)};
  if (range.begin > range.end || range.end > file.size() || header + kMethodAt + 2 > file.size()) {
    throw FormatError("record " + json_excerpt(name) + " goes beyond the end of the file; is the download complete?");
  }
  if (file.text(header + kMethodAt, 2) != std::string_view("\0\0", 2)) {
    throw FormatError("record " + json_excerpt(name) + " is compressed, which torch.save never does");
  }
  return range;
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
TensorInfo place(const PickledTensor& tensor, const Range& record) {
  const auto element = static_cast<int64_t>(c10::elementSize(tensor.dtype));
  const std::optional<int64_t> elements = extent(tensor);
  const int64_t held = static_cast<int64_t>(record.end - record.begin) / element;
  if (!elements || tensor.storage_numel > held || tensor.offset > tensor.storage_numel ||
      *elements > tensor.storage_numel - tensor.offset) {
    throw FormatError("shape " + shape_string(tensor.shape) + ", strides " + shape_string(tensor.strides) +
                      " and offset " + std::to_string(tensor.offset) + " do not fit its storage of " +
                      std::to_string(held) + " elements");
  }
  const uint64_t begin = record.begin + static_cast<uint64_t>(tensor.offset * element);
  return {tensor.dtype, tensor.shape, begin,
          begin + static_cast<uint64_t>(c10::multiply_integers(tensor.shape) * element)};
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

PyTorchFile::PyTorchFile(std::filesystem::path path)
    : path_(std::move(path)), mapping_(std::make_shared<const MappedFile>(path_)) {
  std::string where = path_.string() + ": ";
  try {
    check_is_zip(*mapping_);
    PyTorchStreamReader archive(path_.string());
    if (archive.hasRecord("byteorder") && read_record(archive, "byteorder") != "little") {
      throw FormatError("was saved on a big-endian machine, which is not supported");
    }
    if (!archive.hasRecord("data.pkl")) throw FormatError("is a zip archive, but not one that torch.save writes");
    std::map<std::string, Range> records;
    for (const auto& [name, tensor] : read_state_dict(read_record(archive, "data.pkl"))) {
      where = path_.string() + ": tensor " + json_excerpt(name) + ": ";
      const std::string record = "data/" + tensor.storage;
      if (tensor.storage_numel > 0 && !records.contains(record)) {
        records[record] = record_range(archive, record, *mapping_);
      }
      tensors_.emplace(name, place(tensor, records[record]));
      strides_.emplace(name, tensor.strides);
    }
  } catch (const FormatError& error) {
    throw CheckpointError(where + error.what());
  } catch (const PickleError& error) {
    throw CheckpointError(where + error.what());
  } catch (const c10::Error& error) {
    throw CheckpointError(where + "cannot be read as a PyTorch file: " + first_line(error.what_without_backtrace()) +
                          "; is the download complete?");
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
