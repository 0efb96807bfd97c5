// The text encoders of a run: what they are made of, whether their parts fit each other, and from a text to its
// embedding.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <string>
#include <variant>

#include "core/weights.h"
#include "models/model_files.h"
#include "opensora/config.h"
#include "text/encoder_config.h"
#include "text/tokenizers.h"

namespace opensora::models {

class ModelSet;

// The sizes of one encoder; those of the other are the published ones.
struct TextSizes {
  text::ClipConfig clip;
  text::T5Config t5;
};

// The sizes in config.json, or those of the weights where there is none; for components that are no text encoders, the
// published ones. Throws CheckpointError, among others if config.json has another number of layers than the weights.
TextSizes read_text_sizes(Component component, const ComponentFiles& files, const WeightSource& weights);

// The sizes for a configuration without files: its widths, in the proportions of T5-XXL and CLIP-L. Where the widths
// are theirs, these are the published sizes.
TextSizes proportioned_text_sizes(const Config& config);

using Tokenizer = std::variant<text::ClipTokenizer, text::T5Tokenizer>;
using Tokenizers = std::map<Component, Tokenizer>;
// Reads the tokenizer's files. Throws CheckpointError.
Tokenizer open_tokenizer(Component component, const std::filesystem::path& folder);

// Throws CheckpointError that names the file if the encoder's width is not what the transformer takes, or if it (CLIP)
// has fewer positions than tokens are read.
void check_text_sizes(Component component, const ComponentFiles& files, const TextSizes& sizes, const Config& config);

// Throws CheckpointError that names the file if the tokenizer belongs to another model.
void check_vocabulary(const ComponentFiles& files, const Tokenizer& tokenizer, const TextSizes& sizes);

// How many tokens a text encoder reads, and the width of what it makes: [1, max_length, width] (T5) or [1, width]
// (CLIP).
int64_t encoder_max_length(Component component, const Config& config);
int64_t encoder_width(Component component, const Config& config);

struct EncodedText {
  at::Tensor ids;     // int64 [1, max_length], on the CPU
  at::Tensor states;  // T5: [1, max_length, width]; CLIP: the pooled vector [1, width]; on the encoder's device
};

// A tokenizer and its text encoder, kClip or kT5, whose model is loaded and released with this object.
class TextEncoder {
 public:
  // Throws CheckpointError if a file is missing or damaged.
  TextEncoder(Component component, ModelSet& models);
  ~TextEncoder();
  TextEncoder(const TextEncoder&) = delete;
  TextEncoder& operator=(const TextEncoder&) = delete;

  // Warns if the text is cut. Throws UsageError if it holds a special token for which the model has no row.
  EncodedText operator()(const std::string& text) const;

 private:
  void warn_if_cut(const std::string& text) const;

  Component component_;
  ModelSet& models_;
  Tokenizer tokenizer_;
  int64_t max_length_;
};

}  // namespace opensora::models
