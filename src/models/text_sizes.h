// What text encoders are made of, and whether their parts fit each other.
#pragma once

#include <filesystem>
#include <variant>

#include "core/weights.h"
#include "models/model_files.h"
#include "opensora/config.h"
#include "text/clip_tokenizer.h"
#include "text/encoder_config.h"
#include "text/t5_tokenizer.h"

namespace opensora::models {

// Of one encoder, the other's are the published ones.
struct TextSizes {
  text::ClipConfig clip;
  text::T5Config t5;
};

// config.json's sizes, or those of the weights where there is none; for components that are no text encoder the
// published ones. Throws CheckpointError: also where config.json has another number of layers than the weights.
TextSizes read_text_sizes(Component component, const ComponentFiles& files, const WeightSource& weights);

// For a configuration without files: its widths, in the proportions of T5-XXL and CLIP-L. Where the widths are theirs,
// these are the published sizes.
TextSizes proportioned_text_sizes(const Config& config);

using Tokenizer = std::variant<text::ClipTokenizer, text::T5Tokenizer>;
// Throws CheckpointError.
Tokenizer open_tokenizer(Component component, const std::filesystem::path& folder);

// Throws CheckpointError that names the file: the encoder's width is not what the transformer takes, or (CLIP) it has
// fewer positions than tokens are read.
void check_text_sizes(Component component, const ComponentFiles& files, const TextSizes& sizes, const Config& config);

// Throws CheckpointError that names the file: the tokenizer is another model's.
void check_vocabulary(const ComponentFiles& files, const Tokenizer& tokenizer, const TextSizes& sizes);

}  // namespace opensora::models
