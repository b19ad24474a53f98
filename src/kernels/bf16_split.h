// fp32 values as sums of bf16 parts, for products on bf16 tiles. A leaf header: everything is inlined, in ocior::OCIOR_ISA.
//
// Three parts hold a value exactly (8 + 8 + 8 significant bits), two hold about 16 bits, one is the value rounded to nearest
// even. Rounding that would overflow truncates instead; infinities and NaN stand in the first part, the others are then 0. Parts
// below 2^-126 count as zero in the tiles, so a value under 2^-110 keeps fewer bits and a subnormal counts as zero.
#pragma once

#include "simd/vec.h"

namespace ocior::OCIOR_ISA {

// The parts, largest first, as fp32 vectors whose low 16 bits do not count.
template <int kParts>
struct Split {
  I32 part[kParts];
};

constexpr int32_t kHighHalf = static_cast<int32_t>(0xffff0000u);

// x rounded to bf16 (low half 0), its remainder in `rest`. kEven: ties to even, as conversions to bf16 do; else away from zero,
// which is cheaper and as good where the remainder is kept.
template <bool kEven>
OCIOR_INLINE I32 round_bf16(F32 x, F32& rest) {
  const I32 u = bits(x), size = u & splat_int(INT32_MAX);
  const I32 half = kEven ? (shift_right_logical<16>(u) & splat_int(1)) + splat_int(0x7fff) : splat_int(0x8000);
  I32 high = (u + half) & splat_int(kHighHalf);
  const Mask beyond = splat_int(0x7f7f7fff) < size;  // would round to infinity, or is no number
  rest = x - from_bits(high);
  if (__builtin_expect(any(beyond), 0)) {
    const Mask nan = splat_int(0x7f800000) < size, special = splat_int(0x7f7fffff) < size;
    const I32 quiet = select(nan, splat_int(0x00400000), splat_int(0));  // a NaN stays one when its low bits go
    high = select(beyond, (u & splat_int(kHighHalf)) | quiet, high);
    rest = select(special, zero(), x - from_bits(high));
  }
  return high;
}

template <int kParts>
OCIOR_INLINE Split<kParts> split(F32 x) {
  Split<kParts> s;
  F32 rest, least;
  s.part[0] = round_bf16<kParts == 1>(x, rest);
  if constexpr (kParts == 2) s.part[1] = bits(rest) + splat_int(0x8000);
  if constexpr (kParts == 3) {
    s.part[1] = bits(rest) & splat_int(kHighHalf);
    least = rest - from_bits(s.part[1]);
    s.part[2] = bits(least);
  }
  return s;
}

}  // namespace ocior::OCIOR_ISA
