// Transposition of a matrix of 32-bit elements in register tiles. Compiled once per instruction set; leaf headers only.
#include "kernels/table.h"
#include "simd/vec.h"

namespace ocior::OCIOR_ISA {
namespace {

// One tile: kTile columns of out rows, read as kTile rows of in.
#if defined(__AVX2__)
constexpr int64_t kTile = 8;

OCIOR_INLINE void tile(const float* in, int64_t ld_in, float* out, int64_t ld_out) {
  __m256 r[8], s[8];
  OCIOR_UNROLL for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(in + i * ld_in);
  OCIOR_UNROLL for (int i = 0; i < 8; i += 2) {
    s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  OCIOR_UNROLL for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xee);
  }
  OCIOR_UNROLL for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * ld_out, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * ld_out, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}
#else
constexpr int64_t kTile = 4;

OCIOR_INLINE void tile(const float* in, int64_t ld_in, float* out, int64_t ld_out) {
  typedef float V __attribute__((vector_size(16)));
  V r[4];
  OCIOR_UNROLL for (int i = 0; i < 4; ++i) __builtin_memcpy(&r[i], in + i * ld_in, sizeof r[i]);
  const V a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
  const V c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  const V t[4] = {__builtin_shufflevector(a, c, 0, 1, 4, 5), __builtin_shufflevector(a, c, 2, 3, 6, 7),
                  __builtin_shufflevector(b, d, 0, 1, 4, 5), __builtin_shufflevector(b, d, 2, 3, 6, 7)};
  OCIOR_UNROLL for (int i = 0; i < 4; ++i) __builtin_memcpy(out + i * ld_out, &t[i], sizeof t[i]);
}
#endif

void plain(const float* in, int64_t ld_in, float* out, int64_t ld_out, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) out[i * ld_out + j] = in[j * ld_in + i];
}

// One block, small enough that the lines of both sides stay in L1.
void block(const float* in, int64_t ld_in, float* out, int64_t ld_out, int64_t m, int64_t n) {
  const int64_t m_body = m - m % kTile, n_body = n - n % kTile;
  for (int64_t i = 0; i < m_body; i += kTile)
    for (int64_t j = 0; j < n_body; j += kTile) tile(in + j * ld_in + i, ld_in, out + i * ld_out + j, ld_out);
  plain(in + n_body * ld_in, ld_in, out + n_body, ld_out, m_body, n - n_body);
  plain(in + m_body, ld_in, out + m_body * ld_out, ld_out, m - m_body, n);
}

}  // namespace

void transpose_f32(const float* in, int64_t ld_in, float* out, int64_t ld_out, int64_t m, int64_t n) {
  constexpr int64_t kBlock = 32;
  for (int64_t i = 0; i < m; i += kBlock) {
    const int64_t rows = m - i < kBlock ? m - i : kBlock;
    for (int64_t j = 0; j < n; j += kBlock) {
      const int64_t columns = n - j < kBlock ? n - j : kBlock;
      block(in + j * ld_in + i, ld_in, out + i * ld_out + j, ld_out, rows, columns);
    }
  }
}

}  // namespace ocior::OCIOR_ISA
