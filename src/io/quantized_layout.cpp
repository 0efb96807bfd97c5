#include "io/quantized_layout.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "core/json_text.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"

namespace opensora::io {
namespace {

using nlohmann::json;

constexpr std::string_view kWeight = ".weight", kNote = ".comfy_quant";
constexpr std::string_view kScales[] = {".weight_scale", ".scale_weight"};     // today's, and older files'
constexpr std::string_view kInputScales[] = {".input_scale", ".scale_input"};  // of calibrated inputs: not used
constexpr std::string_view kFileNote = "scaled_fp8", kMetadata = "_quantization_metadata";

constexpr uint64_t kLongestNote = 4096;  // bytes

// The formats that notes name.
struct NotedFormat {
  std::string_view word;
  QuantizedFormat format;
  at::ScalarType dtype;
};
constexpr NotedFormat kNotedFormats[] = {
    {"float8_e4m3fn", QuantizedFormat::kFp8E4M3, at::kFloat8_e4m3fn},
    {"float8_e5m2", QuantizedFormat::kFp8E5M2, at::kFloat8_e5m2},
    {"int8_tensorwise", QuantizedFormat::kInt8, at::kChar},
};

// "X" of "X.weight_scale"; nullopt for names that end in another way.
std::optional<std::string> stem_of(const std::string& name, std::string_view ending) {
  if (!name.ends_with(ending)) return std::nullopt;
  return name.substr(0, name.size() - ending.size());
}

bool is_file_note(const std::string& name) { return name == kFileNote || name.ends_with(".scaled_fp8"); }

std::optional<QuantizedFormat> format_of(at::ScalarType dtype) {
  const auto* found = std::find_if(std::begin(kNotedFormats), std::end(kNotedFormats),
                                   [&](const NotedFormat& known) { return known.dtype == dtype; });
  return found == std::end(kNotedFormats) ? std::nullopt : std::optional(found->format);
}

const NotedFormat& noted(QuantizedFormat format) {
  return *std::find_if(std::begin(kNotedFormats), std::end(kNotedFormats),
                       [&](const NotedFormat& known) { return known.format == format; });
}

// Tables that models look rows up in: those who scale a file's matrices may leave them in plain fp8.
bool is_table(const std::string& name) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string::npos; };
  return has("embed") || has("relative_attention_bias") || name == "shared.weight";
}

[[noreturn]] void refuse(const std::string& tensor, const std::string& problem) {
  throw FormatError("tensor " + json_excerpt(tensor) + ": " + problem);
}

json parse_note(const std::string& tensor, std::string_view text) {
  try {
    return parse_json(text);
  } catch (const JsonError& error) {
    refuse(tensor, error.what());
  }
}

class LayoutReader {
 public:
  explicit LayoutReader(const Checkpoint& file) : file_(file), names_(file.all_names()) {}
  QuantizedLayout read();

 private:
  void read_metadata();
  void read_notes();
  void find_parts();
  void add_matrix(const std::string& name);
  std::string scale_of(const std::string& stem) const;

  const Checkpoint& file_;
  const std::vector<std::string> names_;
  QuantizedLayout layout_;
  std::map<std::string, json> notes_;  // by X of "X.weight"
  bool has_scales_ = false, is_exact_ = false;
};

// {"layers": {"X": {"format": …}}}, where X may still have the prefix.
void LayoutReader::read_metadata() {
  const std::string where = "metadata \"" + std::string(kMetadata) + "\": ";
  const auto text = file_.metadata().find(std::string(kMetadata));
  if (text == file_.metadata().end()) return;
  json metadata;
  try {
    metadata = parse_json(text->second);
  } catch (const JsonError& error) {
    throw FormatError(where + error.what());
  }
  if (!metadata.is_object() || !metadata.contains("layers") || !metadata["layers"].is_object()) {
    throw FormatError(where + "has no \"layers\" from names to formats");
  }
  for (const auto& [name, note] : metadata["layers"].items()) {
    std::string stem = name;
    for (const std::string& prefix : file_.prefixes()) {
      if (name.starts_with(prefix)) stem = name.substr(prefix.size());
    }
    notes_[stem] = note;
  }
}

