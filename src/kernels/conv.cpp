// What convolutions need besides the matrix product: gathering its right operand from channels-first images, and the depthwise
// product itself. Compiled once per instruction set; leaf headers only.
#include "kernels/table.h"
#include "simd/vec.h"

namespace ocior::OCIOR_ISA {
namespace {

// The lanes of p that `lanes` names, zeros in the others; memory of other lanes is not touched.
OCIOR_INLINE F32 load_lanes(const float* p, Mask lanes) {
#if OCIOR_VEC_512
  return {(F32::V)_mm512_maskz_loadu_ps(lanes.v, p)};
#elif OCIOR_VEC_256
  return {_mm256_maskload_ps(p, (__m256i)lanes.v)};
#else
  F32 r = zero();
  for (int64_t i = 0; i < kLanes; ++i)
    if (lanes.v[i] != 0) r.v[i] = p[i];
  return r;
#endif
}

// Lanes i with lo <= i < hi.
OCIOR_INLINE Mask between(int64_t lo, int64_t hi) {
  const int64_t from = lo < 0 ? 0 : lo > kLanes ? kLanes : lo, to = hi < 0 ? 0 : hi > kLanes ? kLanes : hi;
  return ~first(from) & first(to);
}

// Lanes 0, 2, 4, … of a and then of b.
OCIOR_INLINE F32 even_lanes(F32 a, F32 b) {
#if OCIOR_VEC_BYTES == 64
  return {__builtin_shufflevector(a.v, b.v, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)};
#elif OCIOR_VEC_BYTES == 32
  return {__builtin_shufflevector(a.v, b.v, 0, 2, 4, 6, 8, 10, 12, 14)};
#else
  return {__builtin_shufflevector(a.v, b.v, 0, 2, 4, 6)};
#endif
}

// A vector of a gathered row.
struct Part {
  int64_t to, from;
  Mask lanes;
};
constexpr int64_t kMaxParts = 64;

void gather_masked(const float* x, int64_t plane, const Part* parts, int64_t count, float* y, int64_t ld, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < count; ++i)
      store(load_lanes(x + row * plane + parts[i].from, parts[i].lanes), y + row * ld + parts[i].to);
}

void gather_whole(const float* x, int64_t plane, const Part* parts, int64_t count, float* y, int64_t ld, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < count; ++i) store(load(x + row * plane + parts[i].from), y + row * ld + parts[i].to);
}

// Elements at any distance, one by one.
void gather_scattered(const float* x, int64_t plane, int64_t step, const RowPiece* pieces, int64_t count, float* y, int64_t ld,
                      int64_t rows) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t k = 0; k < count; ++k) {
      const RowPiece& p = pieces[k];
      const float* from = x + row * plane + (p.from + p.lo * step);
      float* to = y + row * ld + p.to;
      for (int64_t i = 0; i < p.lo; ++i) to[i] = 0;
      for (int64_t i = p.lo; i < p.hi; ++i, from += step) to[i] = *from;
      for (int64_t i = p.hi; i < p.n; ++i) to[i] = 0;
    }
}

// Column s of the kernel times the rows below x, added to kRows rows of sums. Each sum meets its taps from top to bottom.
template <int kRows>
struct AnyTaps {
  OCIOR_INLINE static void add(const DepthwiseArgs& a, const float* x, const float* w, F32 (&y)[kRows]) {
    const int64_t next = a.stride_h * a.ldx;
    for (int64_t r = 0; r < a.kernel_h; ++r, x += a.dilation_h * a.ldx, w += a.kernel_w) {
      const F32 weight = load_splat(w);
      OCIOR_UNROLL for (int i = 0; i < kRows; ++i) y[i] = fma(load(x + i * next), weight, y[i]);
    }
  }
};

// The same for dense kernels of kTaps rows: a row of x is read once for all sums that it meets.
template <int kTaps, int kStride>
struct DenseTaps {
  template <int kRows>
  struct Of {
    OCIOR_INLINE static void add(const DepthwiseArgs& a, const float* x, const float* w, F32 (&y)[kRows]) {
      F32 weight[kTaps];
      OCIOR_UNROLL for (int r = 0; r < kTaps; ++r) weight[r] = load_splat(w + r * a.kernel_w);
      OCIOR_UNROLL for (int j = 0; j < (kRows - 1) * kStride + kTaps; ++j, x += a.ldx) {
        const F32 row = load(x);
        OCIOR_UNROLL for (int i = 0; i < kRows; ++i) if (j >= i * kStride && j < i * kStride + kTaps) y[i] =
            fma(row, weight[j - i * kStride], y[i]);
      }
    }
  };
};

// kRows rows of one vector of columns, so that a weight is read once for all.
template <int kRows, class Taps>
OCIOR_INLINE void depthwise_block(const DepthwiseArgs& a, int64_t row, int64_t col, F32 (&y)[kRows]) {
  OCIOR_UNROLL for (int i = 0; i < kRows; ++i) y[i] = splat(a.bias);
  const int64_t remainder = ((a.out_h - 1) * a.stride_h + (a.kernel_h - 1) * a.dilation_h + 1) * a.ldx;  // floats of one
  for (int64_t s = 0; s < a.kernel_w; ++s) {
    const int64_t q = s * a.dilation_w, start = a.stride_w == 1 ? q : q % a.stride_w * remainder + q / a.stride_w;
    Taps::add(a, a.x + start + row * a.stride_h * a.ldx + col, a.w + s, y);
  }
  const F32 lo = splat(a.lo), hi = splat(a.hi);
  OCIOR_UNROLL for (int i = 0; i < kRows; ++i) y[i] = min(hi, max(lo, y[i]));  // NaN passes
}

