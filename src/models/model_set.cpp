#include "models/model_set.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>

#include "autoencoder/taehv.h"
#include "core/cpu_features.h"
#include "core/units.h"
#include "io/checkpoint.h"
#include "io/quantized_file.h"
#include "io/random_checkpoint.h"
#include "nn/quantized_product.h"
#include "opensora/error.h"

namespace opensora::models {
namespace {

using autoencoder::Autoencoder;
using autoencoder::Half;

constexpr Half kHalves[] = {Half::kDecoder, Half::kEncoder, Half::kBoth};

bool is_transformer(Component component) { return component == Component::kModel || component == Component::kImgFlux; }

const MMDiTConfig& transformer_config(Component component, const Config& config) {
  return component == Component::kImgFlux ? config.text_to_image->model : config.model;
}

std::string_view event_name(Component component) {
  switch (component) {
    case Component::kModel:
      return "transformer";
    case Component::kAe:
      return "autoencoder";
    case Component::kImgFlux:
      return "flux";
    case Component::kImgFluxAe:
      return "flux_autoencoder";
    case Component::kTinyAe:
      return "tiny_autoencoder";
    default:
      return component_name(component);
  }
}

at::ScalarType published_dtype(Component component) { return is_transformer(component) ? at::kBFloat16 : at::kFloat; }

std::shared_ptr<const Autoencoder> make_autoencoder(Component component, const Weights& weights, const Config& config,
                                                    Half half) {
  if (component == Component::kTinyAe) return std::make_shared<const autoencoder::Taehv>(weights, half);
  if (component == Component::kImgFluxAe) return autoencoder::make_autoencoder(weights, config.text_to_image->ae, half);
  return std::visit([&](const auto& ae) { return autoencoder::make_autoencoder(weights, ae, half); }, config.ae);
}

// What layers are told; nullopt: their files decide.
std::optional<bool> exact_products(QuantCompute compute) {
  return compute == QuantCompute::kAuto ? std::nullopt : std::optional(compute == QuantCompute::kWeights);
}

// Whether it is a block's weight, other than those of its modulation, which run ahead of all blocks.
bool is_streamed(const std::string& name) {
  return name.find("_blocks.") != std::string::npos && !io::is_modulation(name);
}

// Counts the bytes of weights that stay in their file (`maps`), or that the device holds in `dtype` (nullopt: as
// stored). `blocks` is the number of a transformer's blocks, or 0.
ModelBytes bytes_of(const MetaSource& source, std::optional<at::ScalarType> dtype, bool maps, int64_t blocks,
                    const WeightOptions& options) {
  ModelBytes bytes;
  int64_t streamed = 0;
  for (const MetaSource::Entry& tensor : source.requested()) {
    const int64_t stored = tensor.stored_bytes();
    const bool is_converted = dtype && !maps && !tensor.quantized && at::isFloatingType(tensor.dtype);
    bytes.stored += stored;
    bytes.held += is_converted ? tensor.elements() * static_cast<int64_t>(c10::elementSize(*dtype)) : stored;
    if (is_streamed(tensor.name)) streamed += stored;
  }
  if (!maps) return bytes;
  bytes.mapped = bytes.stored;
  if (!options.gives_back_pages) return bytes;
  // Streamed, a block's pages go when it has been copied; else they stay until it has been used.
  const int64_t present = options.residence == Residence::kStreamed ? 1 : options.ahead + 2;
  bytes.mapped += streamed / blocks * std::min(present, blocks) - streamed;
  return bytes;
}

}  // namespace

ModelBytes& ModelBytes::operator+=(const ModelBytes& other) {
  stored += other.stored;
  held += other.held;
  mapped += other.mapped;
  loaded += other.loaded;
  streamed += other.streamed;
  return *this;
}

BoundModel bind_model(Component component, const Weights& weights, const Config& config, Half half,
                      const TextSizes& sizes) {
  switch (component) {
    case Component::kModel:
    case Component::kImgFlux:
      return std::make_shared<const diffusion::MMDiT>(weights, transformer_config(component, config));
    case Component::kAe:
    case Component::kImgFluxAe:
    case Component::kTinyAe:
      return make_autoencoder(component, weights, config, half);
    case Component::kClip:
      return std::make_shared<const text::ClipEncoder>(weights, sizes.clip);
    case Component::kT5:
      return std::make_shared<const text::T5Encoder>(weights, sizes.t5);
  }
  return {};
}

// What a model is bound to.
struct ModelSet::Opened {
  std::shared_ptr<const WeightSource> weights;
  std::shared_ptr<const MetaSource> headers = {};         // the same, without data
  std::shared_ptr<const io::Checkpoint> checkpoint = {};  // the same, if there are files
  TextSizes sizes;
};

ModelSet::ModelSet(ModelChoice choice, const SetOptions& options, LoadCallback on_load)
    : choice_(std::move(choice)), options_(options), on_load_(std::move(on_load)) {
  for (const Component component : {Component::kModel, Component::kAe, Component::kClip, Component::kT5,
                                    Component::kImgFlux, Component::kImgFluxAe, Component::kTinyAe}) {
    for (const Half half : kHalves) slots_[{component, half}].config = choice_.config.ae;
  }
}

at::Device ModelSet::device() const {
  return options_.source == Source::kFiles || options_.source == Source::kRandom ? options_.device : at::kMeta;
}

ModelSet::Opened ModelSet::open(Component component) const {
  Opened opened;
  if (options_.source == Source::kFiles || options_.source == Source::kHeaders) {
    const ComponentFiles files = locate(component, choice_);
    opened.weights = opened.checkpoint = io::Checkpoint::open(files.weights);
    opened.sizes = read_text_sizes(component, files, *opened.checkpoint);
    if (options_.source == Source::kHeaders) {
      opened.headers = std::make_shared<io::HeaderSource>(opened.checkpoint, /*tells_names=*/false);
    }
  } else {
    opened.sizes = proportioned_text_sizes(choice_.config);
    if (options_.source == Source::kRandom) {
      opened.weights = std::make_shared<io::RandomSource>();
    } else {
      opened.headers = std::make_shared<MetaSource>(published_dtype(component));
    }
  }
  if (opened.headers) opened.weights = opened.headers;
  return opened;
}

// Binds the model to names and shapes, without memory: that tells what it asks for, and what of it stays on the host.
DeviceNeed ModelSet::need(Component component, const Opened& opened) const {
  std::shared_ptr<const MetaSource> source = std::make_shared<MetaSource>(published_dtype(component));
  if (opened.checkpoint) source = std::make_shared<io::HeaderSource>(opened.checkpoint, /*tells_names=*/false);
  const Weights weights(source, at::kMeta, options_.dtype, {.works_on_views = true, .stands_for = options_.device});
  bind_model(component, weights, choice_.config, Half::kBoth, opened.sizes);
  const at::ScalarType computes_in = computing_dtype(options_.dtype, Work::kProduct, options_.device);
  DeviceNeed need{.weights = weights.bytes()};
  // A block's MLP has both of its matrices dequantised at once.
  const int64_t dequantized = 2 * need.weights.largest_quantized * static_cast<int64_t>(c10::elementSize(computes_in));
  if (is_transformer(component)) {
    const int64_t tokens = component == Component::kModel ? options_.video_tokens : options_.picture_tokens;
    need.activations =
        diffusion::forward_bytes(transformer_config(component, choice_.config), tokens, computes_in, options_.device);
  } else if (component == Component::kT5) {
    need.activations = text::forward_bytes(opened.sizes.t5, choice_.config.t5.max_length, computes_in);
  }
  need.activations += dequantized;
  return need;
}

int64_t ModelSet::running_bytes(Component component) const {
  const Opened opened = open(component);
  return need(component, opened).with(settled_offload(component, opened));
}

std::optional<int64_t> ModelSet::room_for(Component component) const {
  std::optional<int64_t> room;
  if (options_.room) {
    room = options_.room();
  } else if (!device().is_meta()) {
    room = room_on(options_.device, options_.max_memory);
  }
  if (room && component == Component::kModel) *room -= options_.beside_bytes;
  return room;
}

Offload ModelSet::settled_offload(Component component, const Opened& opened) const {
  const bool is_open = options_.offload == Offload::kAuto && !options_.device.is_cpu();
  if (!is_open) return settle_offload(options_.offload, options_.device, {}, std::nullopt);
  return settle_offload(Offload::kAuto, options_.device, need(component, opened), room_for(component));
}

QuantCompute parse_quant_compute(const std::string& word) {
  if (word == "auto") return QuantCompute::kAuto;
  if (word == "weights") return QuantCompute::kWeights;
  if (word == "full") return QuantCompute::kFull;
  throw UsageError("`quant_compute`: expected auto, weights or full, found \"" + word + "\"");
}

WeightOptions ModelSet::weight_options(Component component, const Opened& opened) const {
  const bool is_text = component == Component::kClip || component == Component::kT5;
  if (is_text && (options_.device.is_cpu() || component == Component::kClip)) return {};
  if (!is_text && !is_transformer(component)) return model_weights(options_.offload);
  return block_weights(settled_offload(component, opened), options_.device, options_.max_memory);
}

void ModelSet::tell_streaming(Component component, const Opened& opened) const {
  std::string why;
  if (options_.offload == Offload::kAuto) {
    why = fmt::format(": at work the whole model would take {}, and {} of the device are left",
                      format_bytes(need(component, opened).with(Offload::kModel)),
                      format_bytes(room_for(component).value_or(0)));
  }
  spdlog::info("{}: blocks are streamed to the device{}", event_name(component), why);
}

// Why products are what they are, if that needs saying.
void ModelSet::tell_products(Component component, const Weights& weights) const {
  const bool is_wanted = options_.quant_compute == QuantCompute::kFull;
  const auto level = is_wanted ? spdlog::level::warn : spdlog::level::info;
  if (is_wanted && is_transformer(component) && weights.quantized().empty()) {
    spdlog::warn("{}: `quant_compute` full has no effect, as no weights are in 8 bits", event_name(component));
  }
  for (const QuantizedFormat format : weights.quantized()) {
    const std::string problem = nn::quantized_product_problem(format, options_.device);
    const std::string weights_in = fmt::format("{}: weights in {}", event_name(component), format_name(format));
    if (problem.empty()) {
      spdlog::info("{} are multiplied as they are, by activations that are rounded to 8 bits", weights_in);
    } else {
      spdlog::log(level, "{} are dequantised as layers run: {}", weights_in, problem);
    }
  }
}

void ModelSet::load(Component component, Half half, Slot& slot) {
  const Opened opened = open(component);
  WeightOptions options = weight_options(component, opened);
  if (opened.headers) options.stands_for = options_.device;
  options.exact_products = exact_products(options_.quant_compute);
  slot.is_streamed = options.residence == Residence::kStreamed;
  if (slot.is_streamed && !opened.headers) tell_streaming(component, opened);
  const Weights weights(opened.weights, device(), options_.dtype, options);
  Config config = choice_.config;
  config.ae = slot.config;
  slot.model = bind_model(component, weights, config, half, opened.sizes);
  slot.headers = opened.headers;
  if (!opened.headers) return tell_products(component, weights);
  const std::optional<at::ScalarType> held_dtype = holding_dtype(options_.dtype, options_.device);
  const bool maps = options_.device.is_cpu() && (options.residence != Residence::kDevice || !held_dtype);
  const int64_t blocks = is_transformer(component) ? transformer_config(component, config).blocks() : 0;
  slot.bytes = bytes_of(*opened.headers, held_dtype, maps, blocks, options);
  if (options_.device.is_cpu()) return;
  // What stays on the host is copied, too, but only to be used once.
  const WeightBytes& there = weights.bytes();
  slot.bytes.streamed = slot.is_streamed ? there.whole() - there.outside : 0;
  slot.bytes.loaded = slot.bytes.held - slot.bytes.streamed;
  slot.bytes.held = there.whole();
}

ModelSet::Slot& ModelSet::bound(Component component, Half half) {
  Slot& slot = slots_.at({component, half});
  if (!std::holds_alternative<std::monostate>(slot.model)) {
    slot.loaded.block_current();
    return slot;
  }
  const auto start = std::chrono::steady_clock::now();
  load(component, half, slot);
  slot.loaded = DeviceEvent(device());
  slot.loaded.record_current();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (on_load_) on_load_(event_name(component), seconds.count());
  return slot;
}

std::shared_ptr<const diffusion::MMDiT> ModelSet::transformer(Component component) {
  return std::get<std::shared_ptr<const diffusion::MMDiT>>(bound(component, Half::kBoth).model);
}

std::shared_ptr<const Autoencoder> ModelSet::autoencoder(Component component, Half half) {
  if (component == Component::kAe) return video_autoencoder(half, choice_.config.ae);
  return std::get<std::shared_ptr<const Autoencoder>>(bound(component, half).model);
}

std::shared_ptr<const Autoencoder> ModelSet::video_autoencoder(Half half, const VideoAutoencoderConfig& config) {
  Slot& slot = slots_.at({Component::kAe, half});
  if (slot.config != config) {
    release(Component::kAe, half);
    slot.config = config;
  }
  return std::get<std::shared_ptr<const Autoencoder>>(bound(Component::kAe, half).model);
}

std::shared_ptr<const Autoencoder> ModelSet::preview_decoder(const VideoAutoencoderConfig& config) {
  if (!has_tiny_autoencoder(choice_)) return video_autoencoder(Half::kDecoder, config);
  return autoencoder(Component::kTinyAe, Half::kDecoder);
}

std::shared_ptr<const text::ClipEncoder> ModelSet::clip() {
  return std::get<std::shared_ptr<const text::ClipEncoder>>(bound(Component::kClip, Half::kBoth).model);
}

std::shared_ptr<const text::T5Encoder> ModelSet::t5() {
  return std::get<std::shared_ptr<const text::T5Encoder>>(bound(Component::kT5, Half::kBoth).model);
}

at::Tensor ModelSet::encode_text(Component component, const at::Tensor& ids) {
  return component == Component::kT5 ? t5()->forward(ids) : clip()->forward(ids).pooled;
}

Tokenizer ModelSet::take_tokenizer(Component component) {
  auto held = tokenizers_.extract(component);
  if (held) return std::move(held.mapped());
  return open_tokenizer(component, locate(component, choice_).tokenizer_folder);
}

int64_t ModelSet::vocab_size(Component component) {
  return component == Component::kT5 ? t5()->config.vocab_size : clip()->token_embedding.count;
}

void ModelSet::release(Component component) {
  for (const Half half : kHalves) release(component, half);
}

void ModelSet::release(Component component, Half half) {
  const auto found = slots_.find({component, half});
  if (found == slots_.end()) return;
  found->second.model = {};
  found->second.headers.reset();
  found->second.bytes = {};
  found->second.is_streamed = false;
}

std::vector<MetaSource::Entry> ModelSet::tensors(Component component) const {
  std::vector<MetaSource::Entry> all;
  for (const auto& [key, slot] : slots_) {
    if (key.first != component || !slot.headers) continue;
    const auto& requested = slot.headers->requested();
    all.insert(all.end(), requested.begin(), requested.end());
  }
  return all;
}

ModelBytes ModelSet::bytes(Component component) const {
  ModelBytes sum;
  for (const auto& [key, slot] : slots_) {
    if (key.first == component) sum += slot.bytes;
  }
  return sum;
}

bool ModelSet::is_streamed(Component component) const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [&](const auto& slot) { return slot.first.first == component && slot.second.is_streamed; });
}

int64_t ModelSet::mapped_bytes() const {
  ModelBytes sum;
  for (const auto& [key, slot] : slots_) sum += slot.bytes;
  return sum.mapped;
}

}  // namespace opensora::models