void LayoutReader::read_notes() {
  for (const std::string& name : names_) {
    const TensorInfo& info = file_.info(name);
    if (is_file_note(name)) {
      layout_.parts.insert(name);
      is_exact_ = is_exact_ || c10::multiply_integers(info.shape) == 2;
      has_scales_ = true;
    }
    const std::optional<std::string> stem = stem_of(name, kNote);
    if (!stem) continue;
    layout_.parts.insert(name);
    if (info.dtype != at::kByte || info.bytes() > kLongestNote) {
      refuse(name, "is " + dtype_text(info.dtype) + " " + shape_string(info.shape) + ", expected a short text of U8");
    }
    const at::Tensor bytes = file_.find(name, {})->contiguous();
    notes_.emplace(*stem, parse_note(name, {static_cast<const char*>(bytes.const_data_ptr()), bytes.nbytes()}));
  }
}

void LayoutReader::find_parts() {
  for (const std::string& name : names_) {
    for (const std::string_view ending : kInputScales) {
      if (name.ends_with(ending)) layout_.parts.insert(name);
    }
    for (const std::string_view ending : kScales) {
      if (!name.ends_with(ending)) continue;
      layout_.parts.insert(name);
      has_scales_ = true;
    }
  }
}

// The name of a matrix' scale, or nothing.
std::string LayoutReader::scale_of(const std::string& stem) const {
  std::string found;
  for (const std::string_view ending : kScales) {
    const std::string name = stem + std::string(ending);
    if (!file_.contains(name)) continue;
    if (!found.empty()) {
      refuse(stem + std::string(kWeight), "has two scales, " + json_excerpt(found) + " and " + json_excerpt(name));
    }
    found = name;
  }
  return found;
}

// As QuantizedTensor has it: one for all, one a row, or one for each of equal parts of a row.
std::vector<int64_t> checked_scale_shape(const std::string& name, const TensorInfo& scale, const TensorInfo& weight) {
  const int64_t rows = weight.shape[0], columns = weight.shape[1];
  if (!at::isFloatingType(scale.dtype) || c10::elementSize(scale.dtype) < 2) {
    refuse(name, "dtype " + dtype_text(scale.dtype) + ", expected F32, F16 or BF16");
  }
  std::vector<int64_t> shape = scale.shape;
  if (c10::multiply_integers(shape) == 1) return {1};
  if (shape.size() == 3 && shape.back() == 1) shape.pop_back();
  if (shape.size() == 1) shape.push_back(1);
  if (shape.size() == 2 && shape[0] == rows && shape[1] > 0 && columns % shape[1] == 0) return shape;
  refuse(name, "shape " + shape_string(scale.shape) + ", expected [1], " + shape_string({rows, 1}) + " or [" +
                   std::to_string(rows) + ", n, 1] of n equal parts of a row, for weights of " +
                   shape_string(weight.shape));
}

int64_t rotation_of(const json& note, const std::string& name, int64_t columns) {
  const auto value = [&](const char* key, const json& fallback) -> json {
    if (note.contains(key)) return note[key];
    const auto params = note.find("params");
    return params != note.end() && params->is_object() ? params->value(key, fallback) : fallback;
  };
  if (value("convrot", false) != json(true)) return 0;
  const json size = value("convrot_groupsize", 256);
  const int64_t group = size.is_number_integer() ? size.get<int64_t>() : 0;
  if (group > 1 && can_rotate(group) && columns % group == 0) return group;
  refuse(name, "\"convrot_groupsize\" is " + json_excerpt(size) + ", expected a power of four that divides its " +
                   std::to_string(columns) + " columns");
}

