#include "support/quantized_files.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>

#include "io/safetensors.h"
#include "support/gguf_writer.h"

namespace opensora::test {
namespace {

bool is_layer(const std::string& name, const at::Tensor& tensor) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  return tensor.dim() == 2 && name.ends_with(".weight") && (has("_blocks.") || has(".block.")) && !has("relative");
}

at::Tensor to_codes(const at::Tensor& scaled, at::ScalarType dtype) {
  return dtype == at::kChar ? scaled.round().clamp(-127, 127).to(at::kChar) : scaled.to(dtype);
}

// Scales that make the largest number of each part of a row, of each row or of all of them the largest of `dtype`.
at::Tensor scale_for(const at::Tensor& weight, at::ScalarType dtype, int64_t parts) {
  const double largest = dtype == at::kChar ? 127 : dtype == at::kFloat8_e4m3fn ? 448 : 57344;
  if (parts == 0) return (weight.abs().amax() / largest).view({1});
  return weight.unflatten(1, {parts, -1}).abs().amax(2).clamp_min(1e-12) / largest;
}

at::Tensor times(const at::Tensor& codes, const at::Tensor& scale) {
  const at::Tensor numbers = codes.to(at::kFloat), factors = scale.to(at::kFloat);
  if (scale.numel() == 1) return numbers * factors.view({1, 1});
  return (numbers.unflatten(1, {factors.size(1), -1}) * factors.unsqueeze(2)).flatten(1);
}

// X.weight and X plus `ending`, which has `shape` if that is given. Parts of a row: 0 is one scale for all.
FileLayout scaled(std::string name, std::string description, at::ScalarType dtype, int64_t part_size, bool by_row,
                  std::string ending, std::function<at::Tensor(const at::Tensor& scale)> as_stored) {
  return {std::move(name), std::move(description), [=](const at::Tensor& weight) {
            const at::Tensor x = weight.to(at::kFloat);
            const int64_t parts = !by_row ? 0 : part_size == 0 ? 1 : x.size(1) / part_size;
            const at::Tensor scale = as_stored(scale_for(x, dtype, parts));
            const at::Tensor used = scale.to(at::kFloat).view(scale_for(x, dtype, parts).sizes());
            const at::Tensor codes = to_codes((x.unflatten(1, {std::max<int64_t>(parts, 1), -1}) /
                                               (parts == 0 ? used.view({1, 1, 1}) : used.unsqueeze(2)))
                                                  .flatten(1),
                                              dtype);
            return StoredLayer{{{".weight", codes}, {ending, scale}}, times(codes, used)};
          }};
}

at::Tensor as_it_is(const at::Tensor& scale) { return scale; }

FileLayout plain(std::string name, std::string description, at::ScalarType dtype) {
  return {std::move(name), std::move(description), [=](const at::Tensor& weight) {
            const at::Tensor codes = weight.to(dtype);
            return StoredLayer{{{".weight", codes}}, codes.to(at::kFloat)};
          }};
}

// Adds to each layer what only ComfyUI has.
FileLayout with(FileLayout layout, const NamedTensors& tensors, const std::string& note = "") {
  layout.store = [store = layout.store, tensors, note](const at::Tensor& weight) {
    StoredLayer layer = store(weight);
    layer.tensors.insert(layer.tensors.end(), tensors.begin(), tensors.end());
    layer.note = note;
    return layer;
  };
  return layout;
}

// Scales that are powers of two: then nothing rounds as the rotation is undone, in whatever order that is added up.
FileLayout rotated() {
  constexpr int64_t kGroup = 64;
  const std::string note = R"({"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 64})";
  return {"ComfyUI, rotated int8", "int8 by row, rotated by 64", [=](const at::Tensor& weight) {
            const at::Tensor four = at::tensor({1.0, 1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0,  //
                                                1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0})
                                        .to(at::kFloat)
                                        .view({4, 4}) /
                                    2;
            const at::Tensor matrix = at::kron(at::kron(four, four), four);
            const auto rotate = [&](const at::Tensor& x) {
              return x.unflatten(1, {-1, kGroup}).matmul(matrix).flatten(1);
            };
            const at::Tensor x = rotate(weight.to(at::kFloat));
            const at::Tensor scale = at::exp2(at::log2(scale_for(x, at::kChar, 1)).ceil());
            const at::Tensor codes = to_codes(x / scale, at::kChar);
            return StoredLayer{{{".weight", codes}, {".weight_scale", scale}, {".comfy_quant", bytes_of_text(note)}},
                               rotate(times(codes, scale))};
          }};
}

}  // namespace

at::Tensor bytes_of_text(const std::string& text) {
  return at::from_blob(const_cast<char*>(text.data()), {static_cast<int64_t>(text.size())}, at::kByte).clone();
}

