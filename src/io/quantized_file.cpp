#include "io/quantized_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "io/quantized_layout.h"
#include "io/safetensors.h"
#include "opensora/error.h"

namespace opensora::io {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 22;

bool is_in_blocks(std::string_view name) {
  return name.starts_with("double_blocks.") || name.starts_with("single_blocks.") || name.starts_with("encoder.block.");
}

int64_t rotation_for(int64_t width) {
  for (const int64_t size : {256, 64, 16}) {
    if (width % size == 0) return size;
  }
  return 0;
}

// One tensor of the file, which is made of a tensor of the model.
struct Part {
  enum Kind { kKept, kData, kScale, kNote } kind;
  size_t index;
  MetaSource::Entry entry;
};

class Writer {
 public:
  Writer(const std::vector<MetaSource::Entry>& tensors, const QuantizeOptions& options, const ReadElements& read,
         const OnQuantized& on_quantized)
      : tensors_(tensors), read_(read), on_quantized_(on_quantized), scales_(tensors.size()) {
    for (const MetaSource::Entry& tensor : tensors) quantizations_.push_back(quantization_of(tensor, options));
    list_parts();
  }

  void write(const std::filesystem::path& path, const std::map<std::string, std::string>& metadata, bool overwrite) {
    std::vector<MetaSource::Entry> entries;
    entries.reserve(parts_.size());
    for (const Part& part : parts_) entries.push_back(part.entry);
    const auto make = [&](size_t i, const WritePiece& write) { make_part(parts_[i], write); };
    write_safetensors(path, entries, make, metadata, overwrite);
  }

 private:
  void list_parts();
  void make_part(const Part& part, const WritePiece& write);
  void write_kept(size_t index, const WritePiece& write);
  void write_matrix(size_t index, const WritePiece& write);
  at::Tensor note(size_t index) const;

  const std::vector<MetaSource::Entry>& tensors_;
  const ReadElements& read_;
  const OnQuantized& on_quantized_;
  std::vector<std::optional<Quantization>> quantizations_;
  std::vector<at::Tensor> scales_;  // of the matrices that have been written
  std::vector<Part> parts_;
};

at::Tensor Writer::note(size_t index) const {
  const std::string text = comfy_note(quantizations_[index]->format, quantizations_[index]->rotation);
  const at::Tensor bytes = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
  std::copy(text.begin(), text.end(), bytes.mutable_data_ptr<uint8_t>());
  return bytes;
}

// A matrix' scales are known when it has been written. Wide numbers come first and bytes last, so that each tensor lies
// aligned; scales do behind matrices of multiples of four bytes, as all models' are.
void Writer::list_parts() {
  constexpr std::string_view kWeight = ".weight";
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const MetaSource::Entry& tensor = tensors_[i];
    if (!quantizations_[i]) {
      parts_.push_back({Part::kKept, i, tensor});
      continue;
    }
    const QuantizedFormat format = quantizations_[i]->format;
    parts_.push_back({Part::kData, i, {tensor.name, tensor.shape, stored_dtype(format)}});
    parts_.push_back({Part::kScale, i, {tensor.name + "_scale", {tensor.shape[0], 1}, at::kFloat}});
    const std::string layer = tensor.name.substr(0, tensor.name.size() - kWeight.size());
    if (format == QuantizedFormat::kInt8) {
      parts_.push_back({Part::kNote, i, {layer + ".comfy_quant", {note(i).numel()}, at::kByte}});
    }
  }
  const auto rank = [](const Part& part) {
    return std::pair(part.kind, -static_cast<int64_t>(c10::elementSize(part.entry.dtype)));
  };
  std::stable_sort(parts_.begin(), parts_.end(), [&](const Part& a, const Part& b) { return rank(a) < rank(b); });
}

void Writer::make_part(const Part& part, const WritePiece& write) {
  switch (part.kind) {
    case Part::kKept:
      return write_kept(part.index, write);
    case Part::kData:
      return write_matrix(part.index, write);
    case Part::kScale:
      return write(std::exchange(scales_[part.index], {}));
    case Part::kNote:
      return write(note(part.index));
  }
}

void Writer::write_kept(size_t index, const WritePiece& write) {
  const int64_t count = tensors_[index].elements();
  for (int64_t begin = 0; begin < count; begin += kPieceElements) {
    write(read_(index, begin, std::min(count, begin + kPieceElements)).to(tensors_[index].dtype));
  }
}

void Writer::write_matrix(size_t index, const WritePiece& write) {
  const int64_t rows = tensors_[index].shape[0], width = tensors_[index].shape[1];
  const int64_t piece = std::max<int64_t>(1, kPieceElements / std::max<int64_t>(1, width));
  const Quantization quantization = *quantizations_[index];
  scales_[index] = at::empty({rows, 1}, at::kFloat);
  double lost = 0, all = 0;  // squares
  for (int64_t first = 0; first < rows; first += piece) {
    const int64_t last = std::min(rows, first + piece);
    const at::Tensor values = read_(index, first * width, last * width).view({last - first, width}).to(at::kFloat);
    const QuantizedTensor quantized = quantized_by_row(values, quantization.format, quantization.rotation);
    if (!quantized.scale.isfinite().all().item<bool>()) {
      throw CheckpointError("tensor " + tensors_[index].name + " holds numbers that are NaN or infinite");
    }
    scales_[index].slice(0, first, last).copy_(quantized.scale);
    write(quantized.data);
    lost += std::pow((dequantized(quantized, at::kFloat) - values).norm().item<double>(), 2);
    all += std::pow(values.norm().item<double>(), 2);
  }
  if (on_quantized_) on_quantized_(index, quantization, all > 0 ? std::sqrt(lost / all) : 0);
}

}  // namespace

bool is_modulation(std::string_view name) {
  return name.find("_mod.") != std::string_view::npos || name.find(".modulation.") != std::string_view::npos;
}

std::optional<QuantizedFormat> quantized_format(std::string_view word) {
  if (word == "int8") return QuantizedFormat::kInt8;
  if (word == "fp8") return QuantizedFormat::kFp8E4M3;
  return std::nullopt;
}

std::optional<Quantization> quantization_of(const MetaSource::Entry& tensor, const QuantizeOptions& options) {
  const std::string& name = tensor.name;
  const bool is_matrix = tensor.shape.size() == 2 && name.ends_with(".weight") && c10::isFloatingType(tensor.dtype);
  if (!is_matrix || !is_in_blocks(name) || name.find("relative_attention_bias") != std::string::npos) {
    return std::nullopt;
  }
  if (is_modulation(name) && options.keeps_modulations) return std::nullopt;
  return Quantization{.format = is_modulation(name) ? QuantizedFormat::kInt8 : options.format,
                      .rotation = options.rotates ? rotation_for(tensor.shape[1]) : 0};
}

void write_quantized(const std::filesystem::path& path, const std::vector<MetaSource::Entry>& tensors,
                     const QuantizeOptions& options, const ReadElements& read,
                     const std::map<std::string, std::string>& metadata, bool overwrite,
                     const OnQuantized& on_quantized) {
  Writer(tensors, options, read, on_quantized).write(path, metadata, overwrite);
}

}  // namespace opensora::io
