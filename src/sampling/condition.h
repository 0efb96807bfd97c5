// What a video is conditioned on besides its text: an image at its start or end, or the frames before or after it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sampling/size.h"

namespace opensora::sampling {

enum class ConditionType {
  kT2V,          // text alone
  kI2VHead,      // an image is the first frame
  kI2VTail,      // an image is the last frame
  kI2VLoop,      // two images: first and last frame
  kV2VHead,      // the video goes on from 33 frames
  kV2VTail,      // the video leads to 33 frames
  kV2VHeadEasy,  // 65 frames
  kV2VTailEasy,
};

// "i2v_head" and so on, the official words. Throws UsageError that lists them.
ConditionType parse_condition_type(const std::string& name);
std::string condition_name(ConditionType type);

bool is_image_condition(ConditionType type);  // i2v
bool is_video_condition(ConditionType type);  // v2v
bool is_at_tail(ConditionType type);          // the reference's last frames count: i2v_tail, v2v_tail…

// Frames that a reference must have: 1, 33, or 65.
int64_t reference_frames(ConditionType type);
// References: none, one, or two for the loop.
int64_t reference_count(ConditionType type);

// Frames that are made where nobody says how many: those of a reference and 16 more.
int64_t usual_frames(ConditionType type);

// Whether a video of so many frames holds its references and anything else. `temporal_reduction`: frames a latent
// frame.
bool has_room(ConditionType type, int64_t frames, int64_t temporal_reduction);
// Throws UsageError that says how many are needed if it does not.
void check_condition_length(ConditionType type, int64_t frames, int64_t temporal_reduction);

// [1, 1 + C, T, H, W], float32, where the references are: a mask of the latent frames that are given, and those frames;
// zero elsewhere.
// `references`: latents of reference_frames() frames, [1, C, t, H, W]. Undefined for text alone.
at::Tensor make_condition(ConditionType type, const std::vector<at::Tensor>& references, const LatentShape& shape);

// Puts an image's latent over the latent frame that it stands for, in place (i2v only; others are left as sampled).
void place_references(ConditionType type, const std::vector<at::Tensor>& references, const at::Tensor& latent);

}  // namespace opensora::sampling
