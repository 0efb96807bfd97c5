#include "models/offload.h"

#include <ATen/DeviceAccelerator.h>

#include <algorithm>

#include "opensora/error.h"

namespace opensora::models {

Offload parse_offload(const std::string& word) {
  if (word == "none") return Offload::kNone;
  if (word == "model") return Offload::kModel;
  if (word == "block") return Offload::kBlock;
  if (word == "auto") return Offload::kAuto;
  throw UsageError("--offload: expected none, model, block or auto, found \"" + word + "\"");
}

Offload settle_offload(Offload wanted, at::Device device, const TransformerMemory& memory) {
  if (wanted != Offload::kAuto) return wanted;
  if (device.is_cpu() || !memory.free_bytes) return Offload::kModel;
  return memory.weight_bytes + memory.activation_bytes <= *memory.free_bytes ? Offload::kModel : Offload::kBlock;
}

int64_t transformer_activation_bytes(const MMDiTConfig& config, int64_t tokens, at::ScalarType dtype) {
  // At the widest point of a single block: its input, normalised; q, k, v before and after RoPE; attention's output
  // beside the MLP's hidden layer, before and after GELU.
  const int64_t width = 12 * config.hidden_size + 3 * config.mlp_hidden();
  return tokens * width * static_cast<int64_t>(c10::elementSize(dtype));
}

std::optional<int64_t> free_device_bytes(int64_t max_memory, at::Device device) {
  std::optional<int64_t> limit;
  if (max_memory > 0) limit = max_memory;
  if (device.is_cpu()) return limit;
  const auto free = static_cast<int64_t>(at::accelerator::getMemoryInfo(device.index()).first);
  return std::min(limit.value_or(free), free);
}

WeightOptions transformer_weights(Offload offload, int64_t max_memory) {
  WeightOptions options = model_weights(offload);
  if (offload == Offload::kBlock) options.residence = Residence::kStreamed;
  options.gives_back_pages = max_memory > 0;
  return options;
}

WeightOptions model_weights(Offload offload) {
  WeightOptions options;
  if (offload == Offload::kNone) options.residence = Residence::kDevice;
  return options;
}

}  // namespace opensora::models
