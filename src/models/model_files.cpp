#include "models/model_files.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <variant>
#include <vector>

#include "autoencoder/taehv.h"
#include "io/checkpoint.h"
#include "opensora/error.h"

namespace opensora::models {
namespace {

namespace fs = std::filesystem;

struct KnownNames {
  const char* name;                    // of the configuration's section
  const char* flag;                    // the parameter that names another file
  std::vector<const char*> community;  // files and folders, besides the configured one
  // How the names of GGUF files begin, besides the configured file's without its extension: "flux1-dev-Q8_0.gguf".
  std::vector<const char*> gguf;
  const char* tokenizer_file = nullptr;
  const char* tokenizer_folder = nullptr;  // in FLUX folders
};

const KnownNames& known_names(Component component) {
  static const std::map<Component, KnownNames> names = {
      {Component::kModel, {"model", "diffusion_model", {}, {}}},
      {Component::kAe, {"ae", "vae", {}, {}}},
      {Component::kT5,
       {"t5",
        "t5xxl",
        {"t5xxl_fp16.safetensors", "t5xxl_fp8_e4m3fn.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors",
         "text_encoder_2"},
        {"t5-v1_1-xxl-encoder", "t5xxl"},
        "spiece.model",
        "tokenizer_2"}},
      {Component::kClip, {"clip", "clip_l", {"clip_l.safetensors", "text_encoder"}, {}, "vocab.json", "tokenizer"}},
      {Component::kImgFlux, {"img_flux", "flux", {"flux1-dev.safetensors"}, {"flux1-dev"}}},
      {Component::kImgFluxAe, {"img_flux_ae", "flux_ae", {"flux1-dev-ae.safetensors", "ae.safetensors"}, {}}},
      {Component::kTinyAe, {"tiny_ae", "vae", {"taehv.pth"}, {}}},
  };
  return names.at(component);
}

// Where the configured names are published, and how large they are there.
std::string published_source(const std::string& configured) {
  static const std::map<std::string, const char*> sources = {
      {"Open_Sora_v2.safetensors", "hpcai-tech/Open-Sora-v2, 24 GB"},
      {"hunyuan_vae.safetensors", "hpcai-tech/Open-Sora-v2, 1 GB"},
      {"google/t5-v1_1-xxl",
       "google/t5-v1_1-xxl, 45 GB: config.json, spiece.model and the weights, or for the weights "
       "t5xxl_fp16.safetensors of comfyanonymous/flux_text_encoders, 10 GB"},
      {"openai/clip-vit-large-patch14",
       "openai/clip-vit-large-patch14, 1.7 GB: config.json, vocab.json, merges.txt and the weights"},
      {"Open_Sora_v2_Video_DC_AE.safetensors", "hpcai-tech/Open-Sora-v2-Video-DC-AE, 24 GB"},
      {"F32T4C128_AE.safetensors", "hpcai-tech/Open-Sora-v2-Video-DC-AE, 2 GB"},
      {"flux1-dev.safetensors", "black-forest-labs/FLUX.1-dev, 24 GB"},
      {"flux1-dev-ae.safetensors", "black-forest-labs/FLUX.1-dev, there ae.safetensors, 0.3 GB"},
  };
  const auto found = sources.find(configured);
  return found == sources.end() ? "" : found->second;
}

bool is_there(const fs::path& path) {
  std::error_code unreadable;
  return fs::exists(path, unreadable);
}

bool is_folder(const fs::path& path) {
  std::error_code unreadable;
  return fs::is_directory(path, unreadable);
}

// A folder counts if there are weights in it: a text encoder's may hold the tokenizer alone.
bool holds_weights(const fs::path& path) { return is_folder(path) ? io::weights_in(path).has_value() : is_there(path); }

std::vector<fs::path> candidates(const fs::path& model_dir, const KnownNames& known, const std::string& configured) {
  const fs::path first = model_dir / configured;
  std::vector<fs::path> paths = {first};
  if (!is_folder(first)) paths.emplace_back(first.string() + ".index.json");
  for (const char* name : known.community) {
    if (is_folder(first) && fs::path(name).has_extension()) paths.push_back(first / name);
    paths.push_back(model_dir / name);
  }
  return paths;
}

bool is_gguf_of(const fs::path& file, const std::string& start) {
  const std::string name = file.filename().string();
  if (file.extension() != ".gguf" || !name.starts_with(start)) return false;
  return std::string_view("-_.").find(name[start.size()]) != std::string_view::npos;
}

// The GGUF files of a component in the model folder and in the folder that the configuration names, by name: people
// call them after what they hold, "Open_Sora_v2-Q8_0.gguf".
std::vector<fs::path> gguf_files(const fs::path& model_dir, const KnownNames& known, const std::string& configured) {
  std::vector<std::string> starts(known.gguf.begin(), known.gguf.end());
  if (fs::path(configured).has_extension()) starts.push_back(fs::path(configured).stem().string());
  std::vector<fs::path> found;
  for (const fs::path& folder : {model_dir, model_dir / configured}) {
    std::error_code unreadable;
    for (const auto& entry : fs::directory_iterator(folder, unreadable)) {
      const auto fits = [&](const std::string& start) { return is_gguf_of(entry.path(), start); };
      if (std::any_of(starts.begin(), starts.end(), fits)) found.push_back(entry.path());
    }
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());  // both may be the same folder
  return found;
}

// Which of several is meant only the user knows: they differ in size and quality.
fs::path only_one(const std::vector<fs::path>& files, const KnownNames& known) {
  if (files.size() == 1) return files.front();
  std::string names;
  for (const fs::path& file : files) names += (names.empty() ? "" : ", ") + file.filename().string();
  throw CheckpointError(files.front().parent_path().string() + ": holds several files for \"" + known.name + "\" (" +
                        names + "); name the one to use with `" + known.flag + "`");
}

// A path that is not there is taken for a folder: that is how the official configurations name text encoders.
fs::path folder_of(const fs::path& path) {
  std::error_code unreadable;
  return fs::is_regular_file(path, unreadable) ? path.parent_path() : path;
}

fs::path find_tokenizer_beside(const fs::path& model_dir, const KnownNames& known, const std::string& configured,
                               const fs::path& weights_folder) {
  const fs::path first = folder_of(model_dir / configured);
  for (const fs::path& folder : {first, weights_folder, weights_folder / ".." / known.tokenizer_folder,
                                 weights_folder / known.tokenizer_folder}) {
    if (is_there(folder / known.tokenizer_file)) return folder.lexically_normal();
  }
  return model_dir / configured;
}

}  // namespace

const char* component_name(Component component) { return known_names(component).name; }

const char* encoder_name(Component component) { return component == Component::kT5 ? "T5" : "CLIP"; }

const std::string& configured_file(Component component, const Config& config) {
  static const std::string tiny_autoencoder = "taehv.safetensors";
  switch (component) {
    case Component::kModel:
      return config.model.from_pretrained;
    case Component::kAe:
      return std::visit([](const auto& ae) -> const std::string& { return ae.from_pretrained; }, config.ae);
    case Component::kClip:
      return config.clip.from_pretrained;
    case Component::kT5:
      return config.t5.from_pretrained;
    case Component::kImgFlux:
      return config.text_to_image->model.from_pretrained;
    case Component::kImgFluxAe:
      return config.text_to_image->ae.from_pretrained;
    case Component::kTinyAe:
      return tiny_autoencoder;
  }
  throw std::invalid_argument("no such component");
}

const fs::path& chosen_file(Component component, const ModelFiles& files) {
  static const std::map<Component, fs::path ModelFiles::*> members = {
      {Component::kModel, &ModelFiles::diffusion_model}, {Component::kAe, &ModelFiles::vae},
      {Component::kClip, &ModelFiles::clip_l},           {Component::kT5, &ModelFiles::t5xxl},
      {Component::kImgFlux, &ModelFiles::flux},          {Component::kImgFluxAe, &ModelFiles::flux_ae}};
  static const fs::path none;
  const auto member = members.find(component);
  return member == members.end() ? none : files.*member->second;
}

fs::path find_component(const fs::path& model_dir, Component component, const std::string& configured,
                        const fs::path& chosen) {
  const KnownNames& known = known_names(component);
  if (!chosen.empty()) {
    if (holds_weights(chosen)) return chosen;
    const std::string problem = is_there(chosen) ? "the folder holds no weights" : "there is no such file or folder";
    throw MissingComponentError("no checkpoint " + chosen.string() + " for \"" + known.name + "\": " + problem,
                                chosen.string() + ": " + problem);
  }
  std::string tried;
  for (const fs::path& path : candidates(model_dir, known, configured)) {
    if (holds_weights(path)) return path;
    const fs::path missing = is_folder(path) ? path / "model.safetensors" : path;  // or its like: weights_in()
    tried += (tried.empty() ? "" : ", ") + missing.lexically_relative(model_dir).string();
  }
  const std::vector<fs::path> files = gguf_files(model_dir, known, configured);
  if (!files.empty()) return only_one(files, known);
  const std::string source = published_source(configured);
  throw MissingComponentError(
      "no checkpoint \"" + configured + "\" for \"" + known.name + "\" in folder " + model_dir.string() +
          (is_folder(model_dir) ? "" : " (there is no such folder)") + " (looked for " + tried + ")" +
          (source.empty() ? "" : "; it is published as " + source + " on the Hugging Face hub") +
          "; `model_dir` names the folder of the models",
      configured + " is missing" + (source.empty() ? "" : " (" + source + ")"));
}

bool has_tiny_autoencoder(const ModelChoice& choice) {
  const auto* ae = std::get_if<HunyuanVAEConfig>(&choice.config.ae);
  if (ae == nullptr || ae->latent_channels != autoencoder::kTaehvLatentChannels) return false;
  try {
    locate(Component::kTinyAe, choice);
    return true;
  } catch (const MissingComponentError&) {
    return false;
  }
}

ComponentFiles locate(Component component, const ModelChoice& choice) {
  const fs::path& model_dir = choice.model_dir;
  const std::string& configured = configured_file(component, choice.config);
  ComponentFiles files;
  files.weights = find_component(model_dir, component, configured, chosen_file(component, choice.files));
  const KnownNames& known = known_names(component);
  if (known.tokenizer_file == nullptr) return files;
  const fs::path folder = folder_of(files.weights);
  for (const fs::path& place : {folder, folder_of(model_dir / configured)}) {
    // The model folder's own config.json is a run's configuration.
    const bool is_model_dir = (place / "").lexically_normal() == (model_dir / "").lexically_normal();
    if (files.config_folder.empty() && !is_model_dir && is_there(place / "config.json")) files.config_folder = place;
  }
  files.tokenizer_folder = find_tokenizer_beside(model_dir, known, configured, folder);
  return files;
}

fs::path tokenizer_folder(Component component, const ModelChoice& choice) {
  return find_tokenizer_beside(choice.model_dir, known_names(component), configured_file(component, choice.config),
                               choice.model_dir);
}

bool is_demo_folder(const fs::path& model_dir) {
  std::error_code absent;
  return fs::equivalent(model_dir, bundled_configs_dir() / "demo", absent);
}

}  // namespace opensora::models
