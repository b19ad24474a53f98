// Between bytes, the integers that their products are, and floats. Compiled once per ISA.
#include "kernels/table.h"
#include "simd/vec.h"

namespace ocior::OCIOR_ISA {
namespace {

// The low bytes of kLanes integers.
typedef int8_t Narrow __attribute__((vector_size(kLanes)));
OCIOR_INLINE Narrow low_bytes(I32 v) {
#if OCIOR_VEC_512
  return (Narrow)_mm512_cvtepi32_epi8((__m512i)v.v);
#elif OCIOR_VEC_256
  const __m256i low = _mm256_and_si256((__m256i)v.v, _mm256_set1_epi32(255));
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  const __m128i bytes = _mm_packus_epi16(words, words);
  Narrow r;
  __builtin_memcpy(&r, &bytes, sizeof r);
  return r;
#else
  return __builtin_convertvector(v.v, Narrow);
#endif
}

// Clamping before rounding gives what rounding first does, as the bounds are integers. NaN becomes the smaller bound.
struct Rounding {
  F32 lo, hi;
  I32 zero;

  OCIOR_INLINE Rounding(int32_t zero, bool is_signed)
      : lo(splat(static_cast<float>((is_signed ? -128 : 0) - zero))),
        hi(splat(static_cast<float>((is_signed ? 127 : 255) - zero))),
        zero(splat_int(zero)) {}
  OCIOR_INLINE Narrow operator()(F32 x) const { return low_bytes(to_int(min(max(x, lo), hi)) + zero); }
};

OCIOR_INLINE I32 load_int(const int32_t* p, int64_t n) {
  I32 r = {};
  __builtin_memcpy(&r.v, p, static_cast<size_t>(n) * sizeof(int32_t));
  return r;
}

// f(begin, count) for pieces of kLanes elements and for the rest.
template <class F>
OCIOR_INLINE void by_lanes(int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, kLanes);
  if (i < n) f(i, n - i);
}

template <class T>
void widen(const T* x, int32_t zero, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(static_cast<int32_t>(x[i]) - zero);
}

}  // namespace

void requantize(const int32_t* x, int32_t add, const float* scale, int64_t step, int32_t zero, bool is_signed, void* y,
                int64_t n) {
  const Rounding round(zero, is_signed);
  const I32 more = splat_int(add);
  const F32 single = step == 0 ? splat(*scale) : F32{};
  auto* to = static_cast<int8_t*>(y);
  by_lanes(
      n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
        const bool whole = count == kLanes;
        const F32 factor = step == 0 ? single : whole ? load(scale + i) : load(scale + i, count, 0);
        const Narrow bytes = round(to_float((whole ? load_int(x + i) : load_int(x + i, count)) + more) * factor);
        if (whole) __builtin_memcpy(to + i, &bytes, sizeof bytes);
        else __builtin_memcpy(to + i, &bytes, static_cast<size_t>(count));
      });
}

void quantize_f32(const float* x, float scale, int32_t zero, bool is_signed, void* y, int64_t n) {
  const Rounding round(zero, is_signed);
  const F32 divisor = splat(scale);
  auto* to = static_cast<int8_t*>(y);
  by_lanes(
      n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
        const bool whole = count == kLanes;
        const Narrow bytes = round((whole ? load(x + i) : load(x + i, count, 0)) / divisor);
        if (whole) __builtin_memcpy(to + i, &bytes, sizeof bytes);
        else __builtin_memcpy(to + i, &bytes, static_cast<size_t>(count));
      });
}

void bounds_f32(const float* x, int64_t n, float* lo, float* hi) {
  F32 least[2] = {}, most[2] = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes)
    for (int j = 0; j < 2; ++j) {
      const F32 v = load(x + i + j * kLanes);
      least[j] = min(v, least[j]);
      most[j] = max(v, most[j]);
    }
  by_lanes(
      n - i, [&](int64_t begin, int64_t count) __attribute__((always_inline)) {
        const F32 v = load(x + i + begin, count, 0);
        least[0] = min(v, least[0]);
        most[0] = max(v, most[0]);
      });
  *lo = reduce_min(min(least[0], least[1]));
  *hi = reduce_max(max(most[0], most[1]));
}

void scale_i32(const int32_t* x, const float* scale, int64_t step, float* y, int64_t n) {
  const F32 single = step == 0 ? splat(*scale) : F32{};
  by_lanes(
      n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
        if (count == kLanes) store(to_float(load_int(x + i)) * (step == 0 ? single : load(scale + i)), y + i);
        else store(to_float(load_int(x + i, count)) * (step == 0 ? single : load(scale + i, count, 0)), y + i, count);
      });
}

void bytes_to_f32(const void* x, bool is_signed, int32_t zero, float* y, int64_t n) {
  if (is_signed) widen(static_cast<const int8_t*>(x), zero, y, n);
  else widen(static_cast<const uint8_t*>(x), zero, y, n);
}

void f32_to_i32(const float* x, int32_t* y, int64_t n) {
  by_lanes(
      n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
        const I32 whole = to_int(count == kLanes ? load(x + i) : load(x + i, count, 0));
        if (count == kLanes) store_int(whole, y + i);
        else __builtin_memcpy(y + i, &whole.v, static_cast<size_t>(count) * sizeof(int32_t));
      });
}

}  // namespace ocior::OCIOR_ISA
