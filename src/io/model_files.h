// Where a model folder keeps what: the configured names, and those that the community gives the same files.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "opensora/error.h"

namespace opensora::io {

// There are no weights for a component. what() says what was looked for.
class MissingComponentError : public CheckpointError {
 public:
  MissingComponentError(const std::string& message, std::string line)
      : CheckpointError(message), line_(std::move(line)) {}
  // For a list of all that is missing: the file, its size, and where it comes from.
  const std::string& line() const noexcept { return line_; }

 private:
  std::string line_;
};

enum class Component { kModel, kAe, kT5, kClip, kImgFlux, kImgFluxAe };

// The configuration's section: "model", "ae", "t5", "clip", "img_flux", "img_flux_ae".
const char* component_name(Component component);

// What Checkpoint::open() takes for a component: `chosen` if it is given (a file or folder, as it is, and nothing else
// is tried), else the first that is there of model_dir / `configured`, its index of shards, and the community's names
// for it ("t5xxl_fp16.safetensors", "text_encoder_2", "ae.safetensors", …).
// Throws MissingComponentError that lists all that was tried.
std::filesystem::path find_component(const std::filesystem::path& model_dir, Component component,
                                     const std::string& configured, const std::filesystem::path& chosen = {});

struct TextEncoderFiles {
  std::filesystem::path weights;           // as find_component() gives them
  std::filesystem::path config_folder;     // holds config.json; empty: there is none, the weights' shapes must do
  std::filesystem::path tokenizer_folder;  // holds the tokenizer's files; where there are none, the configured folder
};

// `component` is kT5 or kClip. config.json is that of the weights' folder, or else that of the configured folder; the
// tokenizer is looked for in the configured folder, beside the weights, and in a FLUX folder's "tokenizer" and
// "tokenizer_2". Throws CheckpointError if there are no weights.
TextEncoderFiles find_text_encoder(const std::filesystem::path& model_dir, Component component,
                                   const std::string& configured, const std::filesystem::path& chosen = {});
// The tokenizer alone, for those who need no weights.
std::filesystem::path find_tokenizer(const std::filesystem::path& model_dir, Component component,
                                     const std::string& configured);

}  // namespace opensora::io
