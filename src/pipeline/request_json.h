// A request as JSON: all that determines a video's content, by effective value.
#pragma once

#include <nlohmann/json.hpp>

#include "opensora/generate.h"
#include "pipeline/identity.h"
#include "pipeline/plan.h"

namespace opensora::pipeline {

// Keyed by flag, with _ for -; always the same keys in the same order, null where a flag was not needed. As flags over
// the same configuration these values make the same video. Not in it: the output, the device, threads and all else that
// changes no content. References are paths as they were typed.
nlohmann::ordered_json request_json(const GenerateRequest& request, const Plan& plan);

// The configuration as it can be given to --config again: a bundled one's name, a file as typed; null for the model
// folder's own.
nlohmann::ordered_json config_json(const GenerateRequest& request);

// A hash of all that determines a video's content: the request, of references their content and not their names; what
// of the configuration no flag sets; the checkpoints; the program's version. 64 hexadecimal digits.
// Throws InputMediaError for a reference that cannot be read.
std::string content_key(const GenerateRequest& request, const Plan& plan, const CheckpointIdentities& checkpoints);

}  // namespace opensora::pipeline
