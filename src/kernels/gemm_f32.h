// The fp32 matrix product of this instruction set, as gemm.cpp and the AMX product use it. B lies in panels of kPanel columns,
// [k][kPanel] each, the last one padded with zeros. Every sum is one chain over ascending k that starts at +0, whatever the
// blocking.
#pragma once

#include "kernels/table.h"
#include "simd/vec.h"

namespace ocior::OCIOR_ISA {

// Rows and vectors of the largest register tile: 12 of 16 registers hold sums on avx2 (measured: 4x24 reaches 97 % of the FMA
// peak where 6x16 reaches 87 %), 28 of 32 on avx512, 8 of 16 on the generic table.
#if OCIOR_VEC_BYTES == 64
constexpr int kTileRows = 14, kTileVecs = 2, kTileRegisters = 28;
#elif OCIOR_VEC_BYTES == 32
constexpr int kTileRows = 4, kTileVecs = 3, kTileRegisters = 12;
#else
constexpr int kTileRows = 4, kTileVecs = 2, kTileRegisters = 8;
#endif
constexpr int64_t kPanel = kTileVecs * kLanes;

constexpr int64_t round_up(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

size_t f32_b_bytes(int64_t n, int64_t k);
void f32_pack_b(const float* b, int64_t ldb, bool transposed, int64_t n, int64_t k, int64_t n0, int64_t n1, float* packed);
size_t f32_a_bytes(int64_t m, int64_t n, int64_t k);
void f32_pack_a(const GemmArgs& args, int64_t m0, int64_t m1);
GemmGrid f32_grid(int64_t m, int64_t n, int64_t k);

// Rows [m0, m1) and columns [n0, n1) of C; n0 is a multiple of kPanel and args.b the fp32 form of B.
void f32_block(const GemmArgs& args, int64_t m0, int64_t m1, int64_t n0, int64_t n1);

// A grid of chunks of about `work` multiply-adds: rows in steps of `row_unit` up to `max_rows`, columns in steps of
// `column_unit`.
GemmGrid cut(int64_t m, int64_t n, int64_t k, int64_t row_unit, int64_t max_rows, int64_t column_unit, int64_t work);

}  // namespace ocior::OCIOR_ISA
