#include "io/quantized_layout.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "core/json_text.h"
#include "io/checkpoint.h"

namespace opensora::io {
namespace {

using nlohmann::json;

std::optional<QuantizedFormat> format_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kChar:
      return QuantizedFormat::kInt8;
    case at::kFloat8_e4m3fn:
      return QuantizedFormat::kFp8E4M3;
    case at::kFloat8_e5m2:
      return QuantizedFormat::kFp8E5M2;
    default:
      return std::nullopt;
  }
}

// ComfyUI's word for it.
const char* comfy_format(QuantizedFormat format) {
  switch (format) {
    case QuantizedFormat::kInt8:
      return "int8_tensorwise";
    case QuantizedFormat::kFp8E5M2:
      return "float8_e5m2";
    default:
      return "float8_e4m3fn";
  }
}

std::vector<int64_t> scale_shape(const Checkpoint& checkpoint, const std::string& scale, int64_t rows) {
  const TensorInfo& info = checkpoint.info(scale);
  const int64_t count = c10::multiply_integers(info.shape);
  const bool fits = count == 1 || (count == rows && !info.shape.empty() && info.shape.front() == rows);
  if (!fits || !at::isFloatingType(info.dtype)) {
    throw FormatError(fmt::format("tensor {} is {} of shape {}, expected a number for each of the {} rows, or one",
                                  json_excerpt(scale), c10::toString(info.dtype), shape_string(info.shape), rows));
  }
  if (count == rows) return {rows, 1};
  return {1};
}

json read_note(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo& info = checkpoint.info(name);
  constexpr uint64_t kLongest = 4096;
  if (info.dtype != at::kByte || info.bytes() > kLongest) {
    throw FormatError("tensor " + json_excerpt(name) + " is not a short text in JSON");
  }
  const at::Tensor bytes = checkpoint.find(name, {})->contiguous();
  json note;
  try {
    note = parse_json({static_cast<const char*>(bytes.const_data_ptr()), bytes.nbytes()});
  } catch (const JsonError& error) {
    throw FormatError("tensor " + json_excerpt(name) + " is not valid JSON: " + error.what());
  }
  if (!note.is_object()) throw FormatError("tensor " + json_excerpt(name) + " is not a JSON object");
  return note;
}

void apply_note(const Checkpoint& checkpoint, const std::string& name, StoredMatrix& matrix) {
  const json note = read_note(checkpoint, name);
  const auto flag = [&](const char* key) { return note.contains(key) && note[key] == true; };
  if (!note.contains("format") || note["format"] != comfy_format(matrix.format)) {
    throw FormatError(fmt::format("tensor {} says {}, expected \"format\": \"{}\" for what is stored as {}",
                                  json_excerpt(name), json_excerpt(note), comfy_format(matrix.format),
                                  format_name(matrix.format)));
  }
  matrix.exact_products = flag("full_precision_matrix_mult");
  if (!flag("convrot")) return;
  const auto size = note.find("convrot_groupsize");
  matrix.rotation = size != note.end() && size->is_number_integer() ? size->get<int64_t>() : 256;
  const int64_t width = checkpoint.info(matrix.data).shape[1];
  if (can_rotate(matrix.rotation) && width % matrix.rotation == 0) return;
  throw FormatError(fmt::format("tensor {}: \"convrot_groupsize\" is {}, expected a power of four that divides {}",
                                json_excerpt(name), matrix.rotation, width));
}

}  // namespace

QuantizedLayout quantized_layout(const Checkpoint& checkpoint) {
  constexpr std::string_view kWeight = ".weight", kScale = "_scale";
  QuantizedLayout layout;
  for (const std::string& scale : checkpoint.all_names()) {
    if (!scale.ends_with(std::string(kWeight) + std::string(kScale))) continue;
    const std::string name = scale.substr(0, scale.size() - kScale.size());
    if (!checkpoint.contains(name)) continue;
    const TensorInfo& info = checkpoint.info(name);
    const std::optional<QuantizedFormat> format = format_of(info.dtype);
    if (!format || info.shape.size() != 2) continue;
    StoredMatrix matrix{.format = *format, .data = name, .scale = scale, .scale_shape = {}};
    matrix.scale_shape = scale_shape(checkpoint, scale, info.shape[0]);
    const std::string layer = name.substr(0, name.size() - kWeight.size());
    const std::string note = layer + ".comfy_quant";
    if (checkpoint.contains(note)) apply_note(checkpoint, note, matrix);
    layout.parts.insert({scale, note, layer + ".input_scale"});
    layout.matrices.emplace(name, std::move(matrix));
  }
  return layout;
}

std::string comfy_note(QuantizedFormat format, int64_t rotation) {
  nlohmann::ordered_json note = {{"format", comfy_format(format)}};
  if (rotation > 0) {
    note["convrot"] = true;
    note["convrot_groupsize"] = rotation;
  }
  return note.dump();
}

}  // namespace opensora::io
