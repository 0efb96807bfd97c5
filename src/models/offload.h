// Where the weights of a run's models are while it runs, and what decides that: what a model takes on the device, and
// what the device has left. Runs and plans ask the same functions.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>

#include "core/weights.h"

namespace opensora::models {

// --offload.
enum class Offload {
  kNone,   // whole models on the device, in the run's dtype, until the end
  kModel,  // whole models, one after the other; on the CPU they stay in their file
  kBlock,  // as kModel, but the blocks of a transformer, and on a GPU of T5, come to the device as they are used
  kAuto,   // kModel for each of these where it fits beside its activations, else kBlock
};

// "none", "model", "block", "auto". Throws UsageError.
Offload parse_offload(const std::string& word);

// What a model takes on the device while it runs.
struct DeviceNeed {
  WeightBytes weights;
  int64_t activations = 0;  // bytes

  // Never of kAuto.
  int64_t with(Offload offload) const {
    return activations + (offload == Offload::kBlock ? weights.streamed() : weights.whole());
  }
};

// What kAuto comes to where `room` bytes are left on the device (nullopt: not known). Never kAuto. On the CPU the file
// is the model's memory already: kModel.
Offload settle_offload(Offload wanted, at::Device device, const DeviceNeed& need, std::optional<int64_t> room);

// Of an accelerator's memory, what is left to those that LibTorch's allocator does not know: CUDA's context and loaded
// kernels, workspaces of cuBLAS and cuDNN. An allowance; nobody measured it.
constexpr int64_t kDeviceReserve = 1'000'000'000;

// What a run may allocate in `free` bytes, within `max_memory` (--max-memory; 0: no limit), of which it has taken
// `allocated` already.
int64_t room_in(int64_t free, int64_t max_memory, int64_t allocated = 0);
// On that device now; nullopt on the CPU.
std::optional<int64_t> room_on(at::Device device, int64_t max_memory);

// How the weights of a model of blocks are bound where `offload` is settled. Within `max_memory`, the CPU gives pages
// of the file back.
WeightOptions block_weights(Offload offload, at::Device device, int64_t max_memory);
// The same for a model without blocks.
WeightOptions model_weights(Offload offload);

}  // namespace opensora::models
