#include "io/safetensors.h"

#include <fcntl.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <set>
#include <stdexcept>
#include <utility>

#include "core/json_text.h"
#include "core/output_file.h"
#include "core/weights.h"
#include "io/foreign_file.h"
#include "io/mapped_file.h"
#include "opensora/error.h"
#include "opensora/process.h"

namespace opensora::io {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian and are mapped as such");

constexpr uint64_t kLengthBytes = 8;  // the file starts with the header's length
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr uint64_t kLargestFile = uint64_t{1} << 50;  // bytes; a larger size is nonsense, which parse_range() reports

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 12> kDtypes = {{
    {"F64", at::kDouble},
    {"F32", at::kFloat},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E5M2", at::kFloat8_e5m2},
    {"I8", at::kChar},
    {"U8", at::kByte},
    {"I16", at::kShort},
    {"I32", at::kInt},
    {"I64", at::kLong},
    {"BOOL", at::kBool},
}};

uint64_t read_header_length(const MappedFile& file, const std::filesystem::path& path) {
  if (file.size() < kLengthBytes) {
    throw FormatError("is " + std::to_string(file.size()) + " bytes long, too short for a safetensors file");
  }
  const std::string_view start = file.text(0, std::min<uint64_t>(file.size(), kForeignBytes));
  if (const auto foreign = foreign_file(path, start)) throw FormatError(*foreign);
  uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kMaxHeaderBytes) {
    throw FormatError("header of " + std::to_string(length) + " bytes is over the format's limit of " +
                      std::to_string(kMaxHeaderBytes) + "; this is not a safetensors file");
  }
  if (length > file.size() - kLengthBytes) {
    throw FormatError("header of " + std::to_string(length) + " bytes goes beyond the end of the file (" +
                      std::to_string(file.size()) + " bytes); is the download complete?");
  }
  return length;
}

json parse_header(std::string_view text) {
  json header;
  try {
    header = parse_json(text);
  } catch (const JsonError& error) {
    throw FormatError(std::string("header is not valid JSON: ") + error.what());
  }
  if (!header.is_object()) throw FormatError(std::string("header is not a JSON object but ") + header.type_name());
  return header;
}

at::ScalarType parse_dtype(const json& entry) {
  const auto found = entry.find("dtype");
  if (found == entry.end() || !found->is_string()) throw FormatError("\"dtype\" is not a string");
  const std::optional<at::ScalarType> dtype = dtype_from_safetensors(found->get_ref<const std::string&>());
  if (!dtype) {
    throw FormatError("dtype " + json_excerpt(*found) +
                      " is not supported; take the file with bf16, fp16, fp32, fp8 or int8 weights");
  }
  return *dtype;
}

std::vector<int64_t> parse_shape(const json& entry) {
  const auto found = entry.find("shape");
  if (found == entry.end() || !found->is_array()) throw FormatError("\"shape\" is not a list");
  if (found->size() > kMostDimensions) {
    throw FormatError("has " + std::to_string(found->size()) + " dimensions, expected at most " +
                      std::to_string(kMostDimensions));
  }
  std::vector<int64_t> shape;
  for (const json& dimension : *found) {
    // Values beyond int64_t are unsigned and turn negative here.
    if (!dimension.is_number_integer() || dimension.get<int64_t>() < 0) {
      throw FormatError("shape " + json_excerpt(*found) + " holds what is not a size");
    }
    shape.push_back(dimension.get<int64_t>());
  }
  return shape;
}

std::pair<uint64_t, uint64_t> parse_range(const json& entry, uint64_t data_bytes) {
  const auto found = entry.find("data_offsets");
  const auto is_offset = [](const json& value) { return value.is_number_unsigned(); };
  if (found == entry.end() || !found->is_array() || found->size() != 2 ||
      !std::all_of(found->begin(), found->end(), is_offset)) {
    throw FormatError("\"data_offsets\" is not a pair of offsets");
  }
  const auto range = found->get<std::pair<uint64_t, uint64_t>>();
  if (range.first > range.second) throw FormatError("data_offsets " + json_excerpt(*found) + " end before they begin");
  if (range.second > data_bytes) {
    throw FormatError("data_offsets " + json_excerpt(*found) + " go beyond the file's " + std::to_string(data_bytes) +
                      " bytes of data; is the download complete?");
  }
  return range;
}

