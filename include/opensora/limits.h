// Numbers beyond which a request is refused before anything runs. No machine makes what lies beyond them; flags,
// configurations and prompts files share them.
#pragma once

#include <cstdint>

namespace opensora {

inline constexpr int64_t kMaxEdge = 16384;     // pixels of a side, read, made or written: what H.264 and H.265 can hold
inline constexpr int64_t kMaxFrames = 100000;  // more than an hour at 24 frames a second
inline constexpr int64_t kMaxSteps = 10000;
inline constexpr int64_t kMaxThreads = 1024;
inline constexpr double kMaxGuidance = 1000;  // and as much below 0
inline constexpr double kMinFlowShift = 0.001, kMaxFlowShift = 1000;
inline constexpr int64_t kMaxFps = 1000;  // frames a second; at least 1
inline constexpr int kMaxCrf = 51;

}  // namespace opensora
