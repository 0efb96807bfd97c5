// Loading the models of a run: which file, bound to which device and dtype.
#pragma once

#include <memory>

#include "autoencoder/autoencoder.h"
#include "diffusion/mmdit.h"
#include "opensora/generate.h"
#include "pipeline/plan.h"

namespace opensora::pipeline {

// The models of a run. Each is loaded when it is asked for, and released when whoever asked lets go of it; with the
// request's keep_models it stays until this object goes, and is not loaded twice.
// All throw CheckpointError: no file, damaged, of another kind, or tensors missing or mis-shaped.
class Models {
 public:
  // Both must outlive this object.
  Models(const GenerateRequest& request, const Plan& plan) : request_(request), plan_(plan) {}

  std::shared_ptr<const diffusion::MMDiT> video_transformer();
  std::shared_ptr<const diffusion::MMDiT> image_transformer();
  std::shared_ptr<const autoencoder::Autoencoder> video_autoencoder(autoencoder::Half half);
  std::shared_ptr<const autoencoder::Autoencoder> image_autoencoder();

 private:
  const GenerateRequest& request_;
  const Plan& plan_;
  std::shared_ptr<const diffusion::MMDiT> video_transformer_, image_transformer_;
  std::shared_ptr<const autoencoder::Autoencoder> video_autoencoder_, image_autoencoder_;
};

// Finds every file that the run will load, so that a missing one is reported before the first is read.
void check_model_files(const GenerateRequest& request);

}  // namespace opensora::pipeline
