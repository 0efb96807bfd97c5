// Small pictures of what a video will be, while it is sampled.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <functional>
#include <memory>

#include "autoencoder/autoencoder.h"
#include "core/file_lock.h"
#include "models/model_set.h"
#include "opensora/generate.h"
#include "pipeline/plan.h"

namespace opensora::pipeline {

// Where they go: "<output's stem>.preview.png".
std::filesystem::path preview_file(const std::filesystem::path& output);

// What the PNG's note says: nobody needs it any more once its lock is free.
inline constexpr const char* kPreviewNote = "preview";

// With the request's preview_every, a PNG of at most 256 pixels on the long edge beside the output: replaced each time,
// and removed with this object. Without it nothing is loaded.
class Preview {
 public:
  // Loads the decoder if previews are wanted. Throws CheckpointError.
  Preview(const GenerateRequest& request, const Plan& plan, models::ModelSet& models);
  ~Preview();
  Preview(const Preview&) = delete;
  Preview& operator=(const Preview&) = delete;

  bool is_wanted() const { return decoder_ != nullptr; }

  // After step `step` of `steps` (1-based). `clean`: makes the estimate of the clean latent, [1, C, T, h, w]; called
  // for every preview_every-th step but the last one. Its middle frame is decoded. A picture that cannot be written is
  // only a warning.
  void after_step(int64_t step, int64_t steps, const std::function<at::Tensor()>& clean);

 private:
  void write(const at::Tensor& latent);

  int64_t every_;
  std::filesystem::path file_;
  FileLock lock_;  // of the file
  bool written_ = false;
  std::shared_ptr<const autoencoder::Autoencoder> decoder_;
};

}  // namespace opensora::pipeline
