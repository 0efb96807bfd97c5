// What the text encoders of a run are made of, and whether the parts fit each other: for the run itself and for verify.
#pragma once

#include <filesystem>

#include "core/weights.h"
#include "io/model_files.h"
#include "opensora/config.h"
#include "text/clip_tokenizer.h"
#include "text/encoder_config.h"
#include "text/t5_tokenizer.h"

namespace opensora::pipeline {

// config.json's sizes, or those of the weights where there is none. Throw CheckpointError: also where config.json has
// another number of layers than the weights.
text::ClipConfig clip_config(const io::TextEncoderFiles& files, const WeightSource& weights);
text::T5Config t5_config(const io::TextEncoderFiles& files, const WeightSource& weights);

// Throw CheckpointError that names the file: the encoder's width is not what the transformer takes, or (CLIP) it has
// fewer positions than tokens are read.
void check_clip_sizes(const io::TextEncoderFiles& files, const text::ClipConfig& sizes, const Config& config);
void check_t5_sizes(const io::TextEncoderFiles& files, const text::T5Config& sizes, const Config& config);

// Throw CheckpointError that names the file: the tokenizer is another model's.
void check_clip_vocabulary(const io::TextEncoderFiles& files, const text::ClipTokenizer& tokenizer,
                           const text::ClipConfig& config);
void check_t5_vocabulary(const io::TextEncoderFiles& files, const text::T5Tokenizer& tokenizer,
                         const text::T5Config& config);

// Throws UsageError: the text holds a special token that the encoder's table has no row for.
void check_ids(const text::Tokens& tokens, int64_t vocab_size, const char* encoder);

}  // namespace opensora::pipeline
