#include "opensora/quantize.h"

#include <fmt/format.h>

#include <map>
#include <optional>

#include "io/checkpoint.h"
#include "io/inspect.h"
#include "io/quantized_file.h"
#include "opensora/error.h"
#include "opensora/process.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;

io::QuantizeOptions quantize_options(const QuantizeRequest& request) {
  const std::optional<QuantizedFormat> format = io::quantized_format(request.to);
  if (!format) throw UsageError("`to`: expected int8 or fp8, found \"" + request.to + "\"");
  if (request.rotate && *format != QuantizedFormat::kInt8) {
    throw UsageError("`rotate`: for `to` int8 only, whose steps are equal");
  }
  return {.format = *format, .rotates = request.rotate, .keeps_modulations = request.keep_modulations};
}

// T5's encoder has one table of embeddings, of which files hold a second copy: a twentieth of a file in 8 bits.
bool is_second_copy(const io::Checkpoint& checkpoint, const std::string& name) {
  constexpr const char* kTable = "shared.weight";
  if (name != "encoder.embed_tokens.weight" || !checkpoint.contains(kTable)) return false;
  const at::Tensor copy = *checkpoint.find(name, {}), table = *checkpoint.find(kTable, {});
  const bool is_equal = copy.dtype() == table.dtype() && at::equal(copy, table);
  for (const at::Tensor& read : {copy, table}) checkpoint.advise(read, PageAdvice::kLetGo);
  return is_equal;
}

std::vector<MetaSource::Entry> tensors_of(const io::Checkpoint& checkpoint) {
  std::vector<MetaSource::Entry> tensors;
  for (const std::string& name : checkpoint.all_names()) {
    if (is_second_copy(checkpoint, name)) continue;
    const io::TensorInfo& info = checkpoint.info(name);
    tensors.push_back({name, info.shape, info.dtype});
  }
  return tensors;
}

void check_input(const io::Checkpoint& checkpoint, const std::string& kind,
                 const std::vector<MetaSource::Entry>& tensors, const io::QuantizeOptions& options) {
  for (const MetaSource::Entry& tensor : tensors) {
    if (!checkpoint.info(tensor.name).blocks && !checkpoint.layout().matrices.contains(tensor.name)) continue;
    throw CheckpointError(fmt::format("{}: is quantised already ({}): take the file that it was made of",
                                      checkpoint.description(), tensor.name));
  }
  for (const MetaSource::Entry& tensor : tensors) {
    if (io::quantization_of(tensor, options)) return;
  }
  throw CheckpointError(
      fmt::format("{}: holds no matrices of a transformer or of T5, but of: {}", checkpoint.description(), kind));
}

// Even --overwrite does not mean the only file of the original.
void check_output_is_other(const io::Checkpoint& checkpoint, const fs::path& output) {
  for (const fs::path& file : checkpoint.files()) {
    std::error_code error;  // where there is no output yet
    if (!fs::equivalent(file, output, error)) continue;
    throw OutputError(output.string() + ": is what is to be quantised; expected another file to write to");
  }
}

std::map<std::string, std::string> metadata_of(const io::Checkpoint& checkpoint, const QuantizeRequest& request) {
  std::map<std::string, std::string> metadata = checkpoint.metadata();
  metadata["quantized"] =
      fmt::format("opensora {}: --to {}{}{}, from {}", version(), request.to, request.rotate ? " --rotate" : "",
                  request.keep_modulations ? " --keep-modulations" : "", request.input.filename().string());
  return metadata;
}

}  // namespace

QuantizeReport quantize(const QuantizeRequest& request,
                        const std::function<void(const QuantizedLayer& layer)>& on_layer) {
  const io::QuantizeOptions options = quantize_options(request);
  const auto checkpoint = io::Checkpoint::open(request.input);
  const std::vector<MetaSource::Entry> tensors = tensors_of(*checkpoint);
  QuantizeReport report{.kind = io::recognise(*checkpoint).name, .layers = {}};
  check_input(*checkpoint, report.kind, tensors, options);
  check_output_is_other(*checkpoint, request.output);
  const auto read = [&](size_t index, int64_t begin, int64_t end) {
    const at::Tensor piece = checkpoint->find(tensors[index].name, {})->flatten().slice(0, begin, end);
    const at::Tensor copy = piece.clone();
    checkpoint->advise(piece, PageAdvice::kLetGo);
    return copy;
  };
  const auto note = [&](size_t index, const io::Quantization& quantization, double error) {
    report.layers.push_back({.name = tensors[index].name,
                             .format = format_name(quantization.format),
                             .rotation = quantization.rotation,
                             .shape = tensors[index].shape,
                             .error = error});
    if (on_layer) on_layer(report.layers.back());
  };
  try {
    io::write_quantized(request.output, tensors, options, read, metadata_of(*checkpoint, request), request.overwrite,
                        note);
  } catch (const CheckpointError& error) {  // which knows no file
    throw CheckpointError(checkpoint->description() + ": " + error.what());
  }
  report.kept = static_cast<int64_t>(tensors.size() - report.layers.size());
  for (const fs::path& file : checkpoint->files()) report.input_bytes += static_cast<int64_t>(fs::file_size(file));
  report.output_bytes = static_cast<int64_t>(fs::file_size(request.output));
  return report;
}

}  // namespace opensora
