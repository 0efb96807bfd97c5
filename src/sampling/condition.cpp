#include "sampling/condition.h"

#include <algorithm>

#include "core/text.h"
#include "opensora/error.h"
#include "sampling/size.h"

namespace opensora {

const std::vector<std::string>& condition_types() {
  // In the order of ConditionType.
  static const std::vector<std::string> types = {"t2v",      "i2v_head", "i2v_tail",      "i2v_loop",
                                                 "v2v_head", "v2v_tail", "v2v_head_easy", "v2v_tail_easy"};
  return types;
}

namespace sampling {
namespace {

bool is_easy(ConditionType type) { return type == ConditionType::kV2VHeadEasy || type == ConditionType::kV2VTailEasy; }

// Latent frames that one reference gives.
int64_t given_latent_frames(ConditionType type) { return is_video_condition(type) ? (is_easy(type) ? 17 : 9) : 1; }

int64_t all_given(ConditionType type) { return given_latent_frames(type) * reference_count(type); }

}  // namespace

ConditionType parse_condition_type(const std::string& name) {
  const std::vector<std::string>& known = condition_types();
  const auto found = std::find(known.begin(), known.end(), name);
  if (found != known.end()) return static_cast<ConditionType>(found - known.begin());
  throw UsageError("`cond_type`: expected one of " + join_names(known) + ", found \"" + name + "\"" +
                   did_you_mean(name, known));
}

std::string condition_name(ConditionType type) { return condition_types()[static_cast<size_t>(type)]; }

bool is_image_condition(ConditionType type) {
  return type == ConditionType::kI2VHead || type == ConditionType::kI2VTail || type == ConditionType::kI2VLoop;
}

bool is_video_condition(ConditionType type) { return type != ConditionType::kT2V && !is_image_condition(type); }

bool is_at_tail(ConditionType type) {
  return type == ConditionType::kI2VTail || type == ConditionType::kV2VTail || type == ConditionType::kV2VTailEasy;
}

int64_t reference_frames(ConditionType type) {
  if (is_video_condition(type)) return is_easy(type) ? 65 : 33;
  return 1;
}

int64_t reference_count(ConditionType type) {
  if (type == ConditionType::kT2V) return 0;
  return type == ConditionType::kI2VLoop ? 2 : 1;
}

int64_t usual_frames(ConditionType type) { return reference_frames(type) + 16; }

bool has_room(ConditionType type, int64_t frames, int64_t temporal_reduction) {
  return latent_frames(frames, temporal_reduction) > all_given(type);
}

void check_condition_length(ConditionType type, int64_t frames, int64_t temporal_reduction) {
  if (has_room(type, frames, temporal_reduction)) return;
  const int64_t given = all_given(type);
  const std::string filled = is_video_condition(type) ? std::to_string(reference_frames(type)) + " frames of the video"
                             : given == 1             ? "an image"
                                                      : "two images";
  throw UsageError("`num_frames` " + std::to_string(frames) + ": " + condition_name(type) + " is given " + filled +
                   ", which leaves no frame to make; give `num_frames` " + std::to_string(usual_frames(type)) +
                   " (at least " + std::to_string(given * temporal_reduction + 1) + ", with those that are given)");
}

at::Tensor make_condition(ConditionType type, const std::vector<at::Tensor>& references, const LatentShape& shape) {
  if (type == ConditionType::kT2V) return {};
  const int64_t given = given_latent_frames(type);
  at::Tensor condition = at::zeros({1, 1 + shape.channels, shape.frames, shape.height, shape.width},
                                   references.front().options().dtype(at::kFloat));
  const auto put = [&](const at::Tensor& latent, int64_t at) {
    const at::Tensor part = condition.narrow(2, at, given);
    part.select(1, 0).fill_(1);
    part.slice(1, 1).copy_(latent);
  };
  put(references.front(), is_at_tail(type) ? shape.frames - given : 0);
  if (type == ConditionType::kI2VLoop) put(references.back(), shape.frames - given);
  return condition;
}

void place_references(ConditionType type, const std::vector<at::Tensor>& references, const at::Tensor& latent) {
  if (!is_image_condition(type)) return;
  const int64_t last = latent.size(2) - 1;
  latent.narrow(2, is_at_tail(type) ? last : 0, 1).copy_(references.front());
  if (type == ConditionType::kI2VLoop) latent.narrow(2, last, 1).copy_(references.back());
}

}  // namespace sampling
}  // namespace opensora
