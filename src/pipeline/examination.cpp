#include "pipeline/examination.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <system_error>

#include "autoencoder/autoencoder_2d.h"
#include "autoencoder/dc_ae.h"
#include "autoencoder/hunyuan_vae.h"
#include "diffusion/mmdit.h"
#include "io/checkpoint_kind.h"
#include "opensora/error.h"
#include "pipeline/component_files.h"
#include "pipeline/text_model.h"
#include "text/clip_encoder.h"
#include "text/t5_encoder.h"

namespace opensora::pipeline {
namespace {

namespace fs = std::filesystem;
using autoencoder::Half;
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
class Examiner {
 public:
  Examiner(Component component, const fs::path& model_dir, const Config& config, const ExamineOptions& options)
      : component_(component), model_dir_(model_dir), config_(config), options_(options) {
    found.result.name = io::component_name(component);
  }

  void run();

  Examination found;

 private:
  template <typename Step>
  auto attempt(Step&& step) -> std::optional<decltype(step())> {
    try {
      return std::forward<Step>(step)();
    } catch (const io::MissingComponentError& error) {
      found.missing.push_back(error.line());
      note(error);
    } catch (const Error& error) {
      note(error);
    }
    return std::nullopt;
  }
  template <typename Check>
  void check(Check&& check) {
    attempt([&] {
      check();
      return true;
    });
  }
  void note(const Error& error) {
    found.errors.emplace_back(error.what());
    add_problems(found.result.problems, error.what());
  }

  void open(const fs::path& path);
  void add_file(const fs::path& file);
  // `options`: what else the model's constructor takes. `kind`: how recognise() calls it, or how that ends.
  template <typename Model, typename ModelConfig, typename... Options>
  void bind(std::string_view kind, const ModelConfig& config, Options... options);
  template <typename Model, typename ModelConfig, typename... Options>
  void examine_model(const fs::path& chosen, std::string_view kind, const ModelConfig& config, Options... options);
  template <typename Tokenizer, typename Encoder, typename ReadConfig, typename CheckSizes, typename CheckVocabulary>
  void examine_text_encoder(const io::TextEncoderFiles& files, std::initializer_list<const char*> tokenizer_files,
                            std::string_view kind, ReadConfig&& read_config, CheckSizes&& check_sizes,
                            CheckVocabulary&& check_vocabulary);
  void examine_video_autoencoder();
  void examine_t5();
  void examine_clip();

