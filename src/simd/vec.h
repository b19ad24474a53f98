// The vector of this instruction set: F32 (kLanes floats), I32 (as many int32) and Mask, with the operations that kernels are
// written in. Included by kernel objects only, each of which sees one width: 4 lanes (generic, any machine with GCC vectors), 8
// (avx2), 16 (avx512, amx). With OCIOR_EMULATE the 16 lanes are plain GCC vectors, so that the wide kernels can be tested on any
// machine. A leaf header: everything is inlined and lives in ocior::OCIOR_ISA.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wuninitialized"  // g++ 12 takes the deliberate `__Y = __Y` of its AVX-512 header for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#if (defined(OCIOR_ISA_avx512) || defined(OCIOR_ISA_amx)) && !defined(OCIOR_EMULATE)
#define OCIOR_VEC_512 1
#elif defined(OCIOR_ISA_avx2)
#define OCIOR_VEC_256 1
#endif

#if defined(OCIOR_ISA_avx512) || defined(OCIOR_ISA_amx)
#define OCIOR_VEC_BYTES 64
#elif defined(OCIOR_ISA_avx2)
#define OCIOR_VEC_BYTES 32
#else
#define OCIOR_VEC_BYTES 16
#endif

#define OCIOR_INLINE inline __attribute__((always_inline))
// Before a loop over an array of vectors that must stay in registers. Emulated vectors are memory: unrolling them costs minutes
// to compile.
#if OCIOR_EMULATE
#define OCIOR_UNROLL
#elif defined(__clang__)
#define OCIOR_UNROLL _Pragma("clang loop unroll(full)")
#else
#define OCIOR_UNROLL _Pragma("GCC unroll 16")
#endif

