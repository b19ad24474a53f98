// How MaxPool and AveragePool run: windows as folds of dense rows by the kernels. Internal to src/ops/nn.
#pragma once

#include <algorithm>
#include <vector>

#include "ops/nn/numeric.h"
#include "ops/nn/pool.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops::nn {

// How run() goes: rows of the input are combined into one row (over all axes but the last), then windows along that row. The
// outer axes are walked as one list of kernel positions.
class RowPool {
 public:
  RowPool(const std::vector<PoolAxis>& axes) : axes_(axes), last_(axes.back()) {  // NOLINT: from a plan
    for (size_t i = 0; i + 1 < axes.size(); ++i) rows_ *= axes[i].out;
    for (const PoolAxis& a : axes) plane_ *= a.in;
  }

  const std::vector<PoolAxis>& axes() const { return axes_; }
  int64_t rows() const { return rows_; }
  int64_t plane() const { return plane_; }
  const PoolAxis& last() const { return last_; }

  // f(offset of an input row) for the rows that output row `row` combines; returns the outer windows' padded size.
  template <class F>
  double each_row(int64_t row, F&& f) const {
    int64_t begin[kMaxRank], end[kMaxRank], place[kMaxRank], start[kMaxRank];
    const size_t n = axes_.size() - 1;
    double padded = 1;
    bool empty = false;
    for (size_t i = n; i-- > 0; row /= axes_[i].out) {
      const int64_t o = row % axes_[i].out;
      start[i] = axes_[i].start(o), place[i] = begin[i] = axes_[i].first(o), end[i] = axes_[i].last(o);
      padded *= static_cast<double>(axes_[i].padded(o));
      empty |= begin[i] >= end[i];
    }
    for (bool more = !empty; more;) {
      int64_t at = 0;
      for (size_t i = 0; i < n; ++i) at = at * axes_[i].in + start[i] + place[i] * axes_[i].dilation;
      f(at * last_.in);
      more = false;
      for (size_t i = n; i-- > 0 && !more;) {
        more = ++place[i] < end[i];
        if (!more) place[i] = begin[i];
      }
    }
    return padded;
  }

  // How many input elements the outer part of output row `row` covers.
  double covered(int64_t row) const {
    double n = 1;
    for (size_t i = axes_.size() - 1; i-- > 0; row /= axes_[i].out) {
      const int64_t o = row % axes_[i].out;
      n *= static_cast<double>(std::max<int64_t>(0, axes_[i].last(o) - axes_[i].first(o)));
    }
    return n;
  }

 private:
  const std::vector<PoolAxis>& axes_;
  const PoolAxis& last_;
  int64_t rows_ = 1, plane_ = 1;
};

struct Larger {
  static constexpr ReduceFn fn = ReduceFn::kMax;
  template <class T>
  static T of(T a, T b) {
    return b > a || b != b ? b : a;
  }
};
struct Sum {
  static constexpr ReduceFn fn = ReduceFn::kSum;
  static float of(float a, float b) { return a + b; }
};

// acc[i] = Fold(acc[i], x[i]).
template <class Fold, class T>
void fold_row(const KernelTable& k, const T* x, T* acc, int64_t n) {
  if constexpr (std::is_same_v<T, float>) {
    k.reduce_into_f32(Fold::fn, x, acc, n);
  } else {
    for (int64_t i = 0; i < n; ++i) acc[i] = Fold::of(acc[i], x[i]);
  }
}

// y[o] = the window at o of one row, folded from `none`. A strided row is first parted into its phases, each of them dense:
// `phases` has room for a row.
template <class Fold, class T>
void fold_windows(const KernelTable& k, const PoolAxis& a, const T* row, T none, T* phases, T* y) {
  const int64_t whole = a.in / a.stride;
  if (a.stride == 2) {
    for (int64_t i = 0; i < whole; ++i) phases[i] = row[2 * i], phases[whole + i] = row[2 * i + 1];
  } else if (a.stride > 1 && a.stride < a.kernel * a.dilation) {
    for (int64_t p = 0; p < a.stride; ++p)
      for (int64_t i = 0; i < whole; ++i) phases[p * whole + i] = row[i * a.stride + p];
  }
  const bool parted = a.stride == 2 || (a.stride > 1 && a.stride < a.kernel * a.dilation);
  std::fill_n(y, a.out, none);
  const int64_t begin = std::max<int64_t>(0, (a.before - (a.out - 1) * a.stride) / a.dilation);
  const int64_t end = std::min(a.kernel, (a.in + a.before - 1) / a.dilation + 1);
  for (int64_t j = begin; j < end; ++j) {
    const int64_t shift = j * a.dilation - a.before;  // of the element under output 0
    const int64_t first = shift >= 0 ? 0 : (a.stride - 1 - shift) / a.stride;
    const int64_t last = shift >= a.in ? 0 : std::min(a.out, (a.in - shift + a.stride - 1) / a.stride);
    if (first >= last) continue;
    const T* const x = row + shift + first * a.stride;
    if (a.stride == 1) {
      fold_row<Fold>(k, x, y + first, last - first);
      continue;
    }
    const int64_t place = x - row, dense = parted ? std::min(last - first, whole - place / a.stride) : 0;
    if (dense > 0) fold_row<Fold>(k, phases + place % a.stride * whole + place / a.stride, y + first, dense);
    for (int64_t o = first + dense; o < last; ++o) y[o] = Fold::of(y[o], x[(o - first) * a.stride]);
  }
}

