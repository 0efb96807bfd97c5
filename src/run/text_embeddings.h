// Text embeddings as files: what encode-text writes and generate reads instead of running the text encoders.
//
// One safetensors file a text:
//   t5 [1, L, C], clip [1, C]   as the encoder made them, in the dtype that it ran in; either may be absent
//   t5_ids, clip_ids [1, L]     int64, padded
//   metadata                    schema_version, program_version, text, and for each encoder in the file
//                               <key>_identity, <key>_max_length, <key>_dtype (<key>: "t5", "clip")
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "models/text_encoder.h"

namespace opensora::run {

// "raining-sea-0f8a6b9c2d7e4a51.safetensors": the text's first words and 16 digits of its SHA-256, so that a text is
// found without opening other files. `encoders` are those in the file. The key of a single one precedes the suffix
// (".t5.safetensors"), so that T5's and CLIP's embeddings can be made in separate runs.
std::string embedding_file_name(const std::string& text, const std::vector<Component>& encoders);

// What a stored embedding must agree with to be used.
struct ExpectedEmbedding {
  int64_t max_length = 0;  // tokens
  int64_t width = 0;
  std::string identity = {};                 // encoder_identity(); empty: any, and then that of the first that is read
  std::filesystem::path identity_file = {};  // whose identity that is, for messages
};

// What each encoder has made of a text.
using EncodedParts = std::map<Component, models::EncodedText>;
// encoder_identity() of each encoder in `parts`.
using EncoderIdentities = std::map<Component, std::string>;
// Throws OutputError as save_safetensors() does.
void save_embedding(const std::filesystem::path& file, const std::string& text, const EncodedParts& parts,
                    const EncoderIdentities& identities, bool overwrite);

// The text whose embeddings a file holds. Throws CheckpointError, which names the file, if it is missing, damaged, or
// not written by encode-text.
std::string embedded_text(const std::filesystem::path& file);

// The encoder's part of `file`, on the CPU and not mapped from it; nullopt if it holds another text or nothing of this
// encoder. Throws CheckpointError, which names the file, if it is damaged, not written by encode-text, or not as
// `expected`.
std::optional<models::EncodedText> read_embedding(const std::filesystem::path& file, const std::string& text,
                                                  Component component, ExpectedEmbedding& expected);

// The same from the first of `sources` that holds it: folders, in which it is found by name, or single files. Throws
// CheckpointError also if one of `sources` does not exist.
std::optional<models::EncodedText> find_embedding(const std::vector<std::filesystem::path>& sources,
                                                  const std::string& text, Component component,
                                                  ExpectedEmbedding& expected);

}  // namespace opensora::run
