// From a text to its ids and embedding: a tokenizer in front of a set's text encoder.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "models/model_set.h"
#include "models/text_sizes.h"

namespace opensora::models {

// Tokens that a text encoder reads, and the width of what it makes: [1, max_length, width] (T5) or [1, width] (CLIP).
int64_t encoder_max_length(Component component, const Config& config);
int64_t encoder_width(Component component, const Config& config);

struct EncodedText {
  at::Tensor ids;     // int64 [1, max_length], on the CPU
  at::Tensor states;  // T5: [1, max_length, width]; CLIP: the pooled vector [1, width]; on the encoder's device
};

// kClip or kT5: loaded and released with this object.
class TextEncoder {
 public:
  // Throws CheckpointError: a file is missing or damaged.
  TextEncoder(Component component, ModelSet& models);
  ~TextEncoder() { models_.release(component_); }
  TextEncoder(const TextEncoder&) = delete;
  TextEncoder& operator=(const TextEncoder&) = delete;

  // A text that is cut gets a warning. Throws UsageError: the text holds a special token that the model has no row for.
  EncodedText operator()(const std::string& text) const;

 private:
  void warn_if_cut(const std::string& text) const;

  Component component_;
  ModelSet& models_;
  Tokenizer tokenizer_;
  int64_t max_length_;
};

}  // namespace opensora::models
