// What a video was made with: the JSON document in its comment tag, or in a .json file beside it.
//
// {"schema_version": 1, "program": "opensora", "version": …, "request": {flag with _ for -: effective value, …},
//  "effective_prompt": …, "seed": …, "config": …, "checkpoints": {component: {"file": …, "identity": …}, …}}
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "opensora/generate.h"

namespace opensora {

// The flags that make a video again: long name without dashes -> text; several values of one follow each other;
// switches are "true" or "false". `file` is a video with such a document, or a .json file that is one.
// Throws UsageError for a file without one, or with one of another program or a newer schema_version; InputMediaError
// for a video that cannot be read.
std::vector<std::pair<std::string, std::string>> read_request_flags(const std::filesystem::path& file);

// The same of a document that is at hand; `place` names it in messages.
std::vector<std::pair<std::string, std::string>> parse_request_flags(const std::string& document,
                                                                     const std::string& place);

// What the file says about the video that its latent belongs to, as read_request_flags() does; empty for a latent
// without metadata, such as --save-tensors writes. Throws CheckpointError for a file that holds no latent, UsageError
// for metadata that cannot be used.
std::vector<std::pair<std::string, std::string>> read_latent_flags(const std::filesystem::path& latent);

// The document's "request" for a request that has not run: a JSON object in text. Its seed is null if none is set.
// Throws as generate() does for a request that cannot be run.
std::string effective_values(const GenerateRequest& request);

// Which file set what in a configuration: "sampling_option.num_steps" -> the file, or one of its _base_.
// Throws UsageError as load_config() does.
std::map<std::string, std::filesystem::path> config_origins(const std::filesystem::path& file);

}  // namespace opensora