namespace ocior::OCIOR_ISA {

struct F32 {
  typedef float V __attribute__((vector_size(OCIOR_VEC_BYTES)));
  static constexpr int64_t kLanes = OCIOR_VEC_BYTES / 4;
  V v;
};

struct I32 {
  typedef int32_t V __attribute__((vector_size(OCIOR_VEC_BYTES)));
  typedef uint32_t U __attribute__((vector_size(OCIOR_VEC_BYTES)));
  V v;
};

constexpr int64_t kLanes = F32::kLanes;

// One truth value per lane.
struct Mask {
#if OCIOR_VEC_512
  __mmask16 v;
#else
  I32::V v;  // 0 or -1
#endif
};

// ---- construction, memory ----

OCIOR_INLINE F32 splat(float x) { return {x - F32::V{}}; }  // x - 0 is x, also for -0
OCIOR_INLINE I32 splat_int(int32_t x) { return {x - I32::V{}}; }
OCIOR_INLINE F32 zero() { return {F32::V{}}; }

// 0, 1, 2, … kLanes - 1.
OCIOR_INLINE I32 iota() {
#if OCIOR_VEC_BYTES == 64
  return {I32::V{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
#elif OCIOR_VEC_BYTES == 32
  return {I32::V{0, 1, 2, 3, 4, 5, 6, 7}};
#else
  return {I32::V{0, 1, 2, 3}};
#endif
}

OCIOR_INLINE F32 load(const float* p) {
  F32 r;
  __builtin_memcpy(&r.v, p, sizeof r.v);
  return r;
}

OCIOR_INLINE void store(F32 a, float* p) { __builtin_memcpy(p, &a.v, sizeof a.v); }

OCIOR_INLINE I32 load_int(const int32_t* p) {
  I32 r;
  __builtin_memcpy(&r.v, p, sizeof r.v);
  return r;
}

OCIOR_INLINE void store_int(I32 a, int32_t* p) { __builtin_memcpy(p, &a.v, sizeof a.v); }

// The mask of the first n lanes, 0 <= n <= kLanes.
OCIOR_INLINE Mask first(int64_t n) {
#if OCIOR_VEC_512
  return {static_cast<__mmask16>((1u << n) - 1)};
#else
  return {iota().v < static_cast<int32_t>(n)};
#endif
}

// The first n floats at p (0 <= n <= kLanes; memory beyond them is not touched), `fill` in the other lanes.
OCIOR_INLINE F32 load(const float* p, int64_t n, float fill) {
#if OCIOR_VEC_512
  return {(F32::V)_mm512_mask_loadu_ps((__m512)splat(fill).v, first(n).v, p)};
#elif OCIOR_VEC_256
  const __m256i m = (__m256i)first(n).v;
  return {_mm256_blendv_ps(splat(fill).v, _mm256_maskload_ps(p, m), (__m256)m)};
#else
  F32 r = splat(fill);
  for (int64_t i = 0; i < n; ++i) r.v[i] = p[i];
  return r;
#endif
}

// The first n lanes only.
OCIOR_INLINE void store(F32 a, float* p, int64_t n) {
#if OCIOR_VEC_512
  _mm512_mask_storeu_ps(p, first(n).v, (__m512)a.v);
#elif OCIOR_VEC_256
  _mm256_maskstore_ps(p, (__m256i)first(n).v, a.v);
#else
  for (int64_t i = 0; i < n; ++i) p[i] = a.v[i];
#endif
}

// ---- bits ----

OCIOR_INLINE I32 bits(F32 a) { return {(I32::V)a.v}; }
OCIOR_INLINE F32 from_bits(I32 a) { return {(F32::V)a.v}; }
OCIOR_INLINE I32 operator+(I32 a, I32 b) { return {(I32::V)((I32::U)a.v + (I32::U)b.v)}; }
OCIOR_INLINE I32 operator-(I32 a, I32 b) { return {(I32::V)((I32::U)a.v - (I32::U)b.v)}; }
OCIOR_INLINE I32 operator&(I32 a, I32 b) { return {a.v & b.v}; }
OCIOR_INLINE I32 operator|(I32 a, I32 b) { return {a.v | b.v}; }
OCIOR_INLINE I32 operator^(I32 a, I32 b) { return {a.v ^ b.v}; }
OCIOR_INLINE I32 operator~(I32 a) { return {~a.v}; }
template <int kBits>
OCIOR_INLINE I32 shift_left(I32 a) {
  return {(I32::V)((I32::U)a.v << kBits)};
}
template <int kBits>
OCIOR_INLINE I32 shift_right(I32 a) {
  return {a.v >> kBits};
}  // copies the sign
template <int kBits>
OCIOR_INLINE I32 shift_right_logical(I32 a) {
  return {(I32::V)((I32::U)a.v >> kBits)};
}

// ---- arithmetic ----

OCIOR_INLINE F32 operator+(F32 a, F32 b) { return {a.v + b.v}; }
OCIOR_INLINE F32 operator-(F32 a, F32 b) { return {a.v - b.v}; }
OCIOR_INLINE F32 operator*(F32 a, F32 b) { return {a.v * b.v}; }
OCIOR_INLINE F32 operator/(F32 a, F32 b) { return {a.v / b.v}; }
OCIOR_INLINE F32 operator-(F32 a) { return from_bits(bits(a) ^ splat_int(INT32_MIN)); }
OCIOR_INLINE F32 abs(F32 a) { return from_bits(bits(a) & splat_int(INT32_MAX)); }
OCIOR_INLINE F32 copysign(F32 magnitude, F32 sign) {
  return from_bits((bits(magnitude) & splat_int(INT32_MAX)) | (bits(sign) & splat_int(INT32_MIN)));
}

// Whether fma rounds once.
#if (defined(__FMA__) || defined(__ARM_FEATURE_FMA)) && !defined(OCIOR_EMULATE)
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif

// a * b + c, rounded once where the machine can (always on avx2 and wider).
OCIOR_INLINE F32 fma(F32 a, F32 b, F32 c) {
#if OCIOR_VEC_512
  return {(F32::V)_mm512_fmadd_ps((__m512)a.v, (__m512)b.v, (__m512)c.v)};
#elif OCIOR_VEC_256
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
#else
  return {a.v * b.v + c.v};
#endif
}

// c - a * b, like fma.
OCIOR_INLINE F32 fnma(F32 a, F32 b, F32 c) {
#if OCIOR_VEC_512
  return {(F32::V)_mm512_fnmadd_ps((__m512)a.v, (__m512)b.v, (__m512)c.v)};
#elif OCIOR_VEC_256
  return {_mm256_fnmadd_ps(a.v, b.v, c.v)};
#else
  return {c.v - a.v * b.v};
#endif
}

// *p in every lane.
OCIOR_INLINE F32 load_splat(const float* p) {
#if OCIOR_VEC_512
  return {(F32::V)_mm512_set1_ps(*p)};
#elif OCIOR_VEC_256
  return {_mm256_set1_ps(*p)};
#else
  return splat(*p);
#endif
}

// sum += x * y, for register tiles: in assembly, since with all registers taken g++ picks forms that overwrite x or y and spills
// sums.
OCIOR_INLINE void accumulate(F32& sum, F32 x, F32 y) {
#if OCIOR_VEC_512
  __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum.v) : "v"(x.v), "v"(y.v));
#elif OCIOR_VEC_256
  __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum.v) : "x"(x.v), "x"(y.v));
