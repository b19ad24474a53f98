// Sliding windows of the pooling operators: attributes, output shapes, and where each window of an axis begins and ends.
// Internal to src/ops; values, thread-safe.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ops/operator.h"

namespace ocior::ops::nn {

enum class AutoPad { kNotSet, kValid, kSameUpper, kSameLower };

// One axis of a window at one size: all that its loops need.
struct PoolAxis {
  int64_t in = 0, out = 0;
  int64_t kernel = 1, stride = 1, dilation = 1;
  int64_t before = 0, after = 0;  // elements of padding

  int64_t start(int64_t o) const { return o * stride - before; }
  // Window elements [first, last) lie inside the input.
  int64_t first(int64_t o) const { return start(o) >= 0 ? 0 : std::min(kernel, (dilation - 1 - start(o)) / dilation); }
  int64_t last(int64_t o) const { return within(o, in); }
  // How many window elements lie inside the input or its padding.
  int64_t padded(int64_t o) const { return within(o, in + after); }

 private:
  int64_t within(int64_t o, int64_t end) const {
    return start(o) >= end ? 0 : std::min(kernel, (end - start(o) + dilation - 1) / dilation);
  }
};

struct PoolWindow {
  std::vector<int64_t> kernel, stride, dilation, pads;  // pads: all begins, then all ends
  AutoPad auto_pad = AutoPad::kNotSet;
  bool ceil = false;

  // Reads kernel_shape, strides, pads, and auto_pad, ceil_mode and dilations where the opset has them.
  static PoolWindow parse(const NodeReader& node, int ceil_since, int dilations_since, bool has_auto_pad = true);

  size_t axes() const { return kernel.size(); }
  // Output dims of input `x` [n, c, spatial...].
  Result<Dims> infer(ShapeContext& c, const Dims& x) const;
  // Operations of a pool: each output element looks at its window.
  double work(const BindContext& c) const;
  // The spatial axes of an input of numbers.
  Result<std::vector<PoolAxis>> plan(std::span<const int64_t> x) const;

 private:
  Result<PoolAxis> axis(size_t i, int64_t in) const;
};

}  // namespace ocior::ops::nn