std::vector<FileLayout> file_layouts() {
  const auto scalar = [](const at::Tensor& scale) { return scale.squeeze(0); };
  const auto vector = [](const at::Tensor& scale) { return scale.flatten(); };
  const auto bf16 = [](const at::Tensor& scale) { return scale.to(at::kBFloat16); };
  const auto three = [](const at::Tensor& scale) { return scale.unsqueeze(2); };
  const auto e4m3 = at::kFloat8_e4m3fn, e5m2 = at::kFloat8_e5m2;
  const std::string e4m3_note = R"({"format": "float8_e4m3fn"})";
  FileLayout old = with(
      scaled("ComfyUI, scaled fp8 of old", "fp8 (e4m3), one scale for all", e4m3, 0, false, ".scale_weight", scalar),
      {{".scale_input", at::ones({})}});
  old.of_the_file = {{"scaled_fp8", at::zeros({2}, e4m3)}};
  FileLayout bytes =
      scaled("ComfyUI, fp8 as bytes", "fp8 (e4m3), one scale for all", e4m3, 0, false, ".weight_scale", as_it_is);
  bytes.store = [store = bytes.store, e4m3_note](const at::Tensor& weight) {
    StoredLayer layer = store(weight);
    layer.tensors[0].second = layer.tensors[0].second.view(at::kByte);
    layer.tensors.emplace_back(".comfy_quant", bytes_of_text(e4m3_note));
    return layer;
  };
  return {
      plain("plain e4m3", "fp8 (e4m3)", e4m3),
      plain("plain e5m2", "fp8 (e5m2)", e5m2),
      std::move(old),
      with(scaled("ComfyUI, fp8", "fp8 (e4m3), one scale for all", e4m3, 0, false, ".weight_scale", as_it_is),
           {{".comfy_quant", bytes_of_text(e4m3_note)}, {".input_scale", at::full({1}, 0.5)}}),
      std::move(bytes),
      with(scaled("ComfyUI, int8 noted in the metadata", "int8 by row", at::kChar, 0, true, ".weight_scale", vector),
           {}, R"({"format": "int8_tensorwise"})"),
      rotated(),
      scaled("musubi-tuner, one scale", "fp8 (e4m3), one scale for all", e4m3, 0, false, ".scale_weight", bf16),
      scaled("musubi-tuner, by row", "fp8 (e4m3) by row", e4m3, 0, true, ".scale_weight", bf16),
      scaled("musubi-tuner, in blocks", "fp8 (e4m3) by row in parts of 32", e4m3, 32, true, ".scale_weight", three),
      scaled("LightX2V, fp8", "fp8 (e4m3) by row", e4m3, 0, true, ".weight_scale", as_it_is),
      scaled("LightX2V, int8", "int8 by row", at::kChar, 0, true, ".weight_scale", as_it_is),
  };
}

NamedTensors write_quantized(const std::filesystem::path& file, const NamedTensors& tensors, const FileLayout& layout,
                             const std::string& prefix) {
  NamedTensors stored, numbers;
  nlohmann::json layers = nlohmann::json::object();
  for (const auto& [name, tensor] : layout.of_the_file) stored.emplace_back(prefix + name, tensor);
  for (const auto& [name, tensor] : tensors) {
    if (!is_layer(name, tensor)) {
      stored.emplace_back(prefix + name, tensor);
      numbers.emplace_back(name, tensor);
      continue;
    }
    const std::string stem = name.substr(0, name.size() - std::string(".weight").size());
    const StoredLayer layer = layout.store(tensor);
    for (const auto& [ending, part] : layer.tensors) stored.emplace_back(prefix + stem + ending, part);
    numbers.emplace_back(name, layer.numbers);
    if (!layer.note.empty()) layers[prefix + stem] = nlohmann::json::parse(layer.note);
  }
  std::map<std::string, std::string> metadata;
  if (!layers.empty()) metadata["_quantization_metadata"] = nlohmann::json{{"layers", layers}}.dump();
  io::save_safetensors(file, stored, metadata, /*overwrite=*/true);
  return numbers;
}

namespace {

// Hugging Face's names of a T5 encoder's tensors as llama.cpp's.
std::string llama_cpp_name(std::string name) {
  static const std::vector<std::pair<std::regex, std::string>> rules = {
      {std::regex("^shared\\."), "token_embd."},
      {std::regex("^encoder\\.final_layer_norm\\."), "enc.output_norm."},
      {std::regex("^encoder\\.block\\."), "enc.blk."},
      {std::regex("layer\\.0\\.layer_norm"), "attn_norm"},
      {std::regex("layer\\.0\\.SelfAttention\\.relative_attention_bias"), "attn_rel_b"},
      {std::regex("layer\\.0\\.SelfAttention\\.([qkvo])\\."), "attn_$1."},
      {std::regex("layer\\.1\\.layer_norm"), "ffn_norm"},
      {std::regex("layer\\.1\\.DenseReluDense\\.wi_0"), "ffn_gate"},
      {std::regex("layer\\.1\\.DenseReluDense\\.wi_1"), "ffn_up"},
      {std::regex("layer\\.1\\.DenseReluDense\\.wo"), "ffn_down"},
  };
  for (const auto& [pattern, replacement] : rules) name = std::regex_replace(name, pattern, replacement);
  return name;
}

}  // namespace

NamedTensors write_gguf(const std::filesystem::path& file, const NamedTensors& tensors, QuantizedFormat format,
                        const std::string& architecture) {
  GgufContent content;
  if (!architecture.empty()) content.values = {{"general.architecture", gguf_value(architecture)}};
  NamedTensors numbers;
  for (const auto& [name, tensor] : tensors) {
    const std::string stored_name = architecture == "t5encoder" ? llama_cpp_name(name) : name;
    const auto fits = [&](QuantizedFormat blocks) { return tensor.size(1) % block_size(blocks).elements == 0; };
    // T5's table of words is in blocks, too, as llama.cpp's converter has it.
    const bool is_matrix = is_layer(name, tensor) || name == "shared.weight";
    if (!is_matrix || !fits(QuantizedFormat::kQ8_0)) {
      content.tensors.push_back(gguf_tensor(stored_name, tensor));
      numbers.emplace_back(name, tensor);
      continue;
    }
    const Blocks blocks = to_blocks(tensor, fits(format) ? format : QuantizedFormat::kQ8_0);
    content.tensors.push_back(gguf_tensor(stored_name, blocks));
    numbers.emplace_back(name, blocks.numbers);
  }
  content.write(file);
  return numbers;
}

}  // namespace opensora::test
