// What is written beside the video: single frames, a contact sheet. And what the video looks like.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <vector>

#include "core/output_file.h"
#include "media/contact_sheet.h"
#include "opensora/generate.h"
#include "pipeline/suspicious.h"

namespace opensora::pipeline {

// The paths that the request names, before anything is loaded. Throws UsageError, OutputError.
void check_extra_outputs(const GenerateRequest& request, int64_t frames);

// The files get their names by commit_together(), or go again with this object.
class ExtraOutputs {
 public:
  // `request` must outlive this object.
  ExtraOutputs(const GenerateRequest& request, int64_t frames) : request_(request), frames_(frames) {}
  ExtraOutputs(const ExtraOutputs&) = delete;
  ExtraOutputs& operator=(const ExtraOutputs&) = delete;

  // The next frame, uint8 [H, W, 3] on the CPU; with save_frames it is written. Throws OutputError.
  void add(const at::Tensor& rgb);

  // After the last frame: writes the contact sheet. Returns what SuspicionDetector found. Throws OutputError.
  std::string finish();
  // After finish().
  std::vector<StagedFile> staged() const;

 private:
  const GenerateRequest& request_;
  int64_t frames_, next_ = 0;
  std::optional<OutputFolder> saved_;  // the frames as pictures
  std::optional<media::ContactSheet> sheet_;
  std::optional<OutputFile> sheet_file_;
  SuspicionDetector detector_;
};

}  // namespace opensora::pipeline
