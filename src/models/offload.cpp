#include "models/offload.h"

#include <algorithm>

#include "core/device.h"
#include "opensora/error.h"

namespace opensora::models {

Offload parse_offload(const std::string& word) {
  if (word == "none") return Offload::kNone;
  if (word == "model") return Offload::kModel;
  if (word == "block") return Offload::kBlock;
  if (word == "auto") return Offload::kAuto;
  throw UsageError("`offload`: expected none, model, block or auto, found \"" + word + "\"");
}

Offload settle_offload(Offload wanted, at::Device device, const DeviceNeed& need, std::optional<int64_t> room) {
  if (wanted != Offload::kAuto) return wanted;
  if (device.is_cpu() || !room) return Offload::kModel;
  return need.with(Offload::kModel) <= *room ? Offload::kModel : Offload::kBlock;
}

int64_t room_in(int64_t free, int64_t max_memory, int64_t allocated) {
  const int64_t room = free - kDeviceReserve;
  return max_memory > 0 ? std::min(room, max_memory - allocated) : room;
}

std::optional<int64_t> room_on(at::Device device, int64_t max_memory) {
  if (device.is_cpu()) return std::nullopt;
  const DeviceMemory memory = device_memory(device);
  return room_in(memory.free + memory.cached, max_memory, memory.allocated);
}

WeightOptions block_weights(Offload offload, at::Device device, int64_t max_memory) {
  WeightOptions options = model_weights(offload);
  if (offload == Offload::kBlock) options.residence = Residence::kStreamed;
  options.gives_back_pages = device.is_cpu() && max_memory > 0;
  return options;
}

WeightOptions model_weights(Offload offload) {
  WeightOptions options;
  if (offload == Offload::kNone) options.residence = Residence::kDevice;
  return options;
}

}  // namespace opensora::models