  Component component_;
  const fs::path& model_dir_;
  const Config& config_;
  const ExamineOptions& options_;
};

void Examiner::open(const fs::path& path) {
  found.result.path = path;
  found.checkpoint = attempt([&] { return io::Checkpoint::open(path); }).value_or(nullptr);
  if (!found.checkpoint) return;
  found.shapes = std::make_shared<io::ShapeSource>(found.checkpoint, options_.warns_unused);
  for (const fs::path& file : found.checkpoint->files()) add_file(file);
  const std::string& prefix = found.checkpoint->stripped_prefix();
  if (prefix.empty()) return;
  const std::vector<std::string>& others = found.checkpoint->other_prefixes();
  spdlog::info(
      "{}: names are behind \"{}\"{}", path.string(), prefix,
      others.empty() ? "" : fmt::format("; another copy, behind \"{}\", is not used", fmt::join(others, ", ")));
}

void Examiner::add_file(const fs::path& file) {
  std::error_code unreadable;
  if (!fs::is_regular_file(file, unreadable)) return;
  found.result.files.push_back({file, static_cast<int64_t>(fs::file_size(file, unreadable)), ""});
}

template <typename Model, typename ModelConfig, typename... Options>
void Examiner::bind(std::string_view kind, const ModelConfig& config, Options... options) {
  check([&] {
    try {
      Model(Weights(found.shapes, at::kMeta, at::kBFloat16), config, options...);
    } catch (const CheckpointError&) {
      // The wrong kind would be one long list of missing tensors.
      const std::string held = io::recognise(*found.checkpoint).name;
      if (held == "unknown" || held.ends_with(kind)) throw;
      throw CheckpointError(fmt::format("{}: holds another model ({}), expected \"{}\", a {}",
                                        found.checkpoint->description(), held, found.result.name, kind));
    }
  });
  for (const std::string& name : found.shapes->bound()) {
    ++found.result.tensors;
    found.result.parameters += c10::multiply_integers(found.checkpoint->info(name).shape);
  }
}

template <typename Model, typename ModelConfig, typename... Options>
void Examiner::examine_model(const fs::path& chosen, std::string_view kind, const ModelConfig& config,
                             Options... options) {
  const auto path = attempt([&] { return io::find_component(model_dir_, component_, config.from_pretrained, chosen); });
  if (!path) return;
  open(*path);
  if (found.checkpoint) bind<Model>(kind, config, options...);
}

template <typename Tokenizer, typename Encoder, typename ReadConfig, typename CheckSizes, typename CheckVocabulary>
void Examiner::examine_text_encoder(const io::TextEncoderFiles& files,
                                    std::initializer_list<const char*> tokenizer_files, std::string_view kind,
                                    ReadConfig&& read_config, CheckSizes&& check_sizes,
                                    CheckVocabulary&& check_vocabulary) {
  open(files.weights);
  if (!files.config_folder.empty()) add_file(files.config_folder / "config.json");
  for (const char* name : tokenizer_files) add_file(files.tokenizer_folder / name);
  const auto tokenizer = attempt([&] { return Tokenizer(files.tokenizer_folder); });
  if (!found.checkpoint) return;
  const auto sizes = attempt([&] { return read_config(files, *found.shapes); });
  if (!sizes) return;
  check([&] { check_sizes(*sizes); });
  if (tokenizer) check([&] { check_vocabulary(files, *tokenizer, *sizes); });
  bind<Encoder>(kind, *sizes);
}

// Both halves are two models of one file.
void Examiner::examine_video_autoencoder() {
  const fs::path& chosen = options_.files.vae;
  if (const auto* vae = std::get_if<HunyuanVAEConfig>(&config_.ae)) {
    examine_model<autoencoder::HunyuanVAE>(chosen, "HunyuanVAE", *vae, options_.half);
  } else {
    examine_model<autoencoder::DCAE>(chosen, "DC-AE", std::get<DCAEConfig>(config_.ae), options_.half);
  }
}

void Examiner::examine_t5() {
  const auto files = attempt(
      [&] { return io::find_text_encoder(model_dir_, component_, config_.t5.from_pretrained, options_.files.t5xxl); });
  if (!files) return;
  examine_text_encoder<text::T5Tokenizer, text::T5Encoder>(
      *files, {"spiece.model"}, "T5 encoder", t5_config,
      [&](const text::T5Config& sizes) { check_t5_sizes(*files, sizes, config_); }, check_t5_vocabulary);
}

void Examiner::examine_clip() {
  const auto files = attempt([&] {
    return io::find_text_encoder(model_dir_, component_, config_.clip.from_pretrained, options_.files.clip_l);
  });
  if (!files) return;
  examine_text_encoder<text::ClipTokenizer, text::ClipEncoder>(
      *files, {"vocab.json", "merges.txt"}, "CLIP text encoder", clip_config,
      [&](const text::ClipConfig& sizes) { check_clip_sizes(*files, sizes, config_); }, check_clip_vocabulary);
}

void Examiner::run() {
  switch (component_) {
    case Component::kModel:
      return examine_model<diffusion::MMDiT>(options_.files.diffusion_model, "transformer", config_.model);
    case Component::kAe:
      return examine_video_autoencoder();
    case Component::kT5:
      return examine_t5();
    case Component::kClip:
      return examine_clip();
    case Component::kImgFlux:
      return examine_model<diffusion::MMDiT>(options_.files.flux, "transformer", config_.text_to_image->model);
    case Component::kImgFluxAe:
      return examine_model<autoencoder::Autoencoder2D>(options_.files.flux_ae, "FLUX autoencoder",
                                                       config_.text_to_image->ae, Half::kDecoder);
  }
}

// A list on one line.
std::string on_one_line(const std::string& error) {
  std::string line;
  std::istringstream parts(error);
  int count = 0;
  for (std::string part; std::getline(parts, part); ++count) {
    line += (count == 0   ? ""
             : count == 1 ? ": "
                          : "; ") +
            part.substr(std::min(part.find_first_not_of(' '), part.size()));
  }
  return line;
}

// Empty where it is not there: then there is no demo model either.
fs::path bundled_configs() {
  try {
    return bundled_configs_dir();
  } catch (const UsageError&) {
    return {};
  }
}

std::string config_label(const Config& config) {
  const fs::path file = config.name;
  std::error_code unreadable;
  const bool is_bundled = fs::equivalent(file.parent_path(), bundled_configs(), unreadable);
  return is_bundled ? file.stem().string() : config.name;
}

}  // namespace

std::string other_configuration(const fs::path& model_dir, const Config& config) {
  const fs::path own = model_dir / "config.json";
  std::error_code unreadable;
  if (!fs::exists(own, unreadable) || fs::equivalent(own, config.name, unreadable)) return "";
  if (is_demo_folder(model_dir)) {
    return fmt::format(
        "the demo model has one configuration, its own, and cannot be used with {}: that needs the "
        "published weights, in a folder given with --model-dir (see \"Real videos\" in the README); "
        "opensora plan says what they take",
        config_label(config));
  }
  return fmt::format("{} has a configuration of its own, {}, and was used with {}: leave out --config",
                     model_dir.string(), own.filename().string(), config_label(config));
}

Examination examine(Component component, const fs::path& model_dir, const Config& config,
                    const ExamineOptions& options) {
  Examiner examiner(component, model_dir, config, options);
  examiner.run();
  return std::move(examiner.found);
}

void check_models(const std::vector<Component>& components, const fs::path& model_dir, const Config& config,
                  const ModelFiles& files, Half half) {
  std::vector<std::string> errors, lines;
  size_t missing = 0;
  for (const Component component : components) {
    const Examination found = examine(component, model_dir, config, {files, half, /*warns_unused=*/false});
    if (found.errors.empty()) continue;
    errors.insert(errors.end(), found.errors.begin(), found.errors.end());
    missing += found.missing.size();
    std::string line = found.result.name + ": ";
    if (!found.missing.empty()) {
      line += fmt::format("{}", fmt::join(found.missing, "; "));
    } else {
      for (const std::string& error : found.errors) line += (line.ends_with(": ") ? "" : "; ") + on_one_line(error);
    }
    lines.push_back(std::move(line));
  }
  if (errors.empty()) return;
  const std::string other = other_configuration(model_dir, config);
  const bool is_demo = other.starts_with("the demo model");
  if (is_demo && missing == 0) throw CheckpointError(other);
  const bool advises = !other.empty() && (is_demo || missing == 0);  // files that are missing explain themselves
  const std::string advice = advises ? "\n  " + other : "";
  if (errors.size() == 1) throw CheckpointError(errors.front() + advice);
  std::string headline = fmt::format("model folder {}: {} of the {} models of {} cannot be used", model_dir.string(),
                                     lines.size(), components.size(), config_label(config));
  if (missing > 0) headline += "; names like \"hpcai-tech/Open-Sora-v2\" are repositories of the Hugging Face hub";
  throw CheckpointError(fmt::format("{}\n  {}{}", headline, fmt::join(lines, "\n  "), advice));
}

}  // namespace opensora::pipeline
