// The checkpoints of a run: how its models take them, whether they are there and fit, and which they are.
#pragma once

#include <string>
#include <vector>

#include "models/model_files.h"
#include "models/model_set.h"
#include "opensora/generate.h"
#include "run/job.h"

namespace opensora::run {

using models::Tokenizers;

struct CheckpointIdentity {
  std::string component;  // the configuration's section: "model", "ae", "t5", …
  std::string file;       // within the model folder, else the file's name alone
  std::string identity;   // 64 hexadecimal digits
};
using CheckpointIdentities = std::vector<CheckpointIdentity>;

// SHA-256 over, for each file in turn: its size, its header (safetensors; else the first 4 KiB), and 64 blocks of
// 4 KiB that lie evenly over the rest, the last one at its end. Tells checkpoints apart at the cost of a glance: a
// change within a few bytes may pass unseen. Throws CheckpointError for a file that cannot be read.
std::string identity_of(const std::vector<std::filesystem::path>& files);

// Of a text encoder's weights and tokenizer. Throws CheckpointError.
std::string encoder_identity(const models::ComponentFiles& files);

// Of all checkpoints that the request uses, in a fixed order; those of text encoders include the tokenizer's files.
// To be computed once a run. Throws CheckpointError for files that are missing or cannot be read.
CheckpointIdentities identify_checkpoints(const GenerateRequest& request);

// From files, for one video.
models::SetOptions set_options(const Job& job);

// Finds and opens every file that the request will load and compares all names and shapes with the models': see
// check_models(). `encodes_pictures`: the video autoencoder's encoder is needed, too. Where embeddings are given the
// text encoders are check_texts()' business. Returns the tokenizers that it has read. Throws CheckpointError.
Tokenizers check_model_files(const GenerateRequest& request, bool encodes_pictures);

// Whether the configuration is for published weights, or a bundled one, and the model folder lacks some of its weights.
bool lacks_weights(const GenerateRequest& request);

}  // namespace opensora::run