#else
  sum = fma(x, y, sum);
#endif
}

// ---- comparison, selection ----

#if OCIOR_VEC_512
OCIOR_INLINE Mask operator<(F32 a, F32 b) { return {_mm512_cmp_ps_mask((__m512)a.v, (__m512)b.v, _CMP_LT_OQ)}; }
OCIOR_INLINE Mask operator<=(F32 a, F32 b) { return {_mm512_cmp_ps_mask((__m512)a.v, (__m512)b.v, _CMP_LE_OQ)}; }
OCIOR_INLINE Mask operator==(F32 a, F32 b) { return {_mm512_cmp_ps_mask((__m512)a.v, (__m512)b.v, _CMP_EQ_OQ)}; }
OCIOR_INLINE Mask operator!=(F32 a, F32 b) { return {_mm512_cmp_ps_mask((__m512)a.v, (__m512)b.v, _CMP_NEQ_UQ)}; }
OCIOR_INLINE Mask operator<(I32 a, I32 b) { return {_mm512_cmp_epi32_mask((__m512i)a.v, (__m512i)b.v, _MM_CMPINT_LT)}; }
OCIOR_INLINE Mask operator==(I32 a, I32 b) { return {_mm512_cmp_epi32_mask((__m512i)a.v, (__m512i)b.v, _MM_CMPINT_EQ)}; }
OCIOR_INLINE Mask operator&(Mask a, Mask b) { return {static_cast<__mmask16>(a.v & b.v)}; }
OCIOR_INLINE Mask operator|(Mask a, Mask b) { return {static_cast<__mmask16>(a.v | b.v)}; }
OCIOR_INLINE Mask operator~(Mask a) { return {static_cast<__mmask16>(~a.v)}; }
OCIOR_INLINE F32 select(Mask m, F32 yes, F32 no) { return {(F32::V)_mm512_mask_blend_ps(m.v, (__m512)no.v, (__m512)yes.v)}; }
OCIOR_INLINE I32 select(Mask m, I32 yes, I32 no) { return {(I32::V)_mm512_mask_blend_epi32(m.v, (__m512i)no.v, (__m512i)yes.v)}; }
OCIOR_INLINE bool any(Mask m) { return m.v != 0; }
#else
OCIOR_INLINE Mask operator<(F32 a, F32 b) { return {a.v < b.v}; }
OCIOR_INLINE Mask operator<=(F32 a, F32 b) { return {a.v <= b.v}; }
OCIOR_INLINE Mask operator==(F32 a, F32 b) { return {a.v == b.v}; }
OCIOR_INLINE Mask operator!=(F32 a, F32 b) { return {a.v != b.v}; }
OCIOR_INLINE Mask operator<(I32 a, I32 b) { return {a.v < b.v}; }
OCIOR_INLINE Mask operator==(I32 a, I32 b) { return {a.v == b.v}; }
OCIOR_INLINE Mask operator&(Mask a, Mask b) { return {a.v & b.v}; }
OCIOR_INLINE Mask operator|(Mask a, Mask b) { return {a.v | b.v}; }
OCIOR_INLINE Mask operator~(Mask a) { return {~a.v}; }
OCIOR_INLINE I32 select(Mask m, I32 yes, I32 no) { return {(m.v & yes.v) | (~m.v & no.v)}; }
OCIOR_INLINE F32 select(Mask m, F32 yes, F32 no) {
#if OCIOR_VEC_256
  return {_mm256_blendv_ps(no.v, yes.v, (__m256)m.v)};
#else
  return from_bits(select(m, bits(yes), bits(no)));
#endif
}
OCIOR_INLINE bool any(Mask m) {
#if OCIOR_VEC_256
  return _mm256_movemask_ps((__m256)m.v) != 0;
#else
  int32_t r = 0;
  for (int64_t i = 0; i < kLanes; ++i) r |= m.v[i];
  return r != 0;
#endif
}
#endif
OCIOR_INLINE Mask operator>(F32 a, F32 b) { return b < a; }
OCIOR_INLINE Mask operator>=(F32 a, F32 b) { return b <= a; }
OCIOR_INLINE Mask operator>(I32 a, I32 b) { return b < a; }
OCIOR_INLINE Mask is_nan(F32 a) { return a != a; }

