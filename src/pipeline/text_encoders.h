// The two text encoders: from a text to its ids and embedding.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_files.h"
#include "opensora/config.h"

namespace opensora::pipeline {

enum class TextEncoderKind { kClip, kT5 };

const char* encoder_name(TextEncoderKind kind);  // "CLIP", "T5": for messages
const char* encoder_key(TextEncoderKind kind);   // "clip", "t5": the configuration's section, and tensors of embeddings

io::Component encoder_component(TextEncoderKind kind);

struct TextStageOptions {
  std::filesystem::path model_dir;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  std::filesystem::path t5_weights = {}, clip_weights = {};  // file or folder; empty: found in model_dir
  // Folders and files that encode-text wrote, searched in this order: what they hold is not encoded.
  std::vector<std::filesystem::path> embeddings = {};
  // Told of each encoder that is loaded, "clip" or "t5", and how long it took.
  std::function<void(std::string_view encoder, double seconds)> on_load = {};
};

// Where the encoder's files are. Throws CheckpointError if there are no weights.
io::TextEncoderFiles find_encoder(TextEncoderKind kind, const Config& config, const TextStageOptions& options);

// Of the encoder's weights and tokenizer: see identity_of(). Throws CheckpointError.
std::string encoder_identity(const io::TextEncoderFiles& files);

// Tokens that the encoder reads, and the width of what it makes: [1, max_length, width] (T5) or [1, width] (CLIP).
int64_t encoder_max_length(TextEncoderKind kind, const Config& config);
int64_t encoder_width(TextEncoderKind kind, const Config& config);

struct EncodedText {
  at::Tensor ids;     // int64 [1, max_length], on the CPU
  at::Tensor states;  // T5: [1, max_length, width]; CLIP: the pooled vector [1, width]; on the encoder's device
};

// A loaded encoder, for any number of texts; it is released with the last copy. A text that is cut gets a warning.
using EncodeText = std::function<EncodedText(const std::string& text)>;

// Throws CheckpointError: a file is missing, damaged, or of another model than its neighbours.
EncodeText load_text_encoder(TextEncoderKind kind, const Config& config, const TextStageOptions& options);

}  // namespace opensora::pipeline
