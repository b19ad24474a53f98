// The kernels as plain functions over raw pointers, one table per instruction set. Kernels see neither tensors nor graphs.
// `kernels()` is the process's table: the widest that the machine and OCIOR_ISA allow, chosen once. All kernels are reentrant.
// A leaf header: included by per-ISA objects, so no std:: templates and no inline functions with external linkage here.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace ocior {

// Session option `ocior.precision`, in PyTorch's words. highest: at least as accurate as fp32 multiply-add; high: two bf16 parts,
// three products; medium: bf16 products, fp32 sums. A table without AMX computes all three as `highest`.
enum class Precision : int32_t { kHighest, kHigh, kMedium };

enum class Activation : int32_t {
  kNone,
  kRelu,
  kGeluErf,
  kGeluTanh,
  kTanh,
  kSigmoid,
  kSilu,
  kHardSwish,
  kHardSigmoid,
  kLeakyRelu,
  kClip
};

// What happens to an output tile before it is stored: y = act(alpha * acc + bias[col]) + residual[row, col].
struct Epilogue {
  const float* bias = nullptr;      // [n]
  const float* residual = nullptr;  // [m, n], row stride ld_residual (elements); may be the output itself
  int64_t ld_residual = 0;
  Activation act = Activation::kNone;
  float lo = 0, hi = 0;  // kClip bounds; kLeakyRelu slope in lo; kHardSigmoid alpha, beta in lo, hi
  float alpha = 1;
};

// C[m, n] = epilogue(A[m, k] * B[k, n]); row strides in elements, columns dense. B is packed by gemm_pack_b for the same table
// and precision.
struct GemmArgs {
  const float* a = nullptr;
  int64_t lda = 0;
  const void* b = nullptr;
  float* c = nullptr;
  int64_t ldc = 0;
  int64_t m = 0, n = 0, k = 0;
  Precision precision = Precision::kHighest;
  Epilogue epilogue;
  void* a_packed = nullptr;  // gemm_a_bytes(m, n, k, precision) bytes, 64-byte aligned; null when that is 0
};

// How one product is cut. Every chunk is at most about 1 ms of work; the grid does not depend on the number of threads,
// and no output element's summation order depends on the grid.
struct GemmGrid {
  int64_t m_step = 0, n_step = 0;  // rows and columns of a chunk (multiples of the tile, but for the last)
  int64_t m_chunks = 0, n_chunks = 0;
};

// C[m, n] = A * (B - b_zero) in 32-bit integers that wrap around, of forms that gemm_i8_pack_row and gemm_i8_pack_b make.
struct ByteGemmArgs {
  const int16_t* a = nullptr;  // [m], rows lda elements apart
  int64_t lda = 0;
  const int32_t* a_sums = nullptr;  // [m], of the rows; read where there is b_zero
  const int8_t* b = nullptr;        // the whole form of B[k, n]
  // Not null: B is scattered. Rows 2 i and 2 i + 1 of it begin at b + pairs[i], their bytes in turns column by column, and may be
  // read for one panel behind the last column.
  const int64_t* pairs = nullptr;
  const int32_t* b_zero = nullptr;  // of columns [n0, n1); null: zeros
  int32_t* c = nullptr;             // [m, n1 - n0], row stride ldc
  int64_t ldc = 0;
  int64_t m = 0, k = 0;
};

// Attention of one packed or strided set of heads: out = softmax(scale * q kᵀ + bias, masked) v. Strides are in elements; the
// last axis is dense.
struct AttentionArgs {
  const float *q = nullptr, *k = nullptr, *v = nullptr;
  float* out = nullptr;
  int64_t batch = 0, heads = 0, kv_heads = 0;  // heads is a multiple of kv_heads
  int64_t q_len = 0, kv_len = 0, head_dim = 0, v_dim = 0;
  int64_t q_batch = 0, q_head = 0, q_row = 0;
  int64_t k_batch = 0, k_head = 0, k_row = 0;
  int64_t v_batch = 0, v_head = 0, v_row = 0;
  int64_t o_batch = 0, o_head = 0, o_row = 0;
  float scale = 1;
  const float* bias = nullptr;  // additive, strides 0 where broadcast; last axis dense [kv_len]
  int64_t bias_batch = 0, bias_head = 0, bias_row = 0;
  const uint8_t* mask = nullptr;  // 1 = attend; same stride rules
  int64_t mask_batch = 0, mask_head = 0, mask_row = 0;
  const int32_t* kv_lengths = nullptr;  // [batch]: keys at and beyond are masked (never read); null: all kv_len
  bool causal = false;                  // key j is visible to query i when j <= i + kv_len - q_len
  bool zero_masked_rows = false;        // a row with no visible key gives 0 (else NaN, as softmax of -inf does)
  Precision precision = Precision::kHighest;
};