TensorInfo parse_tensor(const json& entry, uint64_t data_bytes) {
  if (!entry.is_object()) throw FormatError("its entry in the header is not a JSON object");
  TensorInfo info{parse_dtype(entry), parse_shape(entry)};
  std::tie(info.begin, info.end) = parse_range(entry, data_bytes);
  const uint64_t expected = checked_bytes(info.shape, c10::elementSize(info.dtype));
  if (info.bytes() != expected) {
    throw FormatError("shape " + shape_string(info.shape) + " of " + std::string(*dtype_to_safetensors(info.dtype)) +
                      " takes " + std::to_string(expected) + " bytes, data_offsets hold " +
                      std::to_string(info.bytes()));
  }
  return info;
}

// Reports a download that was cut short with both sizes, and not by the first tensor that is missing.
void check_length(const json& header, uint64_t data_offset, uint64_t file_bytes) {
  uint64_t data_bytes = 0;
  for (const json& entry : header) {
    const auto offsets = entry.is_object() ? entry.find("data_offsets") : entry.end();
    if (!entry.is_object() || offsets == entry.end() || !offsets->is_array() || offsets->size() != 2) continue;
    if ((*offsets)[1].is_number_unsigned()) data_bytes = std::max(data_bytes, (*offsets)[1].get<uint64_t>());
  }
  if (data_bytes <= file_bytes - data_offset || data_bytes > kLargestFile) return;
  throw FormatError("is cut short: " + std::to_string(file_bytes) + " bytes, expected " +
                    std::to_string(data_offset + data_bytes) + "; is the download complete?");
}

std::map<std::string, std::string> parse_metadata(const json& entry) {
  const auto is_string = [](const json& value) { return value.is_string(); };
  if (!entry.is_object() || !std::all_of(entry.begin(), entry.end(), is_string)) {
    throw FormatError("\"__metadata__\" does not map strings to strings");
  }
  return entry.get<std::map<std::string, std::string>>();
}

// The format demands that the tensors cover the data exactly, with no overlaps and no gaps.
void check_coverage(const std::map<std::string, TensorInfo>& tensors, uint64_t data_bytes) {
  uint64_t covered = 0;
  for (const PlacedTensor* tensor : in_order(tensors)) {
    const uint64_t begin = tensor->second.begin;
    if (begin != covered) {
      throw FormatError("tensor " + json_excerpt(tensor->first) + " begins at byte " + std::to_string(begin) + ", " +
                        (begin < covered ? "inside" : "not at the end of") + " the tensor before it (" +
                        std::to_string(covered) + ")");
    }
    covered = tensor->second.end;
  }
  if (covered != data_bytes) {
    throw FormatError(std::to_string(data_bytes - covered) + " bytes after the last tensor belong to none");
  }
}

}  // namespace

