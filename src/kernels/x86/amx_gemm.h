// The matrix product on bf16 tiles, as gemm.cpp of the amx table uses it.
#pragma once

#include "kernels/table.h"

namespace ocior::OCIOR_ISA {

// True where B[k, n] is stored as bf16 tiles (`medium`, large enough that every product qualifies); else it is the fp32 form,
// from which the parts are made on the fly.
bool tiles_store_b(int64_t n, int64_t k, Precision precision);

// bf16 parts per operand of a product on tiles; 0 where the fp32 kernels compute it: few rows (they are then at memory speed), or
// too small (k < 64 or m n k < 2^18) for a precision below fp32 and for the cost of splitting.
int tiles_parts(int64_t m, int64_t n, int64_t k, Precision precision);

size_t tiles_b_bytes(int64_t n, int64_t k);
void tiles_pack_b(const float* b, int64_t ldb, bool transposed, int64_t n, int64_t k, int64_t n0, int64_t n1, void* packed);
size_t tiles_a_bytes(int64_t m, int64_t k, int parts);
// m0 is a multiple of 32.
void tiles_pack_a(const GemmArgs& args, int parts, int64_t m0, int64_t m1);
GemmGrid tiles_grid(int64_t m, int64_t n, int64_t k, int parts);

// Rows [m0, m1) and columns [n0, n1) of C, m0 and n0 multiples of 32.
void tiles_block(const GemmArgs& args, int parts, int64_t m0, int64_t m1, int64_t n0, int64_t n1);

}  // namespace ocior::OCIOR_ISA