enum class UnaryFn : int32_t {
  kNeg,
  kAbs,
  kSqrt,
  kReciprocal,
  kExp,
  kLog,
  kErf,
  kTanh,
  kSigmoid,
  kRelu,
  kGeluErf,
  kGeluTanh,
  kSilu,
  kHardSwish,
  kHardSigmoid,
  kLeakyRelu,
  kElu,
  kSoftplus,
  kClip,
  kFloor,
  kCeil,
  kRound,
  kSign,
  kSin,
  kCos,
};

enum class BinaryFn : int32_t { kAdd, kSub, kMul, kDiv, kPow, kMax, kMin };

enum class ReduceFn : int32_t { kSum, kMax, kMin, kSumSquare, kSumAbs };

// Row-wise normalisation of s = x (+ skip) (+ bias): y = (s - mean(s)) / sqrt(var(s) + epsilon) * gamma + beta over n elements.
struct LayerNormArgs {
  const float* x = nullptr;      // [rows, n]
  const float* skip = nullptr;   // [rows, n] or null
  const float* bias = nullptr;   // [n] or null
  const float* gamma = nullptr;  // [n]; null: 1
  const float* beta = nullptr;   // [n]; null: 0
  float* y = nullptr;            // [rows, n]; may be x or skip
  float* sum = nullptr;          // [rows, n] receives s, or null
  float* mean = nullptr;         // [rows] or null
  float* inv_std = nullptr;      // [rows] or null
  int64_t n = 0;
  float epsilon = 0;
  bool rms = false;  // y = s / sqrt(mean(s²) + epsilon) * gamma
};

// A piece of a row that is gathered for a convolution: n elements, of which [lo, hi) come from x + from + i * step, others are 0.
struct RowPiece {
  int64_t to = 0, from = 0;  // where the piece begins in the row; x's offset of element 0, which may lie outside when lo > 0
  int64_t n = 0, lo = 0, hi = 0;
};

// One channel of a depthwise convolution, clip(sum of w * x + bias, lo, hi). The padded x holds its columns by their remainder by
// stride_w: for each (out_h - 1) * stride_h + (kernel_h - 1) * dilation_h + 1 rows, ldx apart, of every stride_w-th column.
struct DepthwiseArgs {
  const float* x = nullptr;  // readable for kSlack elements behind the last one that a sum needs
  int64_t ldx = 0;
  const float* w = nullptr;  // [kernel_h, kernel_w]
  float* y = nullptr;        // [out_h, out_w], dense
  int64_t out_h = 0, out_w = 0;
  int64_t kernel_h = 0, kernel_w = 0;
  int64_t stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  float bias = 0;
  float lo = -__builtin_inff(), hi = __builtin_inff();

  static constexpr int64_t kSlack = 16;
};

struct KernelTable {
  const char* name;  // "generic", "avx2", "avx512", "amx"
#define KERNEL(name, ret, ...) ret (*name)(__VA_ARGS__);
#include "kernels/kernel_list.inc"
#undef KERNEL
};

// The table of this process. OCIOR_ISA=<name> forces a lower one; an unknown or unsupported name is reported by kernels_error().
const KernelTable& kernels();

// All tables this machine can run, widest last.
struct KernelTables {
  const KernelTable* const* tables;
  size_t count;
};
KernelTables available_kernels();

// Empty, or why the wish in OCIOR_ISA cannot be met (every session creation fails with it), with the tables that exist.
const char* kernels_error();

// Why wider tables than the chosen one are not used ("amx: not supported by this processor", …), one line per table; may be
// empty.
const char* kernels_notes();

}  // namespace ocior
