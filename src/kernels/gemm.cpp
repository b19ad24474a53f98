// The matrix product of the kernel table: fp32 on every instruction set, bf16 tiles on top where the table has them. Compiled
// once per ISA. What computes a product is decided by its whole shape and its precision, never by a chunk.
#include "kernels/gemm_f32.h"
#include "kernels/table.h"
#if OCIOR_ISA_amx
#include "kernels/x86/amx_gemm.h"
#endif

namespace ocior::OCIOR_ISA {

#if !OCIOR_ISA_amx
namespace {

// The tables without tiles compute every precision in fp32.
bool tiles_store_b(int64_t, int64_t, Precision) { return false; }
int tiles_parts(int64_t, int64_t, int64_t, Precision) { return 0; }
size_t tiles_b_bytes(int64_t, int64_t) { return 0; }
void tiles_pack_b(const float*, int64_t, bool, int64_t, int64_t, int64_t, int64_t, void*) {}
size_t tiles_a_bytes(int64_t, int64_t, int) { return 0; }
void tiles_pack_a(const GemmArgs&, int, int64_t, int64_t) {}
GemmGrid tiles_grid(int64_t m, int64_t n, int64_t k, int) { return f32_grid(m, n, k); }
void tiles_block(const GemmArgs&, int, int64_t, int64_t, int64_t, int64_t) {}

}  // namespace
#endif

int64_t gemm_panel(Precision) { return kPanel; }

size_t gemm_b_bytes(int64_t n, int64_t k, Precision precision) {
  return tiles_store_b(n, k, precision) ? tiles_b_bytes(n, k) : f32_b_bytes(n, k);
}

void gemm_pack_b(const float* b, int64_t ldb, bool transposed, int64_t n, int64_t k, int64_t n0, int64_t n1, Precision precision,
                 void* packed) {
  if (tiles_store_b(n, k, precision)) return tiles_pack_b(b, ldb, transposed, n, k, n0, n1, packed);
  f32_pack_b(b, ldb, transposed, n, k, n0, n1, static_cast<float*>(packed));
}

size_t gemm_a_bytes(int64_t m, int64_t n, int64_t k, Precision precision) {
  const int parts = tiles_parts(m, n, k, precision);
  return parts > 0 ? tiles_a_bytes(m, k, parts) : f32_a_bytes(m, n, k);
}

GemmGrid gemm_grid(int64_t m, int64_t n, int64_t k, Precision precision) {
  const int parts = tiles_parts(m, n, k, precision);
  return parts > 0 ? tiles_grid(m, n, k, parts) : f32_grid(m, n, k);
}

void gemm_pack_a(const GemmArgs& args, int64_t m0, int64_t m1) {
  if (args.a_packed == nullptr) return;
  const int parts = tiles_parts(args.m, args.n, args.k, args.precision);
  if (parts > 0) return tiles_pack_a(args, parts, m0, m1);
  f32_pack_a(args, m0, m1);
}

void gemm_chunk(const GemmArgs& args, const GemmGrid& grid, int64_t m_chunk, int64_t n_chunk) {
  const int64_t m0 = m_chunk * grid.m_step, n0 = n_chunk * grid.n_step;
  const int64_t m1 = args.m - m0 < grid.m_step ? args.m : m0 + grid.m_step,
                n1 = args.n - n0 < grid.n_step ? args.n : n0 + grid.n_step;
  const int parts = tiles_parts(args.m, args.n, args.k, args.precision);
  if (parts > 0) tiles_block(args, parts, m0, m1, n0, n1);
  else f32_block(args, m0, m1, n0, n1);
}

}  // namespace ocior::OCIOR_ISA
