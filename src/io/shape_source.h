// A checkpoint's names and shapes without its data.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "io/checkpoint.h"

namespace opensora::io {

// Answers with meta tensors of the file's shapes and dtypes: a model that binds to it finds out what is missing or
// mis-shaped, and reads nothing.
class ShapeSource final : public WeightSource {
 public:
  // `tells_names`: whether there is to be a warning about tensors that the model does not ask for.
  explicit ShapeSource(std::shared_ptr<const Checkpoint> checkpoint, bool tells_names = true)
      : checkpoint_(std::move(checkpoint)), tells_names_(tells_names) {}

  std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef) const override {
    if (!contains(name)) return std::nullopt;
    bound_.insert(name);
    const TensorInfo& info = checkpoint_->info(name);
    return at::empty(info.shape, at::TensorOptions(info.dtype).device(at::kMeta));
  }
  bool contains(const std::string& name) const override { return checkpoint_->contains(name); }
  std::vector<std::string> names() const override {
    return tells_names_ ? checkpoint_->names() : std::vector<std::string>();
  }
  std::string description() const override { return checkpoint_->description(); }

  // What has been asked for so far and is there.
  const std::set<std::string>& bound() const { return bound_; }

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  bool tells_names_;
  mutable std::set<std::string> bound_;
};

}  // namespace opensora::io
