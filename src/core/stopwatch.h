// How long work takes, in seconds.
#pragma once

#include <ATen/ATen.h>

#include <chrono>
#include <functional>

#include "core/device.h"

namespace opensora {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// With all that it launches on `device`, which has nothing else to do.
inline double seconds_of(at::Device device, const std::function<void()>& work) {
  synchronize(device);
  const auto start = std::chrono::steady_clock::now();
  work();
  synchronize(device);
  return seconds_since(start);
}

}  // namespace opensora