void apply_note(const json& note, const std::string& name, const TensorInfo& info, StoredMatrix& matrix) {
  const json word = note.is_object() ? note.value("format", json()) : json();
  const auto* known = std::find_if(std::begin(kNotedFormats), std::end(kNotedFormats),
                                   [&](const NotedFormat& format) { return word == json(format.word); });
  if (known == std::end(kNotedFormats)) {
    refuse(name, "is stored as " + json_excerpt(word) +
                     ", which cannot be read (int8_tensorwise, float8_e4m3fn and float8_e5m2 can); take another "
                     "file");
  }
  // Older files hold fp8 as plain bytes.
  const bool is_bytes = info.dtype == at::kByte && known->dtype != at::kChar;
  if ((info.dtype != known->dtype && !is_bytes) || info.shape.size() != 2) {
    refuse(name, "is " + dtype_text(info.dtype) + " " + shape_string(info.shape) + ", expected a matrix of " +
                     dtype_text(known->dtype) + ", as " + json_excerpt(word) + " is stored");
  }
  matrix.format = known->format;
  matrix.rotation = rotation_of(note, name, info.shape[1]);
  if (note.value("full_precision_matrix_mult", json(false)) == json(true)) matrix.exact_products = true;
}

void LayoutReader::add_matrix(const std::string& name) {
  const TensorInfo& info = file_.info(name);
  const std::optional<std::string> stem = stem_of(name, kWeight);
  if (!stem || info.blocks) return;
  const std::optional<QuantizedFormat> format = format_of(info.dtype);
  const auto note = notes_.find(*stem);
  const bool is_noted = note != notes_.end();
  if (!is_noted && (!format || info.shape.size() != 2)) return;
  StoredMatrix matrix{
      .format = format.value_or(QuantizedFormat::kInt8), .scale = scale_of(*stem), .exact_products = is_exact_};
  if (is_noted) apply_note(note->second, name, info, matrix);
  const bool needs_scale = is_noted || matrix.format == QuantizedFormat::kInt8 || (has_scales_ && !is_table(name));
  if (matrix.scale.empty() && needs_scale) {
    refuse(name, std::string("is ") + format_name(matrix.format) + " without a scale, expected " +
                     json_excerpt(*stem + std::string(kScales[0])));
  }
  if (!matrix.scale.empty()) matrix.scale_shape = checked_scale_shape(matrix.scale, file_.info(matrix.scale), info);
  // Who stores plain fp8 saves room: programs that read it make it 16 bits first.
  if (matrix.scale.empty()) matrix.exact_products = true;
  layout_.matrices.emplace(name, std::move(matrix));
}

QuantizedLayout LayoutReader::read() {
  read_metadata();
  read_notes();
  find_parts();
  for (const std::string& name : names_) add_matrix(name);
  for (const std::string& name : layout_.parts) {
    for (const std::string_view ending : kScales) {
      const std::optional<std::string> stem = stem_of(name, ending);
      if (!stem || layout_.matrices.contains(*stem + std::string(kWeight))) continue;
      refuse(name, "is to scale " + json_excerpt(*stem + std::string(kWeight)) +
                       ", but there is no matrix in 8 bits of that name");
    }
  }
  return std::move(layout_);
}

}  // namespace

QuantizedLayout quantized_layout(const Checkpoint& checkpoint) { return LayoutReader(checkpoint).read(); }

std::string describe(const StoredMatrix& matrix, at::IntArrayRef shape) {
  std::string text = format_name(matrix.format);
  if (matrix.scale_shape.size() == 1) text += ", one scale for all";
  if (matrix.scale_shape.size() == 2) text += " by row";
  if (matrix.scale_shape.size() == 2 && matrix.scale_shape[1] > 1) {
    text += " in parts of " + std::to_string(shape[1] / matrix.scale_shape[1]);
  }
  if (matrix.rotation > 0) text += ", rotated by " + std::to_string(matrix.rotation);
  return text;
}

at::ScalarType stored_dtype(QuantizedFormat format) { return noted(format).dtype; }

std::string comfy_note(QuantizedFormat format, int64_t rotation) {
  nlohmann::ordered_json note = {{"format", noted(format).word}};
  if (rotation > 0) {
    note["convrot"] = true;
    note["convrot_groupsize"] = rotation;
  }
  return note.dump();
}

}  // namespace opensora::io
