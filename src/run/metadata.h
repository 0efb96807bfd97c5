// How a video was made: its request as JSON, the key of its content, and the document that goes with it (what is in
// that: opensora/metadata.h).
#pragma once

#include <nlohmann/json.hpp>

#include "opensora/generate.h"
#include "opensora/metadata.h"
#include "run/checkpoints.h"
#include "run/job.h"

namespace opensora::run {

// The request as JSON, keyed by flag with _ for -: always the same keys in the same order, null where a flag does not
// apply. Given as flags over the same configuration, these values make the same video again. The output, the device,
// threads and everything else that does not change the content are left out. References are paths as they were typed.
nlohmann::ordered_json request_json(const Job& job);

// The configuration in the form that --config takes: a bundled one's name, or a file as it was typed. Null for the
// model folder's own.
nlohmann::ordered_json config_json(const GenerateRequest& request);

// A hash of everything that determines a video's content, as 64 hexadecimal digits: the request (with the content of
// references, not their names), the parts of the configuration that no flag sets, the checkpoints, and the program's
// version.
// Throws InputMediaError for a reference that cannot be read.
std::string content_key(const Job& job, const CheckpointIdentities& checkpoints);

// The document. It contains neither times nor places: the same inputs give the same bytes.
nlohmann::ordered_json video_metadata(const Job& job, const CheckpointIdentities& checkpoints);

// Notes in the job what its video is made with, for the output and for the latent's file. Call it after
// settle_output().
void settle_metadata(Job& job, const CheckpointIdentities& checkpoints);

// Where --sidecar puts the document, on one line: "sea.mp4" -> "sea.json", in the same folder.
std::filesystem::path sidecar_file(const std::filesystem::path& output);

}  // namespace opensora::run
