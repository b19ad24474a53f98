// Which input elements the pixels of a convolution's output meet, in pieces of rows for the kernel that gathers them. For the
// driver; nothing here allocates.
#pragma once

#include <algorithm>

#include "ops/conv/window.h"

namespace ocior::ops::conv {

// A run of pixels in one row of the output: where its windows begin in the input.
struct PixelRun {
  int64_t to = 0, n = 0;  // place and length among the pixels asked for
  int64_t first = 0;      // place of the first pixel's tap 0 along the last axis; may lie in the padding
};

// The pixels [begin, end) of an output, at most kMost, for all taps.
class Pixels {
 public:
  static constexpr int64_t kMost = 64;

  Pixels(const Geometry& g, int64_t begin, int64_t end)
      : g_(g), outer_(g.spatial - 1), inner_(g.axes[static_cast<size_t>(outer_)]) {
    for (int64_t p = begin; p < end;) {
      const int64_t column = p % inner_.out;
      PixelRun& run = runs_[count_];
      run = {p - begin, std::min(inner_.out - column, end - p), inner_.place(column, 0)};
      int64_t row = p / inner_.out;
      for (int64_t i = outer_; i-- > 0;) {
        const Axis& a = g.axes[static_cast<size_t>(i)];
        places_[count_ * outer_ + i] = a.place(row % a.out, 0);
        row /= a.out;
      }
      p += run.n, ++count_;
    }
  }

  // The pieces of a row of tap `tap`, whose places along the axes are tap[i] * dilation. Returns their number.
  int64_t pieces(const int64_t* tap, RowPiece* out) const {
    const int64_t shift = tap[outer_];
    for (int64_t k = 0; k < count_; ++k) {
      const PixelRun& run = runs_[k];
      out[k] = {.to = run.to, .n = run.n};
      const int64_t row = row_of(k, tap);
      if (row < 0) continue;
      const int64_t start = run.first + shift, step = inner_.stride;
      out[k].from = row * inner_.in + start;
      if (start < 0) out[k].lo = std::min(run.n, (-start + step - 1) / step);
      if (start + (run.n - 1) * step < inner_.in) out[k].hi = run.n;
      else if (start < inner_.in) out[k].hi = (inner_.in - start + step - 1) / step;
      out[k].hi = std::max(out[k].hi, out[k].lo);
    }
    return count_;
  }

  // The input element that pixel 0 meets with this tap, or -1 in the padding.
  int64_t element(const int64_t* tap) const {
    const int64_t row = row_of(0, tap), place = runs_[0].first + tap[outer_];
    return row < 0 || place < 0 || place >= inner_.in ? -1 : row * inner_.in + place;
  }

 private:
  // Row of a channel's plane that run k meets, or -1 in the padding.
  int64_t row_of(int64_t k, const int64_t* tap) const {
    int64_t row = 0;
    for (int64_t i = 0; i < outer_; ++i) {
      const int64_t place = places_[k * outer_ + i] + tap[i], in = g_.axes[static_cast<size_t>(i)].in;
      if (place < 0 || place >= in) return -1;
      row = row * in + place;
    }
    return row;
  }

  const Geometry& g_;
  int64_t outer_;  // axes but the last
  const Axis& inner_;
  int64_t count_ = 0;
  PixelRun runs_[kMost];
  int64_t places_[kMost * kMaxSpatial];  // of tap 0 along the outer axes
};

// Walks the taps of a window in order: shift() holds tap * dilation along every axis.
class TapWalk {
 public:
  explicit TapWalk(const Geometry& g) : g_(g) { std::fill_n(shift_, g.spatial, int64_t{0}); }
  const int64_t* shift() const { return shift_; }
  void next() {
    for (int64_t i = g_.spatial; i-- > 0;) {
      const Axis& a = g_.axes[static_cast<size_t>(i)];
      shift_[i] += a.dilation;
      if (shift_[i] < a.kernel * a.dilation) return;
      shift_[i] = 0;
    }
  }

 private:
  const Geometry& g_;
  int64_t shift_[kMaxSpatial];
};

}  // namespace ocior::ops::conv
