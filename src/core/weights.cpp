#include "core/weights.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/cpu_features.h"
#include "core/device.h"
#include "core/weight_stream.h"
#include "opensora/error.h"
#include "opensora/process.h"

namespace opensora {

std::string shape_string(at::IntArrayRef shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

int64_t count_numbered(const WeightSource& source, const std::string& prefix, const std::string& suffix) {
  int64_t count = 0;
  const auto name = [&] { return fmt::format("{}{}{}", prefix, count, suffix); };
  while (source.contains(name())) ++count;
  return count;
}

namespace {

// Like a view of a mapped file, this is not counted by MetaDevice.
at::Tensor without_data(at::IntArrayRef shape, at::ScalarType dtype) {
  return at::for_blob(nullptr, shape)
      .target_device(at::kMeta)
      .options(at::TensorOptions(dtype).device(at::kMeta))
      .make_tensor();
}

at::Tensor without_data(const at::Tensor& like) { return without_data(like.sizes(), like.scalar_type()); }

}  // namespace

std::optional<at::Tensor> MetaSource::find(const std::string& name, at::IntArrayRef expected_shape) const {
  if (!contains(name)) return std::nullopt;
  Entry& found = requested_.emplace_back(entry(name, expected_shape));
  if (found.quantized) {  // a source with data would dequantise it
    found.quantized.reset();
    found.dtype = at::kFloat;
  }
  return without_data(found.shape, found.dtype);
}

std::optional<QuantizedTensor> MetaSource::quantized(const std::string& name, at::IntArrayRef expected_shape) const {
  if (!contains(name)) return std::nullopt;
  Entry found = entry(name, expected_shape);
  if (!found.quantized) return std::nullopt;
  QuantizedTensor& quantized = *found.quantized;
  quantized.data = without_data(quantized.data);
  if (quantized.scale.defined()) quantized.scale = without_data(quantized.scale);
  return requested_.emplace_back(std::move(found)).quantized;
}

int64_t WeightBytes::whole() const { return std::accumulate(blocks.begin(), blocks.end(), outside); }

int64_t WeightBytes::streamed(int64_t ahead) const {
  if (blocks.empty()) return outside;
  const int64_t present = std::min(ahead + 1, static_cast<int64_t>(blocks.size()));
  return outside + present * *std::max_element(blocks.begin(), blocks.end());
}

struct Weights::Binding {
  std::shared_ptr<const WeightSource> source;
  at::Device device;
  at::ScalarType dtype;
  WeightOptions options;
  std::shared_ptr<WeightStream> stream = {};
  WeightBytes bytes = {};
  std::set<QuantizedFormat> quantized = {};
  std::optional<StagingRing> staging = {};  // for what is not streamed, while the model is bound
  std::vector<std::string> problems = {};
  std::set<std::string> bound = {};

  at::Device kernel_device() const { return options.stands_for.value_or(device); }
  bool works_on_views() const { return options.works_on_views.value_or(kernel_device().is_cpu()); }
  std::optional<at::ScalarType> held() const { return holding_dtype(dtype, kernel_device()); }
  int64_t staging_bytes() const {
    if (options.staging_bytes >= 0) return options.staging_bytes;
    return device.is_cpu() || device.is_meta() ? 0 : kStagingBytes;
  }
};

Weights::Weights(std::shared_ptr<const WeightSource> source, at::Device device, at::ScalarType dtype,
                 const WeightOptions& options)
    : binding_(std::make_shared<Binding>(Binding{std::move(source), device, dtype, options})) {
  const bool streams = options.residence == Residence::kStreamed;
  // On the CPU, mapped weights are read ahead; on another device they are all there.
  const bool maps = options.residence == Residence::kMapped && device.is_cpu();
  const bool keeps_all = !streams && !maps;
  if (keeps_all && binding_->staging_bytes() == 0) return;  // each tensor is copied as it is bound
  binding_->stream =
      std::make_shared<WeightStream>(binding_->source, WeightStreamOptions{.device = device,
                                                                           .copies = !maps,
                                                                           .keeps_views = binding_->works_on_views(),
                                                                           .keeps_all = keeps_all,
                                                                           .ahead = options.ahead,
                                                                           .gives_back = options.gives_back_pages,
                                                                           .staging_bytes = binding_->staging_bytes()});
}

Weights Weights::operator[](std::string_view name) const {
  Weights child = *this;
  child.prefix_.append(name).append(".");
  return child;
}

Weights Weights::on_host() const {
  Weights scope = *this;
  scope.on_host_ = true;
  return scope;
}

Weights Weights::begin_block() const {
  Weights scope = *this;
  scope.in_block_ = true;
  binding_->bytes.blocks.push_back(0);
  if (binding_->stream) binding_->stream->begin_group();
  return scope;
}

std::shared_ptr<WeightStream> Weights::stream() const { return binding_->stream; }

const std::set<QuantizedFormat>& Weights::quantized() const { return binding_->quantized; }
at::Device Weights::device() const { return binding_->device; }
at::Device Weights::kernel_device() const { return binding_->kernel_device(); }
at::ScalarType Weights::dtype() const { return binding_->dtype; }
const WeightBytes& Weights::bytes() const { return binding_->bytes; }

bool Weights::has(std::string_view name) const {
  const std::string full = prefix_ + std::string(name);
  if (!binding_->source->contains(full)) return false;
  binding_->bound.insert(full);  // an alternative that the model knows of is not unused
  return true;
}

void Weights::note_problem(const std::string& problem) const { binding_->problems.push_back(problem); }

at::Tensor Weights::tensor(std::string_view name, at::IntArrayRef shape) const {
  throw_if_stopped();  // a large model takes minutes
  const std::string full = prefix_ + std::string(name);
  const std::optional<at::Tensor> found = binding_->source->find(full, shape);
  binding_->bound.insert(full);
  const auto refuse = [&](const std::string& problem) {
    note_problem(full + ": " + problem);
    return at::Tensor();
  };
  if (!found) return refuse("missing, expected shape " + shape_string(shape));
  if (found->sizes() != shape) {
    return refuse("shape " + shape_string(found->sizes()) + ", expected " + shape_string(shape));
  }
  if (!found->is_floating_point()) {
    return refuse(std::string("dtype ") + c10::toString(found->scalar_type()) + ", expected floating point");
  }
  const at::ScalarType dtype = held(*found);
  count(found->numel() * static_cast<int64_t>(c10::elementSize(dtype)));
  return place(*found, dtype);
}

Matrix Weights::matrix(std::string_view name, at::IntArrayRef shape) const {
  Matrix matrix = table(name, shape);
  if (!matrix.quantized) return matrix;
  bool& is_exact = matrix.quantized->exact_products;
  is_exact = binding_->options.exact_products.value_or(is_exact);
  if (on_host_) return matrix;
  if (!is_exact) binding_->quantized.insert(matrix.quantized->format);
  int64_t& largest = binding_->bytes.largest_quantized;
  largest = std::max(largest, c10::multiply_integers(shape));
  return matrix;
}

Matrix Weights::table(std::string_view name, at::IntArrayRef shape) const {
  const std::string full = prefix_ + std::string(name);
  std::optional<QuantizedTensor> found = binding_->source->quantized(full, shape);
  if (!found) return {.weight = tensor(name, shape)};
  throw_if_stopped();
  binding_->bound.insert(full);
  if (found->shape() != shape) {
    note_problem(full + ": shape " + shape_string(found->shape()) + ", expected " + shape_string(shape));
    return {};
  }
  count(found->nbytes());
  for (at::Tensor* part : {&found->data, &found->scale}) {
    if (part->defined()) *part = place(*part, part->scalar_type());
  }
  return {.weight = {}, .quantized = std::move(found)};
}

at::ScalarType Weights::held(const at::Tensor& found) const { return binding_->held().value_or(found.scalar_type()); }

void Weights::count(int64_t bytes) const {
  if (on_host_) return;
  (in_block_ ? binding_->bytes.blocks.back() : binding_->bytes.outside) += bytes;
}

at::Tensor Weights::place(const at::Tensor& found, at::ScalarType dtype) const {
  Binding& binding = *binding_;
  if (on_host_) return found;
  if (in_block_ && binding.stream) return binding.stream->add(found, dtype);
  const bool is_fine = binding.options.residence != Residence::kDevice || found.scalar_type() == dtype;
  if (binding.works_on_views() && is_fine) return found;
  // The meta device gets a copy too, as it counts what a real device would hold.
  const int64_t staging_bytes = binding.staging_bytes();
  if (staging_bytes == 0) return found.to(binding.device, dtype, /*non_blocking=*/false, /*copy=*/found.is_meta());
  if (!binding.staging) binding.staging.emplace(binding.device, staging_bytes);
  const at::Tensor placed = at::empty(found.sizes(), at::TensorOptions(dtype).device(binding.device));
  binding.staging->copy(found, placed, /*stream=*/std::nullopt);
  return placed;
}

void Weights::finish(bool warn_unused) const {
  Binding& binding = *binding_;
  if (!binding.problems.empty()) {
    std::string message = binding.source->description() + ": " + std::to_string(binding.problems.size()) +
                          " tensor(s) missing or of another shape";
    for (const std::string& problem : binding.problems) message += "\n  " + problem;
    throw CheckpointError(message);
  }
  binding.staging.reset();
  if (binding.stream) binding.stream->finish();
  if (!warn_unused) return;
  std::vector<std::string> unused;
  for (const std::string& name : binding.source->names()) {
    if (name.starts_with(prefix_) && !binding.bound.contains(name)) unused.push_back(name);
  }
  if (!unused.empty()) {
    spdlog::warn("{}: {} unused tensor(s), first {}", binding.source->description(), unused.size(), unused.front());
  }
}

}  // namespace opensora
