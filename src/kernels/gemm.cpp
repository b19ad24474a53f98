// The matrix product of the kernel table: fp32 on every instruction set, AMX on top where the table has it. Compiled once per ISA.
#include "kernels/gemm_f32.h"
#include "kernels/table.h"

namespace ocior::OCIOR_ISA {

int64_t gemm_panel(Precision) { return kPanel; }

size_t gemm_b_bytes(int64_t n, int64_t k, Precision) { return f32_b_bytes(n, k); }

void gemm_pack_b(const float* b, int64_t ldb, bool transposed, int64_t n, int64_t k, int64_t n0, int64_t n1, Precision, void* packed) {
  f32_pack_b(b, ldb, transposed, n, k, n0, n1, static_cast<float*>(packed));
}

size_t gemm_a_bytes(int64_t m, int64_t n, int64_t k, Precision) { return f32_a_bytes(m, n, k); }

GemmGrid gemm_grid(int64_t m, int64_t n, int64_t k, Precision) { return f32_grid(m, n, k); }

void gemm_pack_a(const GemmArgs& args, int64_t m0, int64_t m1) { f32_pack_a(args, m0, m1); }

void gemm_chunk(const GemmArgs& args, const GemmGrid& grid, int64_t m_chunk, int64_t n_chunk) {
  const int64_t m0 = m_chunk * grid.m_step, n0 = n_chunk * grid.n_step;
  const int64_t m1 = args.m - m0 < grid.m_step ? args.m : m0 + grid.m_step, n1 = args.n - n0 < grid.n_step ? args.n : n0 + grid.n_step;
  f32_block(args, m0, m1, n0, n1);
}

}  // namespace ocior::OCIOR_ISA
