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

std::optional<at::Tensor> MetaSource::find(const std::string& name, at::IntArrayRef expected_shape) const {
  if (!contains(name)) return std::nullopt;
  const Entry& found = requested_.emplace_back(entry(name, expected_shape));
  // Like a view of a mapped file, this is not counted by MetaDevice.
  return at::for_blob(nullptr, found.shape)
      .target_device(at::kMeta)
      .options(at::TensorOptions(found.dtype).device(at::kMeta))
      .make_tensor();
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
                                                                           .dtype = binding_->held(),
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

at::Tensor Weights::tensor(std::string_view name, at::IntArrayRef shape) const {
  throw_if_stopped();  // a large model takes minutes
  const std::string full = prefix_ + std::string(name);
  Binding& binding = *binding_;
  const std::optional<at::Tensor> found = binding.source->find(full, shape);
  binding.bound.insert(full);
  if (!found) {
    binding.problems.push_back(full + ": missing, expected shape " + shape_string(shape));
    return {};
  }
  if (found->sizes() != shape) {
    binding.problems.push_back(full + ": shape " + shape_string(found->sizes()) + ", expected " + shape_string(shape));
    return {};
  }
  if (!found->is_floating_point()) {
    binding.problems.push_back(full + ": dtype " + c10::toString(found->scalar_type()) + ", expected floating point");
    return {};
  }
  count(*found);
  return place(*found);
}

void Weights::count(const at::Tensor& found) const {
  if (on_host_) return;
  WeightBytes& bytes = binding_->bytes;
  const at::ScalarType held = binding_->held().value_or(found.scalar_type());
  (in_block_ ? bytes.blocks.back() : bytes.outside) += found.numel() * static_cast<int64_t>(c10::elementSize(held));
}

at::Tensor Weights::place(const at::Tensor& found) const {
  Binding& binding = *binding_;
  if (on_host_) return found;
  if (in_block_ && binding.stream) return binding.stream->add(found);
  const at::ScalarType held = binding.held().value_or(found.scalar_type());
  const bool is_fine = binding.options.residence != Residence::kDevice || found.scalar_type() == held;
  if (binding.works_on_views() && is_fine) return found;
  // The meta device gets a copy too, as it counts what a real device would hold.
  const int64_t staging_bytes = binding.staging_bytes();
  if (staging_bytes == 0) return found.to(binding.device, held, /*non_blocking=*/false, /*copy=*/found.is_meta());
  if (!binding.staging) binding.staging.emplace(binding.device, staging_bytes);
  const at::Tensor placed = at::empty(found.sizes(), at::TensorOptions(held).device(binding.device));
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
