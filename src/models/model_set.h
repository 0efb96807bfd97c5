// The models of a run, or of a tool: located, opened, bound, and kept as long as they are needed.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "autoencoder/autoencoder.h"
#include "core/device.h"
#include "core/weights.h"
#include "diffusion/mmdit.h"
#include "models/model_files.h"
#include "models/offload.h"
#include "models/text_encoder.h"
#include "opensora/config.h"
#include "text/encoders.h"

namespace opensora::models {

// What models are bound to.
enum class Source {
  kFiles,      // their files
  kHeaders,    // the names, shapes and dtypes in their files: models on the meta device
  kPublished,  // no files: what the models ask for, in the dtypes that are published, on the meta device
  kRandom,     // no files: random numbers
};

// --quant-compute: how layers multiply by weights that are stored in 8 bits.
enum class QuantCompute {
  kAuto,     // as kFull where the device multiplies them faster and their maker does not ask for exact products
  kWeights,  // weights are dequantised, and products are made in floating point
  kFull,     // activations are rounded to 8 bits too, where the device has products of the format
};

// "auto", "weights", "full". Throws UsageError.
QuantCompute parse_quant_compute(const std::string& word);

struct SetOptions {
  Source source = Source::kFiles;
  at::Device device = at::kCPU;  // without data: the one that the meta device stands in for, which need not be here
  at::ScalarType dtype = at::kFloat;
  Offload offload = Offload::kModel;
  int64_t max_memory = 0;  // bytes; 0: no limit
  QuantCompute quant_compute = QuantCompute::kAuto;
  // Tokens that a transformer reads at once, text included, for the largest video and for FLUX's picture. --offload
  // auto estimates activations from them.
  int64_t video_tokens = 0, picture_tokens = 0;
  int64_t beside_bytes = 0;  // of the device, for what runs while the transformer does
  // What the device has left, asked when a model is to be loaded; nullopt: not known. Default: room_on() that device,
  // with data, and not known without.
  std::function<std::optional<int64_t>()> room = {};
};

// What a model that is bound without data would take.
struct ModelBytes {
  int64_t stored = 0;  // in its file
  int64_t held = 0;  // in memory, in the dtype in which the device holds them; on a GPU without what stays on the host
  int64_t mapped = 0;  // of the file's pages, what stays in memory
  // Copied to an accelerator: once, before it runs, and with each forward. 0 on the CPU.
  int64_t loaded = 0, streamed = 0;

  ModelBytes& operator+=(const ModelBytes& other);
};

using BoundModel = std::variant<std::monostate, std::shared_ptr<const diffusion::MMDiT>,
                                std::shared_ptr<const autoencoder::Autoencoder>,
                                std::shared_ptr<const text::ClipEncoder>, std::shared_ptr<const text::T5Encoder>>;

// Binds a model; `half` is an autoencoder's, `sizes` a text encoder's. Throws CheckpointError that lists all tensors
// that are missing or of another shape.
BoundModel bind_model(Component component, const Weights& weights, const Config& config, autoencoder::Half half,
                      const TextSizes& sizes);

// Each model is loaded when it is first asked for, and stays until it is released both here and by whoever asked. The
// halves of an autoencoder count as models of their own. All getters throw CheckpointError if a file is missing,
// damaged or of another kind, or if tensors are missing or have another shape; check_models() finds these errors before
// a run, says them all at once and keeps them short.
// Two threads may use it, as long as they ask for different models.
class ModelSet {
 public:
  // Called after each loading with the model's name, "transformer", "autoencoder", "clip", "t5", "flux",
  // "flux_autoencoder" or "tiny_autoencoder", and with how long it took.
  using LoadCallback = std::function<void(std::string_view model, double seconds)>;

  explicit ModelSet(ModelChoice choice, const SetOptions& options = {}, LoadCallback on_load = {});

  std::shared_ptr<const diffusion::MMDiT> transformer(Component component = Component::kModel);  // or kImgFlux
  std::shared_ptr<const autoencoder::Autoencoder> autoencoder(Component component, autoencoder::Half half);
  // `config` may differ from the configuration's in its tiling.
  std::shared_ptr<const autoencoder::Autoencoder> video_autoencoder(autoencoder::Half half,
                                                                    const VideoAutoencoderConfig& config);
  // What shows a video while it is sampled: TAEHV where it is in the model folder, else the video autoencoder with the
  // tiling of `config`.
  std::shared_ptr<const autoencoder::Autoencoder> preview_decoder(const VideoAutoencoderConfig& config);
  std::shared_ptr<const text::ClipEncoder> clip();
  std::shared_ptr<const text::T5Encoder> t5();
  // What a text encoder makes of ids [1, L], int64: CLIP's pooled vector [1, width], T5's states [1, L, width].
  at::Tensor encode_text(Component component, const at::Tensor& ids);
  // Keeps tokenizers that have been read already, each until it is taken. They replace those kept before.
  void hold_tokenizers(Tokenizers tokenizers) { tokenizers_ = std::move(tokenizers); }
  // A text encoder's tokenizer: the one that is held, or else read from its files. Throws CheckpointError.
  Tokenizer take_tokenizer(Component component);
  // The number of rows in a text encoder's embedding.
  int64_t vocab_size(Component component);
  // Loads any of them; an autoencoder with both halves.
  void bind(Component component) { bound(component, autoencoder::Half::kBoth); }

  void release(Component component);
  void release(Component component, autoencoder::Half half);

  // What a transformer or T5 takes on the device while it runs, weights and activations, if it is loaded now.
  int64_t running_bytes(Component component) const;

  const ModelChoice& choice() const { return choice_; }
  const SetOptions& options() const { return options_; }
  // Where the models compute: the meta device without data.
  at::Device device() const;

  // For a set without data: what a bound component has asked for, in all its halves.
  std::vector<MetaSource::Entry> tensors(Component component) const;
  ModelBytes bytes(Component component) const;
  bool is_streamed(Component component) const;  // while it is bound: its blocks come to the device as they are used
  // The sum over all that are bound.
  int64_t mapped_bytes() const;

 private:
  struct Slot {
    BoundModel model;
    VideoAutoencoderConfig config;              // that an autoencoder of videos is bound with
    std::shared_ptr<const MetaSource> headers;  // without data
    ModelBytes bytes;                           // likewise
    bool is_streamed = false;
    DeviceEvent loaded;  // in the stream of the thread that loaded it, which need not be that of its next user
  };
  struct Opened;

  Slot& bound(Component component, autoencoder::Half half);
  Opened open(Component component) const;
  void load(Component component, autoencoder::Half half, Slot& slot);
  DeviceNeed need(Component component, const Opened& opened) const;
  std::optional<int64_t> room_for(Component component) const;
  Offload settled_offload(Component component, const Opened& opened) const;
  WeightOptions weight_options(Component component, const Opened& opened) const;
  void tell_streaming(Component component, const Opened& opened) const;
  void tell_products(Component component, const Weights& weights) const;

  ModelChoice choice_;
  SetOptions options_;
  LoadCallback on_load_;
  std::map<std::pair<Component, autoencoder::Half>, Slot> slots_;  // all of them, from the beginning
  Tokenizers tokenizers_;
};

}  // namespace opensora::models
