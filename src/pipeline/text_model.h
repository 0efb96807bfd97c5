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

// config.json's sizes, or those of the weights where there is none. Throw CheckpointError.
text::ClipConfig clip_config(const io::TextEncoderFiles& files, const WeightSource& weights);
text::T5Config t5_config(const io::TextEncoderFiles& files, const WeightSource& weights);

// Throw CheckpointError that names the file: the encoder's width is not what the transformer takes.
void check_clip_width(const io::TextEncoderFiles& files, const text::ClipConfig& config, const MMDiTConfig& model);
void check_t5_width(const io::TextEncoderFiles& files, const text::T5Config& config, const MMDiTConfig& model);

// Throw CheckpointError that names the file: the tokenizer is another model's.
void check_clip_vocabulary(const io::TextEncoderFiles& files, const text::ClipTokenizer& tokenizer,
                           const text::ClipConfig& config);
void check_t5_vocabulary(const io::TextEncoderFiles& files, const text::T5Tokenizer& tokenizer,
                         const text::T5Config& config);

}  // namespace opensora::pipeline
