#include "io/gguf_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json_text.h"
#include "core/quantized.h"
#include "core/weights.h"
#include "io/foreign_file.h"
#include "io/mapped_file.h"
#include "opensora/error.h"

namespace opensora::io {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are little-endian and are mapped as such");

constexpr std::string_view kGgufMagic = "GGUF";
constexpr uint32_t kMostGgufDimensions = 4;
constexpr uint64_t kDefaultAlignment = 32;

// How the values of the metadata are stored.
enum class ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

// How a tensor is stored, by ggml's number of the type: as numbers, in blocks, or as nothing that can be read.
struct GgmlType {
  std::string_view name;
  std::optional<at::ScalarType> dtype = {};
  std::optional<QuantizedFormat> blocks = {};
};

const GgmlType* ggml_type(uint32_t number) {
  static const std::map<uint32_t, GgmlType> types = {
      {0, {"F32", at::kFloat}},
      {1, {"F16", at::kHalf}},
      {2, {"Q4_0", {}, QuantizedFormat::kQ4_0}},
      {3, {"Q4_1"}},
      {6, {"Q5_0"}},
      {7, {"Q5_1"}},
      {8, {"Q8_0", {}, QuantizedFormat::kQ8_0}},
      {9, {"Q8_1"}},
      {10, {"Q2_K"}},
      {11, {"Q3_K"}},
      {12, {"Q4_K", {}, QuantizedFormat::kQ4_K}},
      {13, {"Q5_K", {}, QuantizedFormat::kQ5_K}},
      {14, {"Q6_K", {}, QuantizedFormat::kQ6_K}},
      {15, {"Q8_K"}},
      {16, {"IQ2_XXS"}},
      {17, {"IQ2_XS"}},
      {18, {"IQ3_XXS"}},
      {19, {"IQ1_S"}},
      {20, {"IQ4_NL"}},
      {21, {"IQ3_S"}},
      {22, {"IQ2_S"}},
      {23, {"IQ4_XS"}},
      {24, {"I8", at::kChar}},
      {25, {"I16", at::kShort}},
      {26, {"I32", at::kInt}},
      {27, {"I64", at::kLong}},
      {28, {"F64", at::kDouble}},
      {29, {"IQ1_M"}},
      {30, {"BF16", at::kBFloat16}},
      {34, {"TQ1_0"}},
      {35, {"TQ2_0"}},
      {39, {"MXFP4"}},
      {40, {"NVFP4"}},
  };
  const auto found = types.find(number);
  return found == types.end() ? nullptr : &found->second;
}

// A place in the file that moves forward. Throws FormatError where the file ends before what is read.
class Cursor {
 public:
  explicit Cursor(std::string_view file) : file_(file) {}

