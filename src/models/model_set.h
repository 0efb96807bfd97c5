// The models of a run, or of a tool: located, opened, bound, and kept as long as they are needed.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>

#include "autoencoder/autoencoder.h"
#include "core/weights.h"
#include "diffusion/mmdit.h"
#include "models/model_files.h"
#include "models/offload.h"
#include "models/text_sizes.h"
#include "text/clip_encoder.h"
#include "text/t5_encoder.h"

namespace opensora::models {

// What models are bound to.
enum class Source {
  kFiles,      // their files
  kHeaders,    // the names, shapes and dtypes in their files: models on the meta device
  kPublished,  // no files: what the models ask for, in the dtypes that are published, on the meta device
  kRandom,     // no files: random numbers
};

struct SetOptions {
  Source source = Source::kFiles;
  at::Device device = at::kCPU;  // without data: the one that the meta device stands in for, which need not be here
  at::ScalarType dtype = at::kFloat;
  Offload offload = Offload::kModel;
  int64_t max_memory = 0;  // bytes; 0: no limit
  // That a transformer reads at once, with the text: of the largest video, and of FLUX's picture. --offload auto sizes
  // activations by them.
  int64_t video_tokens = 0, picture_tokens = 0;
  std::optional<int64_t> free_bytes = {};  // of that device, without data; nullopt: not known
};

// What a model that is bound without data would take.
struct ModelBytes {
  int64_t stored = 0;  // in its file
  int64_t held = 0;    // in memory, in the dtype in which the device holds them
  int64_t mapped = 0;  // of the file's pages, so many stay in memory

  ModelBytes& operator+=(const ModelBytes& other);
};

using BoundModel = std::variant<std::monostate, std::shared_ptr<const diffusion::MMDiT>,
                                std::shared_ptr<const autoencoder::Autoencoder>,
                                std::shared_ptr<const text::ClipEncoder>, std::shared_ptr<const text::T5Encoder>>;

// Binds a model; `half` is an autoencoder's, `sizes` a text encoder's. Throws CheckpointError that lists all tensors
// that are missing or of another shape.
BoundModel bind_model(Component component, const Weights& weights, const Config& config, autoencoder::Half half,
                      const TextSizes& sizes);

// Each model is loaded when it is asked for, and stays until it is released here and by whoever asked. Halves of an
// autoencoder are models of their own.
// All throw CheckpointError: no file, damaged, of another kind, or tensors missing or mis-shaped. What makes these
// errors short and says all at once is check_models().
// Two threads may use it, as long as they ask for different models.
class ModelSet {
 public:
  // Told of each loading: "transformer", "autoencoder", "clip", "t5", "flux", "flux_autoencoder", and how long it took.
  using LoadCallback = std::function<void(std::string_view model, double seconds)>;

  explicit ModelSet(ModelChoice choice, const SetOptions& options = {}, LoadCallback on_load = {});

  std::shared_ptr<const diffusion::MMDiT> transformer(Component component = Component::kModel);  // or kImgFlux
  std::shared_ptr<const autoencoder::Autoencoder> autoencoder(Component component, autoencoder::Half half);
  // `config` may differ from the configuration's in its tiling.
  std::shared_ptr<const autoencoder::Autoencoder> video_autoencoder(autoencoder::Half half,
                                                                    const VideoAutoencoderConfig& config);
  std::shared_ptr<const text::ClipEncoder> clip();
  std::shared_ptr<const text::T5Encoder> t5();
  // What a text encoder makes of ids [1, L], int64: CLIP's pooled vector [1, width], T5's states [1, L, width].
  at::Tensor encode_text(Component component, const at::Tensor& ids);
  // The rows of its embedding.
  int64_t vocab_size(Component component);
  // Any of them, an autoencoder with both halves.
  void bind(Component component) { bound(component, autoencoder::Half::kBoth); }

  void release(Component component);
  void release(Component component, autoencoder::Half half);

  const ModelChoice& choice() const { return choice_; }
  const SetOptions& options() const { return options_; }
  // Where the models compute: the meta device without data.
  at::Device device() const;

  // Without data, of a component that is bound: what it has asked for, all its halves.
  std::vector<MetaSource::Entry> tensors(Component component) const;
  ModelBytes bytes(Component component) const;
  // Of all that are bound.
  int64_t mapped_bytes() const;

 private:
  struct Slot {
    BoundModel model;
    VideoAutoencoderConfig config;              // that an autoencoder of videos is bound with
    std::shared_ptr<const MetaSource> headers;  // without data
    ModelBytes bytes;                           // likewise
  };
  struct Opened;

  Slot& bound(Component component, autoencoder::Half half);
  Opened open(Component component) const;
  void load(Component component, autoencoder::Half half, Slot& slot);
  WeightOptions weight_options(Component component, const Opened& opened) const;

  ModelChoice choice_;
  SetOptions options_;
  LoadCallback on_load_;
  std::map<std::pair<Component, autoencoder::Half>, Slot> slots_;  // all of them, from the beginning
};

}  // namespace opensora::models