template <int kRows, class Taps>
void depthwise_rows(const DepthwiseArgs& a, int64_t row, int64_t end) {
  float* const to = a.y + row * a.out_w;
  F32 y[kRows];
  if (a.out_w < kLanes) {
    // Stores of whole vectors run on into the next row, which is stored later; only the last rows have none.
    depthwise_block<kRows, Taps>(a, row, 0, y);
    const int64_t left = (end - row) * a.out_w;
    OCIOR_UNROLL for (int i = 0; i < kRows; ++i) {
      if (left - i * a.out_w >= kLanes) store(y[i], to + i * a.out_w);
      else store(y[i], to + i * a.out_w, a.out_w);
    }
    return;
  }
  for (int64_t col = 0; col < a.out_w; col += kLanes) {
    const int64_t at = col + kLanes <= a.out_w ? col : a.out_w - kLanes;  // the last vector overlaps the one before it
    depthwise_block<kRows, Taps>(a, row, at, y);
    OCIOR_UNROLL for (int i = 0; i < kRows; ++i) store(y[i], to + i * a.out_w + at);
  }
}

template <template <int> class Taps>
void depthwise(const DepthwiseArgs& args, int64_t begin, int64_t end) {
  constexpr int64_t kMost = 8;
  const int64_t blocks = (end - begin + kMost - 1) / kMost;
  int64_t row = begin;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t rows = (end - row + blocks - block - 1) / (blocks - block);
    switch (rows) {
      case 1: depthwise_rows<1, Taps<1>>(args, row, end); break;
      case 2: depthwise_rows<2, Taps<2>>(args, row, end); break;
      case 3: depthwise_rows<3, Taps<3>>(args, row, end); break;
      case 4: depthwise_rows<4, Taps<4>>(args, row, end); break;
      case 5: depthwise_rows<5, Taps<5>>(args, row, end); break;
      case 6: depthwise_rows<6, Taps<6>>(args, row, end); break;
      case 7: depthwise_rows<7, Taps<7>>(args, row, end); break;
      default: depthwise_rows<8, Taps<8>>(args, row, end);
    }
    row += rows;
  }
}

// Every other element: whole vectors, the last one with lanes to spare.
void gather_every_other(const float* x, int64_t plane, const RowPiece* pieces, int64_t count, float* y, int64_t ld,
                        int64_t rows) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t k = 0; k < count; ++k) {
      const RowPiece& p = pieces[k];
      const float* from = x + row * plane + p.from;
      float* to = y + row * ld + p.to;
      for (int64_t i = 0; i < p.lo; ++i) to[i] = 0;
      int64_t i = p.lo;
      for (; i + kLanes < p.hi; i += kLanes) store(even_lanes(load(from + 2 * i), load(from + 2 * i + kLanes)), to + i);
      if (i < p.hi) {
        const int64_t last = 2 * (p.hi - i) - 1;  // elements from here to the last one
        store(
            even_lanes(load_lanes(from + 2 * i, between(0, last)), load_lanes(from + 2 * i + kLanes, between(0, last - kLanes))),
            to + i);
      }
      for (i = p.hi; i < p.n; ++i) to[i] = 0;
    }
}

}  // namespace

void gather_rows_f32(const float* x, int64_t plane, int64_t step, const RowPiece* pieces, int64_t count, float* y, int64_t ld,
                     int64_t rows) {
  if (step == 2) return gather_every_other(x, plane, pieces, count, y, ld, rows);
  if (step != 1) return gather_scattered(x, plane, step, pieces, count, y, ld, rows);
  Part parts[kMaxParts];
  int64_t used = 0;
  bool whole = true;
  for (int64_t k = 0; k < count; ++k) {
    const RowPiece& p = pieces[k];
    for (int64_t i = 0; i < p.n; i += kLanes) {
      if (used == kMaxParts) return gather_scattered(x, plane, step, pieces, count, y, ld, rows);
      parts[used++] = {p.to + i, p.from + i, between(p.lo - i, p.hi - i)};
      whole = whole && p.lo <= i && i + kLanes <= p.hi;
    }
  }
  if (whole) gather_whole(x, plane, parts, used, y, ld, rows);
  else gather_masked(x, plane, parts, used, y, ld, rows);
}

void depthwise_conv_f32(const DepthwiseArgs& args, int64_t begin, int64_t end) {
  const bool dense = args.dilation_h == 1;
  if (dense && args.kernel_h == 3 && args.stride_h == 1) return depthwise<DenseTaps<3, 1>::Of>(args, begin, end);
  if (dense && args.kernel_h == 3 && args.stride_h == 2) return depthwise<DenseTaps<3, 2>::Of>(args, begin, end);
  if (dense && args.kernel_h == 5 && args.stride_h == 1) return depthwise<DenseTaps<5, 1>::Of>(args, begin, end);
  if (dense && args.kernel_h == 5 && args.stride_h == 2) return depthwise<DenseTaps<5, 2>::Of>(args, begin, end);
  depthwise<AnyTaps>(args, begin, end);
}

}  // namespace ocior::OCIOR_ISA
