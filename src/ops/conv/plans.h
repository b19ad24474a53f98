// How a float convolution is cut and where its memory lies: what the driver's scratch() and run() agree on. Values; sizes follow
// from shapes and the kernel table alone.
#pragma once

#include <algorithm>

#include "ops/conv/window.h"
#include "ops/nn/numeric.h"

namespace ocior::ops::conv {

inline constexpr int64_t kStripElements = 1 << 16;  // of a gathered strip: half of a common L2 cache
inline constexpr int64_t kMaxPanels = 16;           // of a strip
inline constexpr int64_t kGatherSlack = 64;         // floats that gather_rows_f32 may write behind its last row

inline int64_t round_up(int64_t n, int64_t step) { return nn::chunks_of(n, step) * step; }

// Whether every tap of every output is one input element at the output's own place.
inline bool is_pointwise(const Geometry& g) {
  for (int64_t i = 0; i < g.spatial; ++i) {
    const Axis& a = g.axes[static_cast<size_t>(i)];
    if (a.kernel != 1 || a.stride != 1 || a.before != 0 || a.in != a.out) return false;
  }
  return true;
}

// Columns.
struct ColumnPlan {
  int64_t m, k, pixels, strip, strips, last;  // k with the bias; pixels of a strip and of the last one
  size_t a_bytes[2];                          // the left operand packed for a whole strip and for the last one
  size_t weight_floats;                       // 0 when prepared

  ColumnPlan(const KernelTable& kernels, const Geometry& g, bool bias, bool prepared) {
    const int64_t panel = kernels.gemm_panel(Precision::kHighest);
    m = g.group_outputs(), k = g.taps() * g.group_channels() + (bias ? 1 : 0), pixels = g.pixels();
    const int64_t panels = std::clamp<int64_t>(kStripElements / (panel * std::max<int64_t>(1, k)), 1, kMaxPanels);
    strip = std::min(panels * panel, round_up(pixels, panel));
    strips = nn::chunks_of(pixels, strip);
    last = pixels - (strips - 1) * strip;
    a_bytes[0] = nn::align64(kernels.gemm_a_bytes(m, strip, k, Precision::kHighest));
    a_bytes[1] = nn::align64(kernels.gemm_a_bytes(m, last, k, Precision::kHighest));
    weight_floats = prepared ? 0 : static_cast<size_t>(g.out_channels * k);
  }

  struct Memory {
    float* weights;
    std::byte* a[2];
    float* strips;
    size_t strip_floats;
    size_t bytes;
  };
  Memory carve(const KernelTable& kernels, int workers, void* base) const {
    nn::Carver carver(base);
    Memory out{};
    out.weights = carver.take<float>(weight_floats);
    for (int i = 0; i < 2; ++i) out.a[i] = carver.take(a_bytes[i]);
    out.strip_floats = nn::align64(kernels.gemm_b_bytes(strip, k, Precision::kHighest)) / sizeof(float) + kGatherSlack;
    out.strips = carver.take<float>(out.strip_floats * static_cast<size_t>(workers));
    out.bytes = carver.used();
    return out;
  }
};

// Rows: of one image at a time.
struct RowPlan {
  int64_t m, k, pixels;
  bool pointwise;
  size_t a_bytes;

  RowPlan(const KernelTable& kernels, const Geometry& g, Precision precision) {
    m = g.group_outputs(), k = g.taps() * g.group_channels(), pixels = g.pixels();
    pointwise = is_pointwise(g);
    a_bytes = nn::align64(kernels.gemm_a_bytes(pixels, m, k, precision));
  }

  struct Memory {
    float *x, *rows, *y;
    std::byte* a;
    size_t bytes;
  };
  Memory carve(const Geometry& g, void* base) const {
    nn::Carver carver(base);
    Memory out{};
    out.x = carver.take<float>(static_cast<size_t>(g.plane() * g.channels));
    out.rows = carver.take<float>(pointwise ? 0 : static_cast<size_t>(pixels * k));
    out.y = carver.take<float>(static_cast<size_t>(pixels * g.out_channels));
    out.a = carver.take(a_bytes);
    out.bytes = carver.used();
    return out;
  }
};

}  // namespace ocior::ops::conv
