// From a saved latent to a video: the second half of generate(), again or elsewhere.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "opensora/generate.h"

namespace opensora {

// What the file says about the video that its latent belongs to, as read_request_flags() does; empty for a latent
// without metadata, such as --save-tensors writes. Throws CheckpointError for a file that holds no latent, UsageError
// for metadata that cannot be used.
std::vector<std::pair<std::string, std::string>> read_latent_flags(const std::filesystem::path& latent);

// Decodes and writes. Of the request count the autoencoder, the machine and the output; the size comes from the latent,
// and so does the number of frames where the request's does not fit it. The latent's file stays.
// Throws as generate(); UsageError for a latent that the configuration's autoencoder cannot decode.
GenerateResult decode(const std::filesystem::path& latent, const GenerateRequest& request,
                      const ProgressCallback& progress = {});

}  // namespace opensora
