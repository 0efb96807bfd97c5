// Weights: what a checkpoint is, whether a model folder holds all that a run needs, and folders of random numbers, for
// measuring speed and memory where no weights are at hand.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "opensora/config.h"

namespace opensora {

struct CheckpointTensor {
  std::string name;            // as models know it: without a prefix that a training framework put in front
  std::string dtype;           // "BF16", "F32", "F8_E4M3", …; of llama.cpp's blocks "Q8_0", "Q4_K", …
  std::vector<int64_t> shape;  // in elements
  int64_t bytes = 0;
  std::filesystem::path file;  // the shard that holds it
};

struct CheckpointInfo {
  std::filesystem::path path;
  std::vector<std::filesystem::path> files;  // index and shards
  // "Open-Sora transformer", "FLUX transformer", "HunyuanVAE", "DC-AE", "FLUX autoencoder", "TAEHV",
  // "CLIP text encoder", "T5 encoder", "Open-Sora tensors" (what --save-tensors writes) or "unknown".
  std::string kind;
  // What tells one of its kind from another, in order: {"qkv", "separate"}, {"in_channels", "64"}, {"depth", "19"}, …;
  // where matrices are quantised {"weights", "int8 by row"}, {"weights", "Q4_K; Q6_K"}.
  std::vector<std::pair<std::string, std::string>> variant;
  std::map<std::string, int64_t> dtypes;  // tensors of each
  int64_t parameters = 0;                 // elements of all tensors, without the scales of quantised ones
  int64_t bytes = 0;                      // of all tensors, as stored
  std::vector<CheckpointTensor> tensors;  // by name
  std::map<std::string, std::string> metadata;
};

// `path` is a file, an index of shards, or a folder with one model in Hugging Face's layout. Reads names and shapes
// only. Throws CheckpointError: not there, damaged, of a format that cannot be read.
CheckpointInfo inspect(const std::filesystem::path& path);

// All checkpoints in a folder and the folders below it, by path; the shards of an index count as one, which is the
// index.
std::vector<std::filesystem::path> find_checkpoints(const std::filesystem::path& folder);

struct VerifiedFile {
  std::filesystem::path path;
  int64_t bytes = 0;
  std::string sha256;  // hexadecimal; empty unless verify() reads in full
};

struct VerifiedComponent {
  std::string name;            // the configuration's section: "model", "ae", "t5", "clip", "img_flux", "img_flux_ae",
                               // "tiny_ae"
  std::filesystem::path path;  // what a run would open; empty if it was not found
  std::vector<VerifiedFile> files;    // weights, configuration and tokenizer
  int64_t tensors = 0;                // that the model binds
  int64_t parameters = 0;             // of those
  std::vector<std::string> problems;  // one line each
};

struct VerifyReport {
  std::vector<VerifiedComponent> components;
  std::string advice;  // where the sizes are another configuration's: what to do; else empty
  int64_t problems() const;
};

// Binds each model that a run with `config` would load to the names and shapes of its files, opens the tokenizers and
// reads the sizes; loads no weights. With `full` it also reads every tensor (NaN, infinity) and every file (SHA-256),
// and calls `on_file` before each of these. What is wrong is in the report: this throws only what has nothing to do
// with the files.
VerifyReport verify(const std::filesystem::path& model_dir, const Config& config, bool full = false,
                    const std::function<void(const std::filesystem::path& file)>& on_file = {});

struct RandomModelsRequest {
  std::filesystem::path folder;  // made if missing
  Config config;                 // the sizes, and the files' names within the folder
  // Of the files: "fp32", "bf16", "fp16"; "int8", "fp8": the transformer's matrices as quantize() would write them, and
  // all else in bf16.
  std::string dtype = "bf16";
  uint64_t seed = 0;  // the same numbers for the same seed
  bool transformer = true, autoencoder = true;
  bool tiny_autoencoder = false;  // TAEHV, as taehv.safetensors, which has one size
  // Text embeddings of these prompts (with the configuration's suffixes) and of the empty negative prompt, in
  // FOLDER/embeddings, which stand for the text encoders: for generate --text-embeddings.
  std::vector<std::string> prompts;
  bool overwrite = false;
};

// Writes the configuration's transformer and video autoencoder under their official names, and text embeddings; what is
// written needs little memory, whatever its size. Returns the files. Throws UsageError for a dtype that is none,
// OutputError.
std::vector<std::filesystem::path> write_random_models(const RandomModelsRequest& request);

}  // namespace opensora
