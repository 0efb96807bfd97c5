#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "media/sha256.h"
#include "models/examination.h"
#include "opensora/checkpoint.h"
#include "opensora/error.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using models::Examination;

// In pieces, so that a float copy of the largest tensor is not needed.
constexpr int64_t kPiece = 1 << 24;

int64_t count_not_finite(const at::Tensor& tensor) {
  if (!tensor.is_floating_point()) return 0;
  const at::Tensor flat = tensor.contiguous().view(-1);
  int64_t count = 0;
  for (int64_t begin = 0; begin < flat.numel(); begin += kPiece) {
    const at::Tensor piece = flat.slice(0, begin, begin + kPiece).to(at::kFloat);
    count += piece.numel() - at::isfinite(piece).sum().item<int64_t>();
  }
  return count;
}

int64_t count_not_finite(const QuantizedTensor& matrix) {
  const int64_t rows = matrix.shape()[0],
                piece = std::max<int64_t>(1, kPiece / std::max<int64_t>(1, matrix.shape()[1]));
  int64_t count = 0;
  for (int64_t first = 0; first < rows; first += piece) {
    const QuantizedTensor part = rows_of(matrix, first, std::min(piece, rows - first));
    count += count_not_finite(dequantized(part, at::kFloat));
  }
  return count;
}

int64_t count_not_finite(const io::Checkpoint& checkpoint, const std::string& name) {
  if (const auto matrix = checkpoint.quantized(name, {})) return count_not_finite(*matrix);
  return count_not_finite(*checkpoint.find(name, {}));
}

void examine_in_full(Examination& examination, const std::function<void(const fs::path& file)>& on_file) {
  for (VerifiedFile& file : examination.result.files) {
    if (on_file) on_file(file.path);
    try {
      file.sha256 = media::sha256_of_file(file.path);
    } catch (const InterruptedError&) {
      throw;
    } catch (const Error& error) {
      examination.result.problems.emplace_back(error.what());
    }
  }
  if (!examination.checkpoint) return;
  std::map<std::string, int64_t> elements;  // by name, in order
  for (const MetaSource::Entry& tensor : examination.headers->requested()) elements[tensor.name] = tensor.elements();
  for (const auto& [name, all] : elements) {
    const int64_t count = count_not_finite(*examination.checkpoint, name);
    if (count == 0) continue;
    examination.result.problems.push_back(fmt::format("{}: {} of {} values are NaN or infinite", name, count, all));
  }
}

// What a run with a configuration loads, or may load.
std::vector<Component> components_of(const models::ModelChoice& choice) {
  std::vector<Component> components = {Component::kModel, Component::kAe, Component::kT5, Component::kClip};
  if (choice.config.use_t2i2v) components.insert(components.end(), {Component::kImgFlux, Component::kImgFluxAe});
  if (has_tiny_autoencoder(choice)) components.push_back(Component::kTinyAe);
  return components;
}

}  // namespace

int64_t VerifyReport::problems() const {
  return std::accumulate(components.begin(), components.end(), int64_t{0},
                         [](int64_t sum, const VerifiedComponent& component) {
                           return sum + static_cast<int64_t>(component.problems.size());
                         });
}

VerifyReport verify(const fs::path& model_dir, const Config& config, bool full,
                    const std::function<void(const fs::path& file)>& on_file) {
  const models::ModelChoice choice{model_dir, config};
  VerifyReport report;
  for (const Component component : components_of(choice)) {
    // Both halves of the autoencoder: an image to start from needs the encoder.
    Examination examination = examine(component, choice);
    if (full) examine_in_full(examination, on_file);
    report.components.push_back(std::move(examination.result));
  }
  if (report.problems() > 0) report.advice = other_configuration(choice);
  return report;
}

}  // namespace opensora