std::optional<at::ScalarType> dtype_from_safetensors(std::string_view name) {
  for (const auto& [known, dtype] : kDtypes) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

std::optional<std::string_view> dtype_to_safetensors(at::ScalarType dtype) {
  for (const auto& [name, known] : kDtypes) {
    if (known == dtype) return name;
  }
  return std::nullopt;
}

std::string dtype_text(at::ScalarType dtype) {
  return std::string(dtype_to_safetensors(dtype).value_or(c10::toString(dtype)));
}

SafetensorsFile::SafetensorsFile(std::filesystem::path path) : TensorFile(std::move(path)) {
  std::string where = path_.string() + ": ";
  try {
    const uint64_t header_bytes = read_header_length(*mapping_, path_);
    data_offset_ = kLengthBytes + header_bytes;
    const uint64_t data_bytes = mapping_->size() - data_offset_;
    json header = parse_header(mapping_->text(kLengthBytes, header_bytes));
    if (header.contains("__metadata__")) {
      metadata_ = parse_metadata(header["__metadata__"]);
      header.erase("__metadata__");
    }
    check_length(header, data_offset_, mapping_->size());
    for (const auto& [name, entry] : header.items()) {
      where = path_.string() + ": tensor " + json_excerpt(name) + ": ";
      tensors_.emplace(name, parse_tensor(entry, data_bytes));
    }
    where = path_.string() + ": ";
    check_coverage(tensors_, data_bytes);
  } catch (const FormatError& error) {
    throw CheckpointError(where + error.what());
  }
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const TensorInfo& found = info(name);
  return mapped_tensor(data_offset_ + found.begin, found.shape, found.dtype);
}

namespace {

using NamedTensor = std::pair<std::string, at::Tensor>;

[[noreturn]] void refuse_to_write(const std::filesystem::path& path, const std::string& problem) {
  throw OutputError(path.string() + ": " + problem);
}

// Owns the descriptor of the temporary file. Its errors name the file that was asked for.
class FileWriter {
 public:
  FileWriter(const std::filesystem::path& temporary, const std::filesystem::path& path)
      : path_(path), fd_(::open(temporary.c_str(), O_WRONLY | O_CLOEXEC)) {
    if (fd_ < 0) refuse_to_write(path_, std::string("cannot be opened: ") + std::strerror(errno));
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
  [[noreturn]] void fail_write() const {
    refuse_to_write(path_, std::string("cannot be written: ") + std::strerror(errno));
  }

  std::filesystem::path path_;
  int fd_;
};

uint64_t bytes_of(const MetaSource::Entry& tensor) {
  return static_cast<uint64_t>(tensor.elements()) * c10::elementSize(tensor.dtype);
}

void check_entries(const std::vector<MetaSource::Entry>& tensors) {
  std::set<std::string> names = {"__metadata__"};
  for (const MetaSource::Entry& tensor : tensors) {
    if (!names.insert(tensor.name).second) throw std::invalid_argument("safetensors: name used twice: " + tensor.name);
    if (!dtype_to_safetensors(tensor.dtype)) {
      throw std::invalid_argument("safetensors: dtype without a name in the format: " + tensor.name);
    }
  }
}

// The header with its length in front, padded so that the data starts at a multiple of 8 bytes.
std::string make_header(const std::vector<MetaSource::Entry>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const MetaSource::Entry& tensor : tensors) {
    const uint64_t end = offset + bytes_of(tensor);
    header[tensor.name] = {
        {"dtype", *dtype_to_safetensors(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + text;
}

std::unique_ptr<OutputFile> stage(const std::filesystem::path& path, const std::vector<MetaSource::Entry>& tensors,
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
    if (written != bytes_of(tensors[i])) {
      throw std::invalid_argument("safetensors: not of its size: " + tensors[i].name);
    }
  }
  file.close();
  return output;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::vector<MetaSource::Entry>& tensors,
                       const MakeTensor& make, const std::map<std::string, std::string>& metadata, bool overwrite) {
  stage(path, tensors, make, metadata, overwrite)->commit();
}

std::unique_ptr<OutputFile> stage_safetensors(const std::filesystem::path& path,
                                              const std::vector<NamedTensor>& tensors,
                                              const std::map<std::string, std::string>& metadata, bool overwrite) {
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.defined()) throw std::invalid_argument("safetensors: undefined tensor: " + name);
  }
  // With wide elements first, every tensor is aligned for its dtype and can be mapped.
  std::vector<NamedTensor> ordered = tensors;
  std::stable_sort(ordered.begin(), ordered.end(), [](const NamedTensor& a, const NamedTensor& b) {
    return a.second.element_size() > b.second.element_size();
  });
  std::vector<MetaSource::Entry> entries;
  entries.reserve(ordered.size());
  for (const auto& [name, tensor] : ordered) entries.push_back({name, tensor.sizes().vec(), tensor.scalar_type()});
  return stage(
      path, entries, [&](size_t i, const WritePiece& write) { write(ordered[i].second); }, metadata, overwrite);
}

void save_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                      const std::map<std::string, std::string>& metadata, bool overwrite) {
  stage_safetensors(path, tensors, metadata, overwrite)->commit();
}

}  // namespace opensora::io
