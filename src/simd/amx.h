// The AMX tile registers: eight tiles of 16 rows by 64 bytes. Inline assembly, since the compilers' intrinsics take no template
// parameters and tell the optimiser nothing of the memory they touch. With OCIOR_EMULATE the same names are software, so that the
// kernels above can be tested anywhere. Included by the kernels of the amx table only; a leaf header, all in ocior::OCIOR_ISA.
//
// A kernel calls tiles_begin() before its first tile and tiles_end() after its last; tiles belong to the calling thread.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "simd/vec.h"

namespace ocior::OCIOR_ISA {

constexpr int64_t kTileBytes = 1024;  // 16 rows of 64 bytes: 16 x 32 bf16, or 16 x 16 fp32
constexpr int64_t kTileK = 32;        // bf16 values in a row

#if !OCIOR_EMULATE

// Palette 1, every tile at its full size (Intel SDM vol. 2A, LDTILECFG).
OCIOR_INLINE void tiles_begin() {
  struct __attribute__((packed)) {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } config = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
  __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
}

// Back to the initial state: the operating system then has no tiles to save.
OCIOR_INLINE void tiles_end() { __asm__ volatile("tilerelease" : : : "memory"); }

template <int kTile>
OCIOR_INLINE void tile_zero() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(kTile));
}

// 16 rows of 64 bytes at p, p + stride, …
template <int kTile>
OCIOR_INLINE void tile_load(const void* p, int64_t stride) {
  __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(p), "r"(stride) : "memory");
}

template <int kTile>
OCIOR_INLINE void tile_store(void* p, int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kTile), "r"(p), "r"(stride) : "memory");
}

// sum[m][n] += the products over k of a[m][k] (bf16) and b[k / 2][2 n + k % 2] (bf16): TDPBF16PS. Denormals count as zero, in and
// out.
template <int kSum, int kA, int kB>
OCIOR_INLINE void tile_multiply() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}

#else

namespace emulated {

struct Tiles {
  uint32_t word[8][16][16];
  bool begun;
};
static __thread Tiles tiles;

OCIOR_INLINE float flush(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  if ((bits & 0x7f800000u) == 0) bits &= 0x80000000u;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

OCIOR_INLINE float as_float(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return flush(x);
}

// One row of TDPBF16PS as the manual's pseudocode has it: even and odd k in two fused chains, their sum added to the tile.
static void multiply_row(uint32_t* sum, const uint32_t* a, const uint32_t (*b)[16]) {
  float chain[16][2] = {};
  for (int k = 0; k < 16; ++k)
    for (int n = 0; n < 16; ++n) {
      chain[n][0] = flush(__builtin_fmaf(as_float(a[k] << 16), as_float(b[k][n] << 16), chain[n][0]));
      chain[n][1] = flush(__builtin_fmaf(as_float(a[k] & 0xffff0000u), as_float(b[k][n] & 0xffff0000u), chain[n][1]));
    }
  for (int n = 0; n < 16; ++n) {
    const float total = flush(as_float(sum[n]) + flush(chain[n][0] + chain[n][1]));
    __builtin_memcpy(&sum[n], &total, 4);
  }
}

}  // namespace emulated

OCIOR_INLINE void tiles_begin() {
  __builtin_memset(&emulated::tiles, 0, sizeof emulated::tiles);
  emulated::tiles.begun = true;
}

OCIOR_INLINE void tiles_end() { emulated::tiles.begun = false; }

template <int kTile>
OCIOR_INLINE void tile_zero() {
  __builtin_memset(emulated::tiles.word[kTile], 0, kTileBytes);
}

template <int kTile>
OCIOR_INLINE void tile_load(const void* p, int64_t stride) {
  if (!emulated::tiles.begun) __builtin_trap();  // the instruction would fault too
  for (int i = 0; i < 16; ++i) __builtin_memcpy(emulated::tiles.word[kTile][i], static_cast<const char*>(p) + i * stride, 64);
}

template <int kTile>
OCIOR_INLINE void tile_store(void* p, int64_t stride) {
  if (!emulated::tiles.begun) __builtin_trap();
  for (int i = 0; i < 16; ++i) __builtin_memcpy(static_cast<char*>(p) + i * stride, emulated::tiles.word[kTile][i], 64);
}

template <int kSum, int kA, int kB>
OCIOR_INLINE void tile_multiply() {
  if (!emulated::tiles.begun) __builtin_trap();
  for (int i = 0; i < 16; ++i)
    emulated::multiply_row(emulated::tiles.word[kSum][i], emulated::tiles.word[kA][i], emulated::tiles.word[kB]);
}

#endif

}  // namespace ocior::OCIOR_ISA
