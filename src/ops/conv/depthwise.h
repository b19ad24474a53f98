// Convolutions with one input channel for each group, channel by channel: what the float and the byte driver share. Values and
// plain functions; thread-safe.
#pragma once

#include <algorithm>

#include "ops/conv/plans.h"

namespace ocior::ops::conv {

inline bool fits_depthwise(const Geometry& g) { return g.group_channels() == 1 && g.group > 1 && g.spatial <= 2; }

// Whether a padded plane is of a size that memory can hold; a kernel of huge dilation goes by columns instead.
inline bool has_modest_padding(const Geometry& g) {
  int64_t reach = 1;
  for (int64_t i = 0; i < g.spatial; ++i) {
    const Axis& a = g.axes[static_cast<size_t>(i)];
    const int64_t most = 2 * a.in + 64;
    const int64_t padded = (a.out - 1) * a.stride + (a.kernel - 1) * a.dilation + 1;
    if (padded > most || a.stride > most || __builtin_mul_overflow(reach, padded, &reach)) return false;
  }
  return true;
}
inline bool depthwise_pays(const Geometry& g) { return fits_depthwise(g) && has_modest_padding(g); }

// Depthwise: a padded plane for each worker, with the columns of each remainder by the stride together.
struct DepthwisePlan {
  int64_t rows, cols;    // padded; columns of one remainder
  int64_t phase, plane;  // floats of one remainder; of the whole with slack

  explicit DepthwisePlan(const Geometry& g) {
    const auto reach = [](const Axis& a) { return (a.out - 1) * a.stride + (a.kernel - 1) * a.dilation + 1; };
    const Axis& w = g.axes[static_cast<size_t>(g.spatial - 1)];
    cols = nn::chunks_of(reach(w), w.stride);
    rows = g.spatial == 2 ? reach(g.axes[0]) : 1;
    phase = rows * cols;
    plane = round_up(phase * w.stride + DepthwiseArgs::kSlack, 16);
  }
};

// The input of one channel inside its padding, which is zero already.
inline void copy_plane(const KernelTable& kernels, const Geometry& g, const DepthwisePlan& plan, const float* x, float* to) {
  const Axis& w = g.axes[static_cast<size_t>(g.spatial - 1)];
  const Axis h = g.spatial == 2 ? g.axes[0] : Axis{};
  const int64_t rows = std::min(h.in, plan.rows - h.before);
  for (int64_t phase = 0; phase < w.stride; ++phase, to += plan.phase) {
    const int64_t start = phase - w.before;  // input place of column 0
    RowPiece piece{.to = 0, .from = start, .n = plan.cols};
    piece.lo = start >= 0 ? 0 : std::min(plan.cols, nn::chunks_of(-start, w.stride));
    piece.hi = start >= w.in ? 0 : std::min(plan.cols, nn::chunks_of(w.in - start, w.stride));
    piece.hi = std::max(piece.lo, piece.hi);
    if (rows > 0) kernels.gather_rows_f32(x, w.in, w.stride, &piece, 1, to + h.before * plan.cols, plan.cols, rows);
  }
}

}  // namespace ocior::ops::conv
