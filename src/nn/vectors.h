// What loops over numbers need for the compiler to make vectors of them.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "core/multiversion.h"
#include "nn/fused_functors.h"

namespace opensora::nn {

// As c10::BFloat16 lies in memory, with conversions that become vectors; c10's have branches.
struct BFloat16 {
  uint16_t bits;
  OPENSORA_KERNEL explicit operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};

OPENSORA_KERNEL inline void store(BFloat16& place, float value) {
  const auto wide = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16;  // to nearest, ties to even
  place.bits = static_cast<uint16_t>(std::isnan(value) ? 0x7FC0 : rounded);
}

}  // namespace opensora::nn
