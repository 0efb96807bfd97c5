// The document about a video's making. What is in it: opensora/metadata.h.
#pragma once

#include <nlohmann/json.hpp>

#include "opensora/metadata.h"
#include "pipeline/identity.h"
#include "pipeline/plan.h"

namespace opensora::pipeline {

// No time and no place in it: the same inputs give the same bytes.
nlohmann::ordered_json video_metadata(const GenerateRequest& request, const Plan& plan,
                                      const CheckpointIdentities& checkpoints);

// "sea.mp4" -> "sea.json", in the same folder: the document on one line.
std::filesystem::path sidecar_file(const std::filesystem::path& output);

}  // namespace opensora::pipeline