  uint64_t position() const { return at_; }
  uint64_t left() const { return file_.size() - at_; }
  std::string_view bytes(uint64_t count) {
    if (count > left()) {
      throw FormatError("ends within its list of tensors (" + std::to_string(file_.size()) +
                        " bytes); is the download complete?");
    }
    at_ += count;
    return file_.substr(at_ - count, count);
  }
  template <typename T>
  T number() {
    T value{};
    std::memcpy(&value, bytes(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string text() { return std::string(bytes(number<uint64_t>())); }
  // Of things that take at least so many bytes each: no more than the file has room for.
  uint64_t count(uint64_t smallest) {
    const auto value = number<uint64_t>();
    if (value > left() / smallest) bytes(left() + 1);
    return value;
  }

 private:
  std::string_view file_;
  uint64_t at_ = 0;
};

// A value of the metadata, as text, and where it is a list of whole numbers these.
struct GgufValue {
  std::string text;
  std::optional<int64_t> whole = {};
  std::vector<int64_t> list = {};
};

template <typename T>
GgufValue number_value(Cursor& file) {
  const T value = file.number<T>();
  if constexpr (std::is_floating_point_v<T>) return {nlohmann::json(value).dump()};
  return {std::to_string(value), static_cast<int64_t>(value)};
}

GgufValue read_list(Cursor& file);

GgufValue read_value(Cursor& file, ValueType type) {
  switch (type) {
    case ValueType::kUint8:
      return number_value<uint8_t>(file);
    case ValueType::kInt8:
      return number_value<int8_t>(file);
    case ValueType::kUint16:
      return number_value<uint16_t>(file);
    case ValueType::kInt16:
      return number_value<int16_t>(file);
    case ValueType::kUint32:
      return number_value<uint32_t>(file);
    case ValueType::kInt32:
      return number_value<int32_t>(file);
    case ValueType::kUint64:
      return number_value<uint64_t>(file);
    case ValueType::kInt64:
      return number_value<int64_t>(file);
    case ValueType::kFloat32:
      return number_value<float>(file);
    case ValueType::kFloat64:
      return number_value<double>(file);
    case ValueType::kBool:
      return {file.number<uint8_t>() != 0 ? "true" : "false"};
    case ValueType::kString:
      return {file.text()};
    case ValueType::kArray:
      return read_list(file);
  }
  throw FormatError("a value of type " + std::to_string(static_cast<uint32_t>(type)) + ", expected 0 to 12");
}

// Bytes of a value; nullopt for those that say themselves how long they are.
std::optional<uint64_t> value_bytes(ValueType type) {
  constexpr std::array<uint64_t, 13> kBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  const auto number = static_cast<size_t>(type);
  if (number >= kBytes.size() || kBytes[number] == 0) return std::nullopt;
  return kBytes[number];
}

// Long lists (a tokenizer's words) are only passed over.
GgufValue read_list(Cursor& file) {
  const auto type = static_cast<ValueType>(file.number<uint32_t>());
  if (type == ValueType::kArray) throw FormatError("a list of lists, which GGUF files do not hold");
  const std::optional<uint64_t> bytes = value_bytes(type);
  const uint64_t count = file.count(bytes.value_or(sizeof(uint64_t)));
  GgufValue list{std::to_string(count) + " values"};
  if (bytes && count > kMostDimensions) {
    file.bytes(count * *bytes);
    return list;
  }
  for (uint64_t i = 0; i < count; ++i) {
    const GgufValue value = read_value(file, type);
    if (value.whole) list.list.push_back(*value.whole);
  }
  return list;
}

void check_version(uint32_t version) {
  if (version == 2 || version == 3) return;
  if ((version & 0xffff) == 0 && version != 0) throw FormatError("is a big-endian GGUF file, expected a little-endian");
  throw FormatError("is of GGUF version " + std::to_string(version) + ", expected 2 or 3");
}

using GgufValues = std::map<std::string, GgufValue>;

GgufValues read_values(Cursor& file, uint64_t count, std::string& where) {
  GgufValues values;
  for (uint64_t i = 0; i < count; ++i) {
    const std::string key = file.text();
    where = "metadata " + json_excerpt(key) + ": ";
    if (!values.emplace(key, read_value(file, static_cast<ValueType>(file.number<uint32_t>()))).second) {
      throw FormatError("stands twice");
    }
    where.clear();
  }
  return values;
}

uint64_t alignment_of(const GgufValues& values) {
  const auto found = values.find("general.alignment");
  if (found == values.end()) return kDefaultAlignment;
  const int64_t alignment = found->second.whole.value_or(0);
  if (alignment <= 0 || !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    throw FormatError("metadata \"general.alignment\": " + json_excerpt(found->second.text) +
                      ", expected a power of two");
  }
  return static_cast<uint64_t>(alignment);
}

void check_not_split(const GgufValues& values) {
  const auto count = values.find("split.count");
  if (count == values.end() || count->second.whole.value_or(0) <= 1) return;
  throw FormatError("is one of " + count->second.text +
                    " parts of a split file; join them first (llama-gguf-split --merge)");
}

// As in read_tensor_list(): before it is known where the data begins.
struct ListedTensor {
  std::string name;
  TensorInfo info;
  uint64_t offset = 0;
};

std::vector<int64_t> read_gguf_shape(Cursor& file) {
  const auto dimensions = file.number<uint32_t>();
  if (dimensions > kMostGgufDimensions) {
    throw FormatError("has " + std::to_string(dimensions) + " dimensions, expected at most " +
                      std::to_string(kMostGgufDimensions));
  }
  std::vector<int64_t> shape;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = file.number<uint64_t>();
    if (size > static_cast<uint64_t>(INT64_MAX)) {
      throw FormatError("a dimension of " + std::to_string(size) + " is too large");
    }
    shape.insert(shape.begin(), static_cast<int64_t>(size));  // the innermost comes first
  }
  return shape;
}

int64_t checked_elements(const std::vector<int64_t>& shape) {
  constexpr uint64_t kWidest = 8;  // bytes of an element, so that those of any dtype do not overflow
  return static_cast<int64_t>(checked_bytes(shape, kWidest) / kWidest);
}

// The bytes that it takes; throws where rows are not whole blocks.
uint64_t stored_bytes(const std::vector<int64_t>& shape, const GgmlType& type) {
  const int64_t elements = checked_elements(shape);
  if (type.dtype) return static_cast<uint64_t>(elements) * c10::elementSize(*type.dtype);
  const BlockSize block = block_size(*type.blocks);
  const int64_t row = shape.empty() ? 1 : shape.back();
  if (row % block.elements != 0) {
    throw FormatError("its rows have " + std::to_string(row) + " elements, which are not whole blocks of " +
                      std::string(type.name) + " (" + std::to_string(block.elements) + " elements)");
  }
  return static_cast<uint64_t>(elements / block.elements * block.bytes);
}

const GgmlType& checked_type(uint32_t number) {
  const GgmlType* type = ggml_type(number);
  if (type != nullptr && (type->dtype || type->blocks)) return *type;
  const std::string name = type == nullptr ? "number " + std::to_string(number) : std::string(type->name);
  throw FormatError("is of type " + name +
                    ", which cannot be read; take a file in Q8_0, Q6_K, Q5_K, Q4_K, Q4_0, BF16, F16 or F32");
}

// What city96's converter notes of a tensor that it has stored with rows of another length.
void restore_shape(const std::string& name, const GgufValues& values, std::vector<int64_t>& shape) {
  const auto found = values.find("comfy.gguf.orig_shape." + name);
  if (found == values.end()) return;
  const std::vector<int64_t>& original = found->second.list;
  if (checked_elements(original) != checked_elements(shape)) {
    throw FormatError("its \"comfy.gguf.orig_shape\" is " + shape_string(original) + ", but it is stored as " +
                      shape_string(shape));
  }
  shape = original;
}

std::vector<ListedTensor> read_tensor_list(Cursor& file, uint64_t count, const GgufValues& values, std::string& where) {
  std::vector<ListedTensor> list;
  for (uint64_t i = 0; i < count; ++i) {
    ListedTensor& tensor = list.emplace_back();
    tensor.name = file.text();
    where = "tensor " + json_excerpt(tensor.name) + ": ";
    tensor.info.shape = read_gguf_shape(file);
    const GgmlType& type = checked_type(file.number<uint32_t>());
    tensor.offset = file.number<uint64_t>();
    tensor.info.dtype = type.dtype.value_or(at::kByte);
    tensor.info.blocks = type.blocks;
    tensor.info.end = stored_bytes(tensor.info.shape, type);
    restore_shape(tensor.name, values, tensor.info.shape);
    where.clear();
  }
  return list;
}

// The layers of a T5 encoder's block, as llama.cpp and Hugging Face call them.
constexpr std::pair<std::string_view, std::string_view> kT5Layers[] = {
    {"attn_norm", "layer.0.layer_norm"},       {"attn_q", "layer.0.SelfAttention.q"},
    {"attn_k", "layer.0.SelfAttention.k"},     {"attn_v", "layer.0.SelfAttention.v"},
    {"attn_o", "layer.0.SelfAttention.o"},     {"attn_rel_b", "layer.0.SelfAttention.relative_attention_bias"},
    {"ffn_norm", "layer.1.layer_norm"},        {"ffn_gate", "layer.1.DenseReluDense.wi_0"},
    {"ffn_up", "layer.1.DenseReluDense.wi_1"}, {"ffn_down", "layer.1.DenseReluDense.wo"},
};

// "enc.blk.3.attn_q.weight" -> "encoder.block.3.layer.0.SelfAttention.q.weight"; other names stay as they are.
std::string t5_name(const std::string& name) {
  constexpr std::string_view kBlock = "enc.blk.";
  if (name == "token_embd.weight") return "shared.weight";
  if (name == "enc.output_norm.weight") return "encoder.final_layer_norm.weight";
  if (!name.starts_with(kBlock)) return name;
  const size_t number_end = name.find('.', kBlock.size()), layer_end = name.find('.', number_end + 1);
  if (number_end == std::string::npos || layer_end == std::string::npos) return name;
  const std::string layer = name.substr(number_end + 1, layer_end - number_end - 1);
  for (const auto& [known, theirs] : kT5Layers) {
    if (layer != known) continue;
    return "encoder.block." + name.substr(kBlock.size(), number_end + 1 - kBlock.size()) + std::string(theirs) +
           name.substr(layer_end);
  }
  return name;
}

bool is_t5(const GgufValues& values) {
  const auto found = values.find("general.architecture");
  return found != values.end() && (found->second.text == "t5encoder" || found->second.text == "t5");
}

void place_tensor(ListedTensor& tensor, uint64_t data, uint64_t file_bytes, uint64_t alignment) {
  if (tensor.offset % alignment != 0) {
    throw FormatError("begins at byte " + std::to_string(tensor.offset) + " of the data, expected a multiple of " +
                      std::to_string(alignment));
  }
  const uint64_t bytes = tensor.info.end;
  if (tensor.offset > file_bytes - data || bytes > file_bytes - data - tensor.offset) {
    throw FormatError("goes beyond the end of the file (" + std::to_string(file_bytes) +
                      " bytes); is the download complete?");
  }
  tensor.info.begin = data + tensor.offset;
  tensor.info.end = tensor.info.begin + bytes;
}

void check_apart(const std::map<std::string, TensorInfo>& tensors) {
  uint64_t covered = 0;
  for (const PlacedTensor* tensor : in_order(tensors)) {
    if (tensor->second.begin < covered) {
      throw FormatError("tensor " + json_excerpt(tensor->first) + " begins inside the tensor before it");
    }
    covered = tensor->second.end;
  }
}

}  // namespace

GgufFile::GgufFile(std::filesystem::path path) : TensorFile(std::move(path)) {
  std::string where;
  try {
    Cursor file(mapping_->text(0, mapping_->size()));
    const std::string_view start = mapping_->text(0, std::min<uint64_t>(mapping_->size(), kForeignBytes));
    if (!start.starts_with(kGgufMagic)) {
      throw FormatError(foreign_file(path_, start).value_or("is not a GGUF file (it does not start as one)"));
    }
    file.bytes(kGgufMagic.size());
    check_version(file.number<uint32_t>());
    const uint64_t tensor_count = file.count(sizeof(uint64_t)), value_count = file.count(sizeof(uint64_t));
    const GgufValues values = read_values(file, value_count, where);
    check_not_split(values);
    for (const auto& [key, value] : values) metadata_.emplace(key, value.text);
    std::vector<ListedTensor> list = read_tensor_list(file, tensor_count, values, where);
    const uint64_t alignment = alignment_of(values), past = file.position() % alignment;
    const uint64_t data = std::min(file.position() + (past == 0 ? 0 : alignment - past), mapping_->size());
    for (ListedTensor& tensor : list) {
      where = "tensor " + json_excerpt(tensor.name) + ": ";
      place_tensor(tensor, data, mapping_->size(), alignment);
      if (!tensors_.emplace(is_t5(values) ? t5_name(tensor.name) : tensor.name, tensor.info).second) {
        throw FormatError("stands twice");
      }
    }
    where.clear();
    check_apart(tensors_);
  } catch (const FormatError& error) {
    throw CheckpointError(path_.string() + ": " + where + error.what());
  }
}

at::Tensor GgufFile::tensor(const std::string& name) const {
  const TensorInfo& found = info(name);
  if (!found.blocks) return mapped_tensor(found.begin, found.shape, found.dtype);
  const BlockSize block = block_size(*found.blocks);
  const auto bytes = static_cast<int64_t>(found.bytes());
  const int64_t row = found.shape.empty() ? 0 : found.shape.back() / block.elements * block.bytes;
  const bool has_rows = row > 0 && found.shape.back() % block.elements == 0;
  const std::vector<int64_t> rows = has_rows ? std::vector<int64_t>{bytes / row, row} : std::vector<int64_t>{1, bytes};
  return mapped_tensor(found.begin, rows, found.dtype);
}

}  // namespace opensora::io
