// How the CPU computes a convolution of bytes, with exact sums that wrap around in 32 bits: y[m, pixels] = w[m, k] * x[k, pixels]
// by the 8-bit product of the kernels, strip of pixels by strip; the float kernel where a group has one input channel and few
// taps, whose sums are exact in float. Thread-safe.
#pragma once

#include "ops/conv/window.h"
#include "ops/operator.h"

namespace ocior::ops::conv {

// The numbers of an operator's inputs; the zero points may be omitted.
struct ByteInputs {
  int x, x_zero, w, w_zero;
};

// Takes the sums of `n` pixels from `pixel` on of output channel `channel`; called from several threads.
class ByteSums {
 public:
  virtual void take(int64_t image, int64_t channel, int64_t pixel, const int32_t* sums, int64_t n) const = 0;

 protected:
  ~ByteSums() = default;
};

// Weights and their zero points, where both are constant, widened once; else null.
Result<std::unique_ptr<Prepared>> prepare_bytes(PrepareContext& c, const ByteInputs& inputs, const Window& window);
size_t byte_scratch(const BindContext& c, const Geometry& g);
// `x`: the bytes of the input with channels second. Fails where the zero points are of another number than x and w need.
Status run_bytes(CpuContext& c, const ByteInputs& inputs, const Geometry& g, const uint8_t* x, const ByteSums& sums,
                 void* scratch);

// out[j * ld_out + i] = in[i * columns + j] of bytes.
void transpose_bytes(const uint8_t* in, int64_t rows, int64_t columns, uint8_t* out, int64_t ld_out);

}  // namespace ocior::ops::conv
