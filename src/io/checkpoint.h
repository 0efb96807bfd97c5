// A model's tensors by name, from one file or from shards, in safetensors or in PyTorch's own format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/weights.h"
#include "io/quantized_layout.h"
#include "io/tensor_file.h"

namespace opensora::io {

class Checkpoint final : public WeightSource {
 public:
  // `path` is a file (safetensors, GGUF, or PyTorch's .bin, .pt, .pth, .ckpt), an index of shards ("*.index.json"), or
  // a folder in Hugging Face's layout: see weights_in(). Maps the files and checks their lists of tensors; reads no
  // tensor's data but the notes on quantised ones: see quantized_layout(). Names of a model that is known, behind any
  // prefix ("module.", "model.diffusion_model.", "net.", …), are known without it; of several copies the most complete
  // is taken, of equal ones a moving average ("ema."). Throws CheckpointError: nothing there (what was looked for, and
  // where), a damaged file, a file of something else than tensors of a whole model (an adapter, quantised weights that
  // cannot be read, another program's format: says what), shards that are missing or lack tensors that the index
  // promises (all of them are listed).
  static std::shared_ptr<const Checkpoint> open(const std::filesystem::path& path);

  // A view of the file, whatever shape is expected: see TensorFile::tensor. What is quantised is dequantised to
  // float32.
  std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef expected_shape) const override;
  // Throws CheckpointError for scales that are NaN or infinite.
  std::optional<QuantizedTensor> quantized(const std::string& name, at::IntArrayRef expected_shape) const override;
  bool contains(const std::string& name) const override { return holders_.contains(name); }
  // Without what belongs to quantised tensors, those that lie behind no prefix where others do, and none where several
  // models share the file: foreign tensors are not unused ones.
  std::vector<std::string> names() const override;
  std::vector<std::string> all_names() const;
  std::string description() const override { return path_.string(); }
  void advise(const at::Tensor& tensor, PageAdvice advice) const override;

  // Dtype, shape and size of a tensor that contains() knows, without reading it.
  const TensorInfo& info(const std::string& name) const;
  // The file that holds it.
  const std::filesystem::path& file_of(const std::string& name) const;

  // Which tensors are quantised matrices in 8 bits (not in llama.cpp's blocks), and what belongs to them.
  const QuantizedLayout& layout() const { return layout_; }

  // Of all tensors, as stored.
  int64_t bytes() const;
  int64_t elements() const;  // without scales and notes
  // All files read, the index first.
  const std::vector<std::filesystem::path>& files() const { return files_; }
  // Of all files together; of equal keys the first file's.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // What the names in the file have in front: "model.diffusion_model.", mostly "". Of a file of several models all of
  // them, with commas.
  std::string stripped_prefix() const;
  const std::vector<std::string>& prefixes() const { return prefixes_; }  // the same, one by one
  // Those of other copies of a model, which are not used.
  const std::vector<std::string>& other_prefixes() const { return other_prefixes_; }

 private:
  struct Holder {
    std::shared_ptr<const TensorFile> file;
    std::string stored_name;  // with the prefix
  };

  Checkpoint() = default;
  void add_file(const std::filesystem::path& file);
  void add_shards(const std::filesystem::path& index_file);
  std::shared_ptr<const TensorFile> open_file(const std::filesystem::path& file);
  std::map<std::string, size_t> prefixes_of(const std::vector<std::string>& anchors) const;
  const std::string& choose_prefix(const std::map<std::string, size_t>& prefixes);
  void strip_prefixes();
  void check_not_foreign() const;
  void read_layout();
  at::Tensor stored(const std::string& name) const;

  std::filesystem::path path_;
  std::vector<std::filesystem::path> files_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::string> other_prefixes_;
  std::set<std::string> foreign_;
  std::vector<std::string> prefixes_;  // that were stripped
  QuantizedLayout layout_;
  bool holds_several_ = false;
  std::map<std::string, Holder> holders_;  // by tensor name
};

// The weights within a folder in Hugging Face's layout: model.safetensors, model.safetensors.index.json, diffusers'
// diffusion_pytorch_model of both kinds, pytorch_model.bin.index.json, pytorch_model.bin; the first that is there, or
// nullopt.
std::optional<std::filesystem::path> weights_in(const std::filesystem::path& folder);

// A checkpoint's names, shapes and dtypes without its data.

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
    if (auto quantized = checkpoint_->quantized(name, {})) {
      const std::vector<int64_t> shape = quantized->shape();
      return {name, shape, at::kFloat, std::move(quantized)};
    }
    const TensorInfo& info = checkpoint_->info(name);
    // Blocks that are no rows of a matrix are dequantised as they are bound.
    return {name, info.shape, info.blocks ? at::kFloat : info.dtype};
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  bool tells_names_;
};

}  // namespace opensora::io
