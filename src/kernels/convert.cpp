// Half-precision formats to and from float: IEEE binary16 and bfloat16. Narrowing rounds to nearest, ties to even; NaN stays NaN
// (made quiet, upper payload kept). Compiled once per instruction set; leaf headers only.
#include "kernels/table.h"
#include "simd/vec.h"

namespace ocior::OCIOR_ISA {
namespace {

typedef uint16_t HalfV __attribute__((vector_size(OCIOR_VEC_BYTES / 2)));

OCIOR_INLINE I32 widen(HalfV h) { return {__builtin_convertvector(h, I32::V)}; }
OCIOR_INLINE HalfV narrow(I32 a) { return __builtin_convertvector(a.v, HalfV); }

// Integer arithmetic and one exact subtraction: right also where the caller flushes subnormals.
OCIOR_INLINE F32 from_f16(HalfV h) {
#if OCIOR_VEC_512
  return {(F32::V)_mm512_cvtph_ps((__m256i)h)};
#elif OCIOR_VEC_256
  return {_mm256_cvtph_ps((__m128i)h)};
#else
  const I32 w = widen(h), sign = shift_left<16>(w & splat_int(0x8000)), rest = shift_left<13>(w & splat_int(0x7fff));
  const F32 small = from_bits(rest + splat_int(113 << 23)) - from_bits(splat_int(113 << 23));
  const I32 special = rest | splat_int(0x7f800000);
  const I32 quiet = select(special > splat_int(0x7f800000), special | splat_int(0x00400000), special);
  const I32 normal = rest + splat_int(112 << 23);
  I32 r = select(rest < splat_int(0x0400 << 13), bits(small), normal);
  r = select(rest < splat_int(0x7c00 << 13), r, quiet);
  return from_bits(r | sign);
#endif
}

OCIOR_INLINE HalfV to_f16(F32 x) {
#if OCIOR_VEC_512
  return (HalfV)_mm512_cvtps_ph((__m512)x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif OCIOR_VEC_256
  return (HalfV)_mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const I32 magnitude = bits(x) & splat_int(INT32_MAX), sign = shift_right_logical<16>(bits(x)) & splat_int(0x8000);
  const I32 odd = shift_right<13>(magnitude) & splat_int(1);
  const I32 normal = shift_right<13>(magnitude + odd + splat_int(0xfff - (112 << 23)));
  const I32 half = splat_int(126 << 23);  // 0.5f: its last bit is binary16's smallest step
  const I32 small = bits(from_bits(magnitude) + from_bits(half)) - half;
  const I32 payload = splat_int(0x7e00) | (shift_right<13>(magnitude) & splat_int(0x3ff));
  const I32 special = select(magnitude > splat_int(0x7f800000), payload, splat_int(0x7c00));
  I32 r = select(magnitude < splat_int(113 << 23), small, normal);
  r = select(magnitude < splat_int(143 << 23), r, special);
  return narrow(r | sign);
#endif
}

OCIOR_INLINE F32 from_bf16(HalfV h) { return from_bits(shift_left<16>(widen(h))); }

OCIOR_INLINE HalfV to_bf16(F32 x) {
  const I32 b = bits(x), odd = shift_right_logical<16>(b) & splat_int(1);
  const I32 rounded = b + splat_int(0x7fff) + odd, quiet = b | splat_int(0x00400000);
  return narrow(shift_right_logical<16>(select((b & splat_int(INT32_MAX)) > splat_int(0x7f800000), quiet, rounded)));
}

// f over whole vectors, then over a last one padded with zeros.
template <class In, class Out, class F>
OCIOR_INLINE void each(const In* x, Out* y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(x + i, y + i);
  if (i == n) return;
  In in[kLanes] = {};
  Out out[kLanes];
  for (int64_t j = 0; j < n - i; ++j) in[j] = x[i + j];
  f(in, out);
  for (int64_t j = 0; j < n - i; ++j) y[i + j] = out[j];
}

template <class F>
OCIOR_INLINE void widen_each(const uint16_t* x, float* y, int64_t n, F f) {
  each(
      x, y, n, [f](const uint16_t* in, float* out) __attribute__((always_inline)) {
        HalfV h;
        __builtin_memcpy(&h, in, sizeof h);
        store(f(h), out);
      });
}

template <class F>
OCIOR_INLINE void narrow_each(const float* x, uint16_t* y, int64_t n, F f) {
  each(
      x, y, n, [f](const float* in, uint16_t* out) __attribute__((always_inline)) {
        const HalfV h = f(load(in));
        __builtin_memcpy(out, &h, sizeof h);
      });
}

}  // namespace

void f16_to_f32(const uint16_t* x, float* y, int64_t n) {
  widen_each(
      x, y, n, [](HalfV h) __attribute__((always_inline)) { return from_f16(h); });
}
void f32_to_f16(const float* x, uint16_t* y, int64_t n) {
  narrow_each(
      x, y, n, [](F32 v) __attribute__((always_inline)) { return to_f16(v); });
}
void bf16_to_f32(const uint16_t* x, float* y, int64_t n) {
  widen_each(
      x, y, n, [](HalfV h) __attribute__((always_inline)) { return from_bf16(h); });
}
void f32_to_bf16(const float* x, uint16_t* y, int64_t n) {
  narrow_each(
      x, y, n, [](F32 v) __attribute__((always_inline)) { return to_bf16(v); });
}

}  // namespace ocior::OCIOR_ISA
