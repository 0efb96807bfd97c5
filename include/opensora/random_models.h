// Model folders of random numbers: for measuring speed and memory where no weights are at hand.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "opensora/config.h"

namespace opensora {

struct RandomModelsRequest {
  std::filesystem::path folder;  // made if missing
  Config config;                 // the sizes, and the files' names within the folder
  std::string dtype = "bf16";    // of the files: "fp32", "bf16", "fp16"
  uint64_t seed = 0;             // the same numbers for the same seed
  bool transformer = true, autoencoder = true;
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
