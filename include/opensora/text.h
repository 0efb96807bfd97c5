// Texts: the tokens that the text encoders read, and embeddings made ahead of time, so that a machine without room for
// T5 can make videos.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "opensora/config.h"
#include "opensora/generate.h"

namespace opensora {

struct TokenizedText {
  std::vector<int64_t> ids;         // CLIP: padded to its length; T5: without padding
  std::vector<std::string> pieces;  // of each id but padding, as the vocabulary spells it: "panda</w>", "▁panda" (T5)
  size_t total = 0;                 // tokens of the whole text, special ones counted
  // The first few words that are not read, on one line, as the encoder would read them (CLIP: fixed and in lower case);
  // nullopt: all of it is read.
  std::optional<std::string> cut_before;
};

struct TokenizedPrompt {
  TokenizedText clip, t5;
};

// `text` (UTF-8) as it is, without the suffixes that generate() adds. Folders and lengths are the configuration's.
// Throws UsageError for invalid UTF-8, CheckpointError for a tokenizer file that is missing or damaged.
TokenizedPrompt tokenize(const std::string& text, const std::filesystem::path& model_dir, const Config& config);

struct EncodeTextRequest {
  std::vector<std::string> texts;  // UTF-8, each encoded exactly as it is; see embedded_texts(). Equal ones count once
  std::filesystem::path model_dir;
  Config config;
  ModelFiles files;             // t5xxl and clip_l count
  bool t5 = true, clip = true;  // which encoders; only these are loaded

  std::string device = "auto";  // as GenerateRequest's
  std::string dtype;
  int threads = 0;

  std::filesystem::path output_dir;  // made if it is not there, in a folder that is
  bool overwrite = false;            // false: files that are there and fit are kept, and not encoded again
};

struct EncodedTextFile {
  std::string text;
  std::filesystem::path file;
  bool kept = false;  // it was there
};

struct EncodeTextResult {
  std::vector<EncodedTextFile> files;  // one a distinct text, in order
  std::string device, dtype;
  std::vector<std::pair<std::string, double>> seconds;  // by stage: "clip", "t5"
  int64_t peak_resident_bytes = 0, peak_device_bytes = 0;
};

// The texts that generate() looks for, given this prompt: with the suffixes of the configuration's fps and motion
// score; the negative prompt; and the bare prompt, which FLUX reads and which is also the text exactly as given.
std::vector<std::string> embedded_texts(const std::string& prompt, const std::string& negative_prompt,
                                        const Config& config);

// Writes one safetensors file a text into request.output_dir, each as soon as it is made; its name follows from the
// text. Stages of `progress`: "clip", "t5", in texts.
// Throws UsageError (a text is not UTF-8; no encoder is asked for), CheckpointError, DeviceError, OutOfMemoryError,
// OutputError (a file of that name holds something else and not `overwrite`; the folder cannot be written).
EncodeTextResult encode_text(const EncodeTextRequest& request, const ProgressCallback& progress = {});

}  // namespace opensora
