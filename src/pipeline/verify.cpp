#include <fmt/format.h>

#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>

#include "autoencoder/autoencoder_2d.h"
#include "autoencoder/dc_ae.h"
#include "autoencoder/hunyuan_vae.h"
#include "diffusion/mmdit.h"
#include "io/checkpoint.h"
#include "io/model_files.h"
#include "io/shape_source.h"
#include "media/sha256.h"
#include "opensora/checkpoint.h"
#include "opensora/error.h"
#include "pipeline/text_model.h"
#include "text/clip_encoder.h"
#include "text/t5_encoder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using io::Component;

// Lines of an error as problems of their own, if it is a list: its first line then is a headline.
void add_problems(std::vector<std::string>& problems, const std::string& error) {
  std::istringstream lines(error);
  std::string headline, line;
  std::getline(lines, headline);
  const size_t before = problems.size();
  while (std::getline(lines, line)) problems.push_back(line.substr(std::min(line.find_first_not_of(' '), line.size())));
  if (problems.size() == before) problems.push_back(headline);
}

// One component while it is looked into. Each step may fail on its own: what depends on it is skipped.
class Examination {
 public:
  explicit Examination(Component component) { result.name = io::component_name(component); }

  template <typename Step>
  auto attempt(Step&& step) -> std::optional<decltype(step())> {
    try {
      return std::forward<Step>(step)();
    } catch (const Error& error) {
      add_problems(result.problems, error.what());
      return std::nullopt;
    }
  }
  template <typename Check>
  void check(Check&& check) {
    attempt([&] {
      check();
      return true;
    });
  }

  void open(const fs::path& path) {
    result.path = path;
    checkpoint = attempt([&] { return io::Checkpoint::open(path); }).value_or(nullptr);
    if (!checkpoint) return;
    shapes = std::make_shared<io::ShapeSource>(checkpoint);
    for (const fs::path& file : checkpoint->files()) add_file(file);
  }

  // `options`: what else the model's constructor takes.
  template <typename Model, typename ModelConfig, typename... Options>
  void bind(const ModelConfig& config, Options... options) {
    check([&] { Model(Weights(shapes, at::kMeta, at::kBFloat16), config, options...); });
    for (const std::string& name : shapes->bound()) {
      ++result.tensors;
      result.parameters += c10::multiply_integers(checkpoint->info(name).shape);
    }
  }

  void add_file(const fs::path& file) {
    std::error_code unreadable;
    if (!fs::is_regular_file(file, unreadable)) return;
    result.files.push_back({file, static_cast<int64_t>(fs::file_size(file, unreadable)), ""});
  }

  VerifiedComponent result;
  std::shared_ptr<const io::Checkpoint> checkpoint;
  std::shared_ptr<const io::ShapeSource> shapes;
};

// A component that is one model of one file.
template <typename Model, typename ModelConfig, typename... Options>
void examine_model(Examination& examination, const fs::path& model_dir, Component component, const ModelConfig& config,
                   Options... options) {
  const auto path =
      examination.attempt([&] { return io::find_component(model_dir, component, config.from_pretrained); });
  if (!path) return;
  examination.open(*path);
  if (examination.checkpoint) examination.bind<Model>(config, options...);
}

template <typename Tokenizer, typename Encoder, typename ReadConfig, typename CheckWidth, typename CheckVocabulary>
void examine_text_encoder(Examination& examination, const io::TextEncoderFiles& files,
                          std::initializer_list<const char*> tokenizer_files, ReadConfig&& read_config,
                          CheckWidth&& check_width, CheckVocabulary&& check_vocabulary) {
  examination.open(files.weights);
  if (!files.config_folder.empty()) examination.add_file(files.config_folder / "config.json");
  for (const char* name : tokenizer_files) examination.add_file(files.tokenizer_folder / name);
  const auto tokenizer = examination.attempt([&] { return Tokenizer(files.tokenizer_folder); });
  if (!examination.checkpoint) return;
  const auto config = examination.attempt([&] { return read_config(files, *examination.shapes); });
  if (!config) return;
  examination.check([&] { check_width(*config); });
  if (tokenizer) examination.check([&] { check_vocabulary(files, *tokenizer, *config); });
  examination.bind<Encoder>(*config);
}

std::optional<io::TextEncoderFiles> find_encoder(Examination& examination, const fs::path& model_dir,
                                                 Component component, const TextEncoderConfig& config) {
  return examination.attempt([&] { return io::find_text_encoder(model_dir, component, config.from_pretrained); });
}