// a < b ? a : b and a > b ? a : b, lane by lane: the second operand where one is NaN or both are zeros.
OCIOR_INLINE F32 min(F32 a, F32 b) {
#if OCIOR_VEC_512
  return {(F32::V)_mm512_min_ps((__m512)a.v, (__m512)b.v)};
#elif OCIOR_VEC_256
  return {_mm256_min_ps(a.v, b.v)};
#elif defined(__SSE2__) && !defined(OCIOR_EMULATE)
  return {_mm_min_ps(a.v, b.v)};
#else
  return select(a < b, a, b);
#endif
}
OCIOR_INLINE F32 max(F32 a, F32 b) {
#if OCIOR_VEC_512
  return {(F32::V)_mm512_max_ps((__m512)a.v, (__m512)b.v)};
#elif OCIOR_VEC_256
  return {_mm256_max_ps(a.v, b.v)};
#elif defined(__SSE2__) && !defined(OCIOR_EMULATE)
  return {_mm_max_ps(a.v, b.v)};
#else
  return select(b < a, a, b);
#endif
}

// The same, but NaN where either operand is NaN.
OCIOR_INLINE F32 min_nan(F32 a, F32 b) { return select(is_nan(a), a, min(a, b)); }
OCIOR_INLINE F32 max_nan(F32 a, F32 b) { return select(is_nan(a), a, max(a, b)); }

// ---- rounding, conversion ----

