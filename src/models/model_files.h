// Which models a run takes, and where a model folder keeps them: the configured names, and those that the community
// gives the same files.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "opensora/config.h"
#include "opensora/error.h"
#include "opensora/generate.h"

namespace opensora::models {

// Thrown where a component has no weights. what() says what was looked for.
class MissingComponentError : public CheckpointError {
 public:
  MissingComponentError(const std::string& message, std::string line)
      : CheckpointError(message), line_(std::move(line)) {}
  // A line for a list of all that is missing: the file, its size, and where it comes from.
  const std::string& line() const noexcept { return line_; }

 private:
  std::string line_;
};

// The part of a request that says which models it uses.
struct ModelChoice {
  std::filesystem::path model_dir;
  Config config;
  ModelFiles files = {};  // given one by one, in place of what the configuration says
};

// `request` may be of any type that has these three members.
template <typename Request>
ModelChoice choice_of(const Request& request) {
  return {request.model_dir, request.config, request.files};
}

// The configuration's section: "model", "ae", "clip", "t5", "img_flux", "img_flux_ae"; and "tiny_ae", which none has.
const char* component_name(Component component);
// For messages about text encoders: "CLIP", "T5".
const char* encoder_name(Component component);

// The file or folder that the configuration names. kImgFlux and kImgFluxAe need config.text_to_image.
const std::string& configured_file(Component component, const Config& config);
// The file or folder that somebody has chosen instead; empty: none. There is no choice of kTinyAe.
const std::filesystem::path& chosen_file(Component component, const ModelFiles& files);

// What Checkpoint::open() takes for a component: `chosen` if it is given (a file or folder, as it is, and nothing else
// is tried), else the first that is there of model_dir / `configured`, its index of shards, the community's names for
// it ("t5xxl_fp16.safetensors", "text_encoder_2", "ae.safetensors", …), and a GGUF file that is called after it
// ("Open_Sora_v2-Q8_0.gguf", "t5-v1_1-xxl-encoder-Q5_K_M.gguf").
// Throws MissingComponentError that lists all that was tried, CheckpointError where there are several GGUF files.
std::filesystem::path find_component(const std::filesystem::path& model_dir, Component component,
                                     const std::string& configured, const std::filesystem::path& chosen = {});

struct ComponentFiles {
  std::filesystem::path weights;  // as find_component() gives them
  // Only for text encoders:
  std::filesystem::path config_folder;     // holds config.json; empty: there is none, the weights' shapes must do
  std::filesystem::path tokenizer_folder;  // holds the tokenizer's files; where there are none, the configured folder
};

// Whether previews can be decoded by TAEHV: "taehv.safetensors" or "taehv.pth" is in the model folder, and the
// configuration's latents are HunyuanVAE's.
bool has_tiny_autoencoder(const ModelChoice& choice);

// A text encoder's config.json is that of the weights' folder, or else that of the configured folder; its tokenizer is
// looked for in the configured folder, beside the weights, and in a FLUX folder's "tokenizer" and "tokenizer_2".
// Throws MissingComponentError if there are no weights.
ComponentFiles locate(Component component, const ModelChoice& choice);
// The folder of a text encoder's tokenizer, for callers that need no weights.
std::filesystem::path tokenizer_folder(Component component, const ModelChoice& choice);

// Whether it is the bundled demo model's folder.
bool is_demo_folder(const std::filesystem::path& model_dir);

}  // namespace opensora::models
