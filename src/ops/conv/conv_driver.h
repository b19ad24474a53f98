// How the CPU computes a float convolution. Three ways, chosen by shapes alone:
//   columns    y[m, pixels] = w[m, k] * x[k, pixels]: strips of pixels are gathered into the right operand of the matrix product;
//   rows       y[pixels, m] = x[pixels, k] * w[k, m]: weights packed once at load; better for small images;
//   depthwise  one kernel per channel, where a group has one input channel.
// k runs over taps first and channels second, and ends with a 1 that the bias is multiplied with (columns). Thread-safe.
#pragma once

#include <string>

#include "ops/conv/window.h"
#include "ops/operator.h"

namespace ocior::ops::conv {

// The activation that follows every sum (and residual), with Epilogue's lo and hi.
struct Tail {
  Activation act = Activation::kNone;
  float lo = 0, hi = 0;
};

// Weights (input 1) and bias (input 2, if any), constant and of float: packed for the way that their shapes and x's ask for.
Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c, const Window& window);
// Scratch of a run, and the run itself: y = tail(conv(x, w) + bias + residual), residual (input 3, if any) of y's shape. All of
// float.
size_t scratch(const BindContext& c, const Window& window);
Status run(CpuContext& c, const Window& window, const Tail& tail);
std::string describe(const Prepared* prepared);

}  // namespace ocior::ops::conv
