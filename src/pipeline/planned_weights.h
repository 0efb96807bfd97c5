// What models are bound to where a run is only planned: names and shapes without data.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/weights.h"
#include "io/checkpoint.h"
#include "io/model_files.h"
#include "opensora/generate.h"

namespace opensora::pipeline {

// Whether the configuration is for published weights, or a bundled one, and the model folder lacks some of its weights.
bool lacks_weights(const GenerateRequest& request);

// The dtype in which a component is published.
at::ScalarType published_dtype(io::Component component);

// Answers with tensors on the meta device that take no memory of their own, and adds up what was asked for.
class PlannedWeights final : public WeightSource {
 public:
  // `checkpoint`'s names, shapes and dtypes. nullptr: the weights are not here, and the published ones are taken to be
  // what a model asks for (the tests compare that with their lists of tensors), in the dtype `published`.
  // `held`: the dtype in which the device holds them; nullopt: as stored.
  PlannedWeights(std::shared_ptr<const io::Checkpoint> checkpoint, at::ScalarType published,
                 std::optional<at::ScalarType> held)
      : checkpoint_(std::move(checkpoint)), published_(published), held_(held) {}

  std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef expected_shape) const override;
  bool contains(const std::string& name) const override { return !checkpoint_ || checkpoint_->contains(name); }
  std::vector<std::string> names() const override { return {}; }  // unused tensors are generate()'s business
  std::string description() const override { return checkpoint_ ? checkpoint_->description() : "published weights"; }

  // Of all that has been asked for; of the blocks, which may be streamed.
  int64_t stored_bytes() const { return stored_bytes_; }
  int64_t block_bytes() const { return block_bytes_; }
  int64_t elements() const { return elements_; }
  // In memory.
  int64_t weight_bytes() const { return weight_bytes_; }

 private:
  std::shared_ptr<const io::Checkpoint> checkpoint_;
  at::ScalarType published_;
  std::optional<at::ScalarType> held_;
  mutable int64_t stored_bytes_ = 0, weight_bytes_ = 0, block_bytes_ = 0, elements_ = 0;
};

}  // namespace opensora::pipeline
