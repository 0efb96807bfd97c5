// Which autoencoder a run of reconstruct uses.
#pragma once

#include <memory>

#include "autoencoder/autoencoder.h"
#include "io/checkpoint.h"
#include "opensora/reconstruct.h"

namespace opensora::pipeline {

struct AutoencoderFile {
  std::shared_ptr<const io::Checkpoint> checkpoint;
  autoencoder::AutoencoderKind kind;
  autoencoder::AutoencoderConfig config;  // of that kind, with the request's tiling
};

// Reads no weights. Throws UsageError if the configuration lacks what the request chooses, CheckpointError if there is
// no file, it is damaged, it holds no autoencoder, or one that lacks tensors or has some of another shape.
AutoencoderFile find_autoencoder(const ReconstructRequest& request);

}  // namespace opensora::pipeline