void examine_t5(Examination& examination, const fs::path& model_dir, const Config& config) {
  const auto files = find_encoder(examination, model_dir, Component::kT5, config.t5);
  if (!files) return;
  examine_text_encoder<text::T5Tokenizer, text::T5Encoder>(
      examination, *files, {"spiece.model"}, pipeline::t5_config,
      [&](const text::T5Config& sizes) { pipeline::check_t5_width(*files, sizes, config.model); },
      pipeline::check_t5_vocabulary);
}

void examine_clip(Examination& examination, const fs::path& model_dir, const Config& config) {
  const auto files = find_encoder(examination, model_dir, Component::kClip, config.clip);
  if (!files) return;
  examine_text_encoder<text::ClipTokenizer, text::ClipEncoder>(
      examination, *files, {"vocab.json", "merges.txt"}, pipeline::clip_config,
      [&](const text::ClipConfig& sizes) { pipeline::check_clip_width(*files, sizes, config.model); },
      pipeline::check_clip_vocabulary);
}

// In pieces, so that a float copy of the largest tensor is not needed.
int64_t count_not_finite(const at::Tensor& tensor) {
  constexpr int64_t kPiece = 1 << 24;
  if (!tensor.is_floating_point()) return 0;
  const at::Tensor flat = tensor.contiguous().view(-1);
  int64_t count = 0;
  for (int64_t begin = 0; begin < flat.numel(); begin += kPiece) {
    const at::Tensor piece = flat.slice(0, begin, begin + kPiece).to(at::kFloat);
    count += piece.numel() - at::isfinite(piece).sum().item<int64_t>();
  }
  return count;
}

void examine_in_full(Examination& examination, const VerifyOptions& options) {
  for (VerifiedFile& file : examination.result.files) {
    if (options.on_file) options.on_file(file.path);
    examination.check([&] { file.sha256 = media::sha256_of_file(file.path); });
  }
  if (!examination.checkpoint) return;
  for (const std::string& name : examination.shapes->bound()) {
    const int64_t count = count_not_finite(*examination.checkpoint->find(name, {}));
    if (count == 0) continue;
    examination.result.problems.push_back(
        fmt::format("{}: {} of {} values are NaN or infinite", name, count,
                    c10::multiply_integers(examination.checkpoint->info(name).shape)));
  }
}

// What a run with a configuration loads; one entry a component.
using Examine = std::function<void(Examination&, const fs::path& model_dir, const Config&)>;

// Both halves: an image to start from needs the encoder.
void examine_video_autoencoder(Examination& examination, const fs::path& folder, const Config& config) {
  using autoencoder::Half;
  if (const auto* vae = std::get_if<HunyuanVAEConfig>(&config.ae)) {
    examine_model<autoencoder::HunyuanVAE>(examination, folder, Component::kAe, *vae, Half::kBoth);
  } else {
    examine_model<autoencoder::DCAE>(examination, folder, Component::kAe, std::get<DCAEConfig>(config.ae), Half::kBoth);
  }
}

void examine_flux(Examination& examination, const fs::path& folder, const Config& config) {
  examine_model<diffusion::MMDiT>(examination, folder, Component::kImgFlux, config.text_to_image->model);
}

void examine_flux_autoencoder(Examination& examination, const fs::path& folder, const Config& config) {
  examine_model<autoencoder::Autoencoder2D>(examination, folder, Component::kImgFluxAe, config.text_to_image->ae,
                                            autoencoder::Half::kDecoder);
}

std::vector<std::pair<Component, Examine>> components_of(const Config& config) {
  std::vector<std::pair<Component, Examine>> components = {
      {Component::kModel,
       [](Examination& examination, const fs::path& folder, const Config& config) {
         examine_model<diffusion::MMDiT>(examination, folder, Component::kModel, config.model);
       }},
      {Component::kAe, examine_video_autoencoder},
      {Component::kT5, examine_t5},
      {Component::kClip, examine_clip},
  };
  if (config.use_t2i2v) {
    components.emplace_back(Component::kImgFlux, examine_flux);
    components.emplace_back(Component::kImgFluxAe, examine_flux_autoencoder);
  }
  return components;
}

}  // namespace

int64_t VerifyReport::problems() const {
  return std::accumulate(components.begin(), components.end(), int64_t{0},
                         [](int64_t sum, const VerifiedComponent& component) {
                           return sum + static_cast<int64_t>(component.problems.size());
                         });
}

VerifyReport verify(const fs::path& model_dir, const Config& config, const VerifyOptions& options) {
  VerifyReport report;
  for (const auto& [component, examine] : components_of(config)) {
    Examination examination(component);
    examine(examination, model_dir, config);
    if (options.full) examine_in_full(examination, options);
    report.components.push_back(std::move(examination.result));
  }
  return report;
}

}  // namespace opensora
