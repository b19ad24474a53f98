// 16-bit floats to float, for logits and statistics.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace ocior::cli {

// IEEE 754 binary16.
inline float from_half(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const float fraction = static_cast<float>(bits & 1023) / 1024;
  const float size = exponent == 0    ? std::ldexp(fraction, -14)
                     : exponent == 31 ? (bits & 1023 ? NAN : INFINITY)
                                      : std::ldexp(1 + fraction, exponent - 15);
  return bits & 0x8000 ? -size : size;
}

inline float from_bfloat16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

}  // namespace ocior::cli