// An image pooled at stride 1: laid out with its padding, so that each step of a window is one fold of the whole plane, first
// along its rows, then down its columns.
struct PlanePool {
  int64_t width = 0, height = 0;  // of the padded plane; 0: not such a pool

  explicit PlanePool(const std::vector<PoolAxis>& axes) {
    constexpr int64_t kMostCells = 1 << 15, kMostKernel = 16;
    if (axes.size() != 2) return;
    for (const PoolAxis& a : axes)
      if (a.stride != 1 || a.kernel > kMostKernel || a.in == 0 || padded(a) > kMostCells) return;
    if (padded(axes[0]) * padded(axes[1]) <= kMostCells) height = padded(axes[0]), width = padded(axes[1]);
  }
  int64_t cells() const { return width * height; }

 private:
  static int64_t padded(const PoolAxis& a) { return a.out + (a.kernel - 1) * a.dilation; }
};

// Pools planes over the team as above. `buffers`: three padded planes per worker.
template <class Fold, class T, class Finish>
void pool_planes(CpuContext& c, const RowPool& pool, const PlanePool& plane, T none, T* buffers, Finish&& finish) {
  const PoolAxis &v = pool.axes()[0], &h = pool.axes()[1];
  const int64_t width = plane.width, along = plane.cells() - (h.kernel - 1) * h.dilation, down = (v.out - 1) * width + h.out;
  const int64_t rows = std::min(v.in, plane.height - v.before), columns = std::min(h.in, width - h.before);
  parallel_rows(c, c.in(0).shape[0] * c.in(0).shape[1], 2 * plane.cells(), [&](int64_t begin, int64_t end, int worker) {
    T* const x = buffers + worker * 3 * plane.cells();
    T* const folded = x + plane.cells();
    T* const out = folded + plane.cells();
    std::fill_n(x, plane.cells(), none);
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t i = 0; i < rows; ++i)
        if (columns > 0)
          std::copy_n(c.in(0).as<T>() + p * pool.plane() + i * h.in, columns, x + (v.before + i) * width + h.before);
      std::copy_n(x, along, folded);
      for (int64_t k = 1; k < h.kernel; ++k) fold_row<Fold>(c.kernels(), x + k * h.dilation, folded, along);
      std::copy_n(folded, down, out);
      for (int64_t k = 1; k < v.kernel; ++k) fold_row<Fold>(c.kernels(), folded + k * v.dilation * width, out, down);
      for (int64_t o = 0; o < v.out; ++o) {
        T* const y = c.out(0).as<T>() + (p * v.out + o) * h.out;
        std::copy_n(out + o * width, h.out, y);
        finish(o, static_cast<double>(v.padded(o)), y);
      }
    }
  });
}

// Pools all rows over the team; finish(row within a plane, y row) ends each. `buffers`: pool_scratch() bytes.
template <class Fold, class T, class Finish>
void pool_rows(CpuContext& c, const RowPool& pool, T none, T* buffers, Finish&& finish) {
  const PlanePool plane(pool.axes());
  if (plane.cells() > 0) return pool_planes<Fold>(c, pool, plane, none, buffers, finish);
  const T* const x = c.in(0).as<T>();
  T* const y = c.out(0).as<T>();
  const PoolAxis& a = pool.last();
  const int64_t rows = c.in(0).shape[0] * c.in(0).shape[1] * pool.rows();
  parallel_rows(c, rows, a.in + a.out * std::min(a.kernel, a.in), [&](int64_t begin, int64_t end, int worker) {
    T* const row = buffers + worker * 2 * a.in;
    for (int64_t r = begin; r < end; ++r) {
      const T* const plane = x + r / pool.rows() * pool.plane();
      bool any = false;
      const double padded = pool.each_row(r % pool.rows(), [&](int64_t at) {
        if (any) fold_row<Fold>(c.kernels(), plane + at, row, a.in);
        else std::copy_n(plane + at, a.in, row);
        any = true;
      });
      if (any) fold_windows<Fold>(c.kernels(), a, row, none, row + a.in, y + r * a.out);
      else std::fill_n(y + r * a.out, a.out, none);
      finish(r % pool.rows(), padded, y + r * a.out);
    }
  });
}

// Bytes for the rows or planes of all workers.
inline size_t pool_scratch(const PoolWindow& window, const BindContext& c) {
  const auto axes = window.plan(c.in(0).shape);
  if (!axes.ok() || c.out(0).count() == 0) return 0;
  const int64_t cells = std::max(3 * PlanePool(*axes).cells(), 2 * axes->back().in);
  return static_cast<size_t>(c.workers()) * static_cast<size_t>(cells) * element_size(c.in(0).dtype);
}

}  // namespace ocior::ops::nn
