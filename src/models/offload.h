// Where the weights of a run's models are while it runs: --offload and --max-memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/weights.h"
#include "opensora/config.h"

namespace opensora::models {

enum class Offload {
  kNone,   // whole models on the device, in the run's dtype, until the end
  kModel,  // whole models, one after the other; on the CPU they stay in their file
  kBlock,  // as kModel, but a transformer's blocks come to the device as they are used
  kAuto,   // kModel where a transformer fits beside its activations, else kBlock
};

// "none", "model", "block", "auto". Throws UsageError.
Offload parse_offload(const std::string& word);

// What decides kAuto for a transformer.
struct TransformerMemory {
  int64_t weight_bytes = 0;           // in the run's dtype
  int64_t activation_bytes = 0;       // of a forward, about
  std::optional<int64_t> free_bytes;  // that the device has; nullopt: not known
};
// Never kAuto. On the CPU the file is the model's memory already: kModel.
Offload settle_offload(Offload wanted, at::Device device, const TransformerMemory& memory);

// About what a forward of so many tokens (of video and text) takes beside its weights.
int64_t transformer_activation_bytes(const MMDiTConfig& config, int64_t tokens, at::ScalarType dtype);

// What the device has free, within `max_memory` bytes (--max-memory; 0: no limit); nullopt on the CPU without limit.
std::optional<int64_t> free_device_bytes(int64_t max_memory, at::Device device);

// How a transformer's weights are bound with that.
WeightOptions transformer_weights(Offload offload, int64_t max_memory);
// And those of a model without blocks.
WeightOptions model_weights(Offload offload);

}  // namespace opensora::models