// To the nearest integer, ties to even; keeps -0, infinities and NaN.
OCIOR_INLINE F32 round(F32 a) {
#if OCIOR_VEC_512
  return {(F32::V)_mm512_roundscale_ps((__m512)a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
#elif OCIOR_VEC_256
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
#else
  const F32 magnitude = abs(a), magic = splat(8388608.0f);  // 2^23: adding it leaves no fraction bits
  return select(magnitude < magic, copysign((magnitude + magic) - magic, a), a);
#endif
}

OCIOR_INLINE F32 floor(F32 a) {
#if OCIOR_VEC_512
  return {(F32::V)_mm512_roundscale_ps((__m512)a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
#elif OCIOR_VEC_256
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
#else
  const F32 r = round(a);
  return copysign(select(a < r, r - splat(1), r), a);
#endif
}

OCIOR_INLINE F32 ceil(F32 a) { return -floor(-a); }

// The nearest int32 (ties to even). |a| < 2^31, else unspecified.
OCIOR_INLINE I32 to_int(F32 a) {
#if OCIOR_VEC_512
  return {(I32::V)_mm512_cvtps_epi32((__m512)a.v)};
#elif OCIOR_VEC_256
  return {(I32::V)_mm256_cvtps_epi32(a.v)};
#elif defined(__SSE2__) && !defined(OCIOR_EMULATE)
  return {(I32::V)_mm_cvtps_epi32(a.v)};
#else
  return {__builtin_convertvector(round(a).v, I32::V)};
#endif
}

OCIOR_INLINE F32 to_float(I32 a) { return {__builtin_convertvector(a.v, F32::V)}; }

OCIOR_INLINE F32 sqrt(F32 a) {
#if OCIOR_VEC_512
  return {(F32::V)_mm512_sqrt_ps((__m512)a.v)};
#elif OCIOR_VEC_256
  return {_mm256_sqrt_ps(a.v)};
#elif defined(__SSE2__) && !defined(OCIOR_EMULATE)
  return {_mm_sqrt_ps(a.v)};
#else
  F32 r;
  for (int64_t i = 0; i < kLanes; ++i) r.v[i] = __builtin_sqrtf(a.v[i]);
  return r;
#endif
}

// 2^n for whole n, -126 <= n <= 127.
OCIOR_INLINE F32 exp2_int(I32 n) { return from_bits(shift_left<23>(n + splat_int(127))); }

// a * 2^n for whole n, -252 <= n <= 254, rounded once where the result is normal or zero (at most twice where it is subnormal).
OCIOR_INLINE F32 scalef(F32 a, F32 n) {
#if OCIOR_VEC_512
  return {(F32::V)_mm512_scalef_ps((__m512)a.v, (__m512)n.v)};
#else
  const I32 whole = to_int(n), half = shift_right<1>(whole);
  return (a * exp2_int(half)) * exp2_int(whole - half);
#endif
}

// ---- horizontal, in a fixed order: lanes i and i + kLanes / 2 first, then quarters, and so on ----

namespace horizontal {
template <class V, class F>
OCIOR_INLINE float fold(V v, F f) {
  float lane[kLanes];
  __builtin_memcpy(lane, &v, sizeof v);
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) lane[i] = f(lane[i], lane[i + half]);
  return lane[0];
}
#if OCIOR_VEC_512
OCIOR_INLINE __m256 high(__m512 a) { return _mm512_extractf32x8_ps(a, 1); }
OCIOR_INLINE __m256 low(__m512 a) { return _mm512_castps512_ps256(a); }
#endif
#if OCIOR_VEC_512 || OCIOR_VEC_256
OCIOR_INLINE __m128 high(__m256 a) { return _mm256_extractf128_ps(a, 1); }
OCIOR_INLINE __m128 low(__m256 a) { return _mm256_castps256_ps128(a); }
OCIOR_INLINE __m128 high(__m128 a) { return _mm_movehl_ps(a, a); }
OCIOR_INLINE __m128 odd(__m128 a) { return _mm_movehdup_ps(a); }
#endif
}  // namespace horizontal

OCIOR_INLINE float reduce_add(F32 a) {
#if OCIOR_VEC_512 || OCIOR_VEC_256
  using namespace horizontal;
#if OCIOR_VEC_512
  const __m256 w = _mm256_add_ps(low((__m512)a.v), high((__m512)a.v));
#else
  const __m256 w = a.v;
#endif
  __m128 r = _mm_add_ps(low(w), high(w));
  r = _mm_add_ps(r, high(r));
  return _mm_cvtss_f32(_mm_add_ss(r, odd(r)));
#else
  return horizontal::fold(
      a.v, [](float x, float y) __attribute__((always_inline)) { return x + y; });
#endif
}

// Some maximum or minimum where a lane is NaN.
OCIOR_INLINE float reduce_max(F32 a) {
#if OCIOR_VEC_512 || OCIOR_VEC_256
  using namespace horizontal;
#if OCIOR_VEC_512
  const __m256 w = _mm256_max_ps(low((__m512)a.v), high((__m512)a.v));
#else
  const __m256 w = a.v;
#endif
  __m128 r = _mm_max_ps(low(w), high(w));
  r = _mm_max_ps(r, high(r));
  return _mm_cvtss_f32(_mm_max_ss(r, odd(r)));
#else
  return horizontal::fold(
      a.v, [](float x, float y) __attribute__((always_inline)) { return x > y ? x : y; });
#endif
}
OCIOR_INLINE float reduce_min(F32 a) { return -reduce_max(-a); }

// The same, but NaN where a lane is NaN.
OCIOR_INLINE float reduce_max_nan(F32 a) { return any(is_nan(a)) ? __builtin_nanf("") : reduce_max(a); }
OCIOR_INLINE float reduce_min_nan(F32 a) { return any(is_nan(a)) ? __builtin_nanf("") : reduce_min(a); }

}  // namespace ocior::OCIOR_ISA
