// Row-wise normalisation of s = x (+ skip) (+ bias) in double, and its spreading over a run's workers: LayerNormalization,
// RMSNormalization and SkipLayerNorm. Internal to src/ops/nn.
#pragma once

#include <span>
#include <vector>

#include "ops/nn/numeric.h"

namespace ocior::ops::nn {

struct NormalizedRow {
  double mean = 0, inv_std = 0;
};

// y = (s - mean) / sqrt(variance + epsilon); rms: y = s / sqrt(mean(s * s) + epsilon).
NormalizedRow normalize(std::span<const double> s, double epsilon, bool rms, std::span<double> y);

// Runs args (of `rows` rows) in chunks of rows.
void run_layer_norm(CpuContext& c, const LayerNormArgs& args, int64_t rows);

// What LayerNormalization and RMSNormalization share: axes, the shape of what is scaled.
struct NormAxes {
  int64_t axis = -1;

  Status infer(ShapeContext& c, DType output) const;                    // checks axis; output 0 has x's shape and `output`
  std::optional<Dims> reduced(const std::optional<Dims>& shape) const;  // x's shape with 1 from axis on
  int64_t row(std::span<const int64_t> shape) const;                    // elements from axis on
  int64_t rows(std::span<const int64_t> shape) const;
  // Whether a scale or bias of this shape has one value per element of a row, in order.
  bool per_element(std::span<const int64_t> x, std::span<const int64_t> scale) const;
};

}  // namespace ocior::ops::nn
