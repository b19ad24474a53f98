// The last step of every matrix product: rows of finished sums become rows of C. Included by the GEMM kernels of each instruction
// set. A leaf header: everything is inlined or a template and lives in ocior::OCIOR_ISA.
#pragma once

#include "kernels/table.h"
#include "simd/math.h"
#include "simd/vec.h"

namespace ocior::OCIOR_ISA {

// True where the tile kernels can finish an element in registers: alpha, bias, a cheap activation and residual.
OCIOR_INLINE bool is_light(const Epilogue& e) {
  return e.act == Activation::kNone || e.act == Activation::kRelu || e.act == Activation::kClip ||
         e.act == Activation::kHardSwish;
}

OCIOR_INLINE F32 hard_swish(F32 x) { return x * min(splat(1), max(zero(), fma(x, splat(1.0f / 6), splat(0.5f)))); }

// Copies the part of the bias that belongs to columns [n0, n0 + width) into `padded`, zeros beyond n and without a bias.
OCIOR_INLINE const float* panel_bias(const GemmArgs& args, int64_t n0, int64_t width, float* padded) {
  const float* bias = args.epilogue.bias;
  if (bias != nullptr && n0 + width <= args.n) return bias + n0;
  for (int64_t j = 0; j < width; ++j) padded[j] = bias != nullptr && n0 + j < args.n ? bias[n0 + j] : 0;
  return padded;
}

// Rows of sums, row stride `ld`, columns [n0, n0 + cols) of rows [m0, m0 + rows) of C; `bias` starts at column n0 and is readable
// for a whole number of vectors. A lambda per activation keeps the switch out of the loop.
template <class F>
void finish_with(const GemmArgs& args, const float* sums, int64_t ld, const float* bias, int64_t m0, int64_t n0, int64_t rows,
                 int64_t cols, F act) {
  const Epilogue& e = args.epilogue;
  const F32 alpha = splat(e.alpha);
  for (int64_t i = 0; i < rows; ++i) {
    float* c = args.c + (m0 + i) * args.ldc + n0;
    const float* residual = e.residual == nullptr ? nullptr : e.residual + (m0 + i) * e.ld_residual + n0;
    int64_t j = 0;
    for (; j + kLanes <= cols; j += kLanes) {
      F32 y = act(fma(load(sums + i * ld + j), alpha, load(bias + j)));
      if (residual != nullptr) y = y + load(residual + j);
      store(y, c + j);
    }
    if (j == cols) continue;
    F32 y = act(fma(load(sums + i * ld + j), alpha, load(bias + j)));
    if (residual != nullptr) y = y + load(residual + j, cols - j, 0);
    store(y, c + j, cols - j);
  }
}

// The same for the activation of `args`; `sums` is readable for a whole number of vectors in every row.
inline void finish(const GemmArgs& args, const float* sums, int64_t ld, const float* bias, int64_t m0, int64_t n0, int64_t rows,
                   int64_t cols) {
  const F32 lo = splat(args.epilogue.lo), hi = splat(args.epilogue.hi);
  const auto run = [&](auto act) { finish_with(args, sums, ld, bias, m0, n0, rows, cols, act); };
  // NaN passes through: min and max return their second operand where one is NaN.
  switch (args.epilogue.act) {
    case Activation::kNone: return run([](F32 x) { return x; });
    case Activation::kRelu: return run([](F32 x) { return max(zero(), x); });
    case Activation::kGeluErf: return run([](F32 x) { return gelu_erf(x); });
    case Activation::kGeluTanh: return run([](F32 x) { return gelu_tanh(x); });
    case Activation::kTanh: return run([](F32 x) { return tanh(x); });
    case Activation::kSigmoid: return run([](F32 x) { return sigmoid(x); });
    case Activation::kSilu: return run([](F32 x) { return silu(x); });
    case Activation::kHardSwish: return run([](F32 x) { return hard_swish(x); });
    case Activation::kHardSigmoid: return run([=](F32 x) { return min(splat(1), max(zero(), fma(x, lo, hi))); });
    case Activation::kLeakyRelu: return run([=](F32 x) { return select(x < zero(), x * lo, x); });
    case Activation::kClip: return run([=](F32 x) { return min(hi, max(lo, x)); });
  }
}

}  // namespace ocior::OCIOR_ISA
