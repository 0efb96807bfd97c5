// A checkpoint's names, shapes and dtypes without its data.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint.h"

namespace opensora::io {

// A model that binds to it finds out what is missing or mis-shaped, and reads nothing.
class HeaderSource final : public MetaSource {
 public:
  // `tells_names`: whether there is to be a warning about tensors that the model does not ask for.
  explicit HeaderSource(std::shared_ptr<const Checkpoint> checkpoint, bool tells_names = true)
      : checkpoint_(std::move(checkpoint)), tells_names_(tells_names) {}

  bool contains(const std::string& name) const override { return checkpoint_->contains(name); }
  std::vector<std::string> names() const override {
    return tells_names_ ? checkpoint_->names() : std::vector<std::string>();
  }
  std::string description() const override { return checkpoint_->description(); }

 private:
  Entry entry(const std::string& name, at::IntArrayRef /*expected_shape*/) const override {
    const TensorInfo& info = checkpoint_->info(name);
    return {name, info.shape, info.dtype};
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  bool tells_names_;
};

}  // namespace opensora::io
