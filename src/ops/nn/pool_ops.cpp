// MaxPool, AveragePool and LpPool over windows, and their global forms (https://onnx.ai/onnx/operators/onnx__MaxPool.html).
// Inputs are [n, c, spatial...]; each plane of n and c is pooled alone.
#include <cmath>
#include <limits>

#include "ops/loops.h"
#include "ops/nn/numeric.h"
#include "ops/nn/pool.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

using nn::PoolAxis;
using nn::PoolWindow;

constexpr TypeSet kSmallTypes = types(DType::kInt8, DType::kUint8);

// Counts `place` up over `extent`, the last axis fastest; false when it is through.
bool next(std::vector<int64_t>& place, const std::vector<int64_t>& begin, const std::vector<int64_t>& end) {
  for (size_t i = place.size(); i-- > 0;) {
    if (++place[i] < end[i]) return true;
    place[i] = begin[i];
  }
  return false;
}

// One window: the elements of a plane that it covers in order, and how many it has with its padding.
struct Window {
  std::vector<int64_t> offsets;
  double padded = 1;
};

Window window_at(const std::vector<PoolAxis>& axes, const std::vector<int64_t>& out) {
  Window w;
  std::vector<int64_t> begin(axes.size()), end(axes.size());
  bool empty = false;
  for (size_t i = 0; i < axes.size(); ++i) {
    begin[i] = axes[i].first(out[i]), end[i] = axes[i].last(out[i]);
    w.padded *= static_cast<double>(axes[i].padded(out[i]));
    empty |= begin[i] >= end[i];
  }
  if (empty) return w;
  std::vector<int64_t> place = begin;
  do {
    int64_t at = 0;
    for (size_t i = 0; i < axes.size(); ++i) at = at * axes[i].in + axes[i].start(out[i]) + place[i] * axes[i].dilation;
    w.offsets.push_back(at);
  } while (next(place, begin, end));
  return w;
}

// f(output index within a plane, window) for all windows.
template <class F>
void each_window(const std::vector<PoolAxis>& axes, F&& f) {
  std::vector<int64_t> zero(axes.size()), end(axes.size()), place(axes.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    end[i] = axes[i].out;
    if (end[i] == 0) return;
  }
  size_t at = 0;
  do f(at++, window_at(axes, place));
  while (next(place, zero, end));
}

// y[plane, window] = f(plane's values, window).
template <class F>
void pool_reference(RefContext& c, const std::vector<PoolAxis>& axes, F&& f) {
  const std::vector<double> x = nn::doubles(c.in(0));
  std::vector<double> y(static_cast<size_t>(c.out(0).count()));
  const auto planes = static_cast<size_t>(c.in(0).shape()[0] * c.in(0).shape()[1]);
  if (planes == 0) return;
  const size_t in = x.size() / planes, out = y.size() / planes;
  each_window(axes, [&](size_t at, const Window& w) {
    for (size_t p = 0; p < planes; ++p) y[p * out + at] = f(x.data() + p * in, w);
  });
  nn::store(c.out(0), y);
}

double lowest(DType t) { return t == DType::kInt8 ? -128 : t == DType::kUint8 ? 0 : -std::numeric_limits<double>::infinity(); }

bool beats(double v, double best) { return v > best || v != v; }

// How run() goes: rows of the input are combined into one row (over all axes but the last), then windows along that row. The
// outer axes are walked as one list of kernel positions.
class RowPool {
 public:
  RowPool(const std::vector<PoolAxis>& axes) : axes_(axes), last_(axes.back()) {  // NOLINT: from a plan
    for (size_t i = 0; i + 1 < axes.size(); ++i) rows_ *= axes[i].out;
    for (const PoolAxis& a : axes) plane_ *= a.in;
  }

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

// Pools all rows over the team; finish(row within a plane, y row) ends each. `buffers`: two rows of the input per worker.
template <class Fold, class T, class Finish>
void pool_rows(CpuContext& c, const RowPool& pool, T none, T* buffers, Finish&& finish) {
  const T* const x = c.in(0).as<T>();
  T* const y = c.out(0).as<T>();
  const PoolAxis& a = pool.last();
  const int64_t rows = c.in(0).shape[0] * c.in(0).shape[1] * pool.rows();
  nn::parallel_rows(c, rows, a.in + a.out * std::min(a.kernel, a.in), [&](int64_t begin, int64_t end, int worker) {
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

size_t row_scratch(const BindContext& c) {
  const auto& x = c.in(0).shape;
  const auto row = static_cast<size_t>(x.empty() ? 0 : x.back()) * element_size(c.in(0).dtype);
  return static_cast<size_t>(c.workers()) * 2 * row;
}

Status infer_pool(const PoolWindow& window, ShapeContext& c, TypeSet allowed, std::string_view name) {
  OCIOR_RETURN_IF_ERROR(check_type(c, 0, allowed, name));
  std::optional<Dims> out;
  if (ranked(c, 0)) {
    OCIOR_ASSIGN(out, window.infer(c, *c.shape(0)));
  }
  c.set(0, c.dtype(0), out);
  if (c.outputs() > 1) c.set(1, DType::kInt64, std::move(out));
  return {};
}

// Operations of a pool: each output element looks at its window.
double pool_work(const PoolWindow& window, const BindContext& c) {
  double n = static_cast<double>(c.out(0).count());
  for (const int64_t k : window.kernel) n *= static_cast<double>(k);
  return n;
}

std::vector<Sample> pool_samples(bool max) {
  std::vector<Sample> out;
  using Ints = std::vector<int64_t>;
  const auto add = [&](Shape x, Attributes a, int opset = 0, DType t = DType::kFloat, bool bench = false) {
    out.push_back({.inputs = {{.dtype = t, .shape = std::move(x), .fill = Fill::kNormal}},
                   .attributes = std::move(a),
                   .opset = opset,
                   .bench = bench,
                   .tolerance = t == DType::kFloat16    ? 1e-3
                                : t == DType::kBFloat16 ? 1e-2
                                                        : 2e-6});
  };
  const auto kernel = [](Ints k) { return Attributes{{"kernel_shape", std::move(k)}}; };
  const auto with = [](Attributes a, const char* name, AttributeValue v) { return a[name] = std::move(v), a; };
  add({2, 3, 9}, kernel({2}));
  add({1, 2, 5, 7}, kernel({3, 2}));
  add({2, 3, 40, 41}, with(with(kernel({3, 3}), "strides", Ints{2, 2}), "pads", Ints{1, 1, 1, 1}));
  add({1, 2, 6, 7}, with(with(kernel({3, 3}), "strides", Ints{2, 3}), "ceil_mode", int64_t{1}));
  add({1, 2, 6, 7}, with(with(with(kernel({2, 3}), "dilations", Ints{2, 2}), "pads", Ints{1, 2, 0, 1}), "ceil_mode", int64_t{1}));
  add({1, 2, 4, 5, 6}, with(with(kernel({2, 3, 2}), "pads", Ints{1, 1, 0, 0, 1, 1}), "strides", Ints{2, 1, 2}));
  for (const char* mode : {"SAME_UPPER", "SAME_LOWER", "VALID"})
    add({1, 2, 5, 6}, with(with(kernel({3, 2}), "auto_pad", std::string(mode)), "strides", Ints{2, 2}));
  add({0, 3, 5}, kernel({2}));
  add({1, 1, 1, 1}, kernel({1, 1}));
  add({1, 1, 2, 2}, with(with(kernel({1, 1}), "pads", Ints{2, 2, 2, 2}), "strides", Ints{3, 1}));
  add({8, 16, 30, 31}, with(kernel({3, 3}), "pads", Ints{1, 1, 1, 1}));
  add({1, 2, 6}, kernel({2}), 1);
  for (const DType t : {DType::kDouble, DType::kFloat16, DType::kBFloat16}) add({1, 2, 5, 6}, kernel({2, 3}), 0, t);
  if (max) {
    for (const DType t : {DType::kInt8, DType::kUint8}) {
      add({1, 2, 9, 10}, with(kernel({2, 3}), "pads", Ints{1, 1, 0, 1}), 0, t);
      add({1, 1, 2, 2}, with(kernel({1, 1}), "pads", Ints{2, 2, 2, 2}), 12, t);
    }
    out.push_back({.inputs = {{.shape = {1, 2, 6, 7}, .fill = Fill::kSpecials}}, .attributes = kernel({2, 2})});
  } else {
    add({1, 2, 6, 7}, with(with(kernel({3, 3}), "pads", Ints{1, 1, 1, 1}), "ceil_mode", int64_t{1}), 19);
  }
  add({1, 64, 112, 112}, with(with(kernel({3, 3}), "strides", Ints{2, 2}), "pads", Ints{1, 1, 1, 1}), 0, DType::kFloat, true);
  return out;
}

}  // namespace

// The largest element, and (output 1) where it is in the whole input; the first of equals, NaN before all.
struct MaxPool {
  static constexpr OpInfo info{.name = "MaxPool", .max_outputs = 2};
  PoolWindow window;
  bool column_major = false;  // of output 1's positions within a plane

  static MaxPool parse(const NodeReader& node) {
    MaxPool op{PoolWindow::parse(node, 10, 10)};
    if (node.opset() < 8 && node.outputs() > 1) node.fail("indices are an output since opset 8, got opset {}", node.opset());
    if (node.opset() >= 8) op.column_major = node.integer("storage_order", 0) != 0;
    return op;
  }

  Status infer(ShapeContext& c) const { return infer_pool(window, c, kFloats | kSmallTypes, "MaxPool"); }

  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(const auto axes, window.plan(c.in(0).shape()));
    if (c.wants(1)) find_indices(c, axes);
    const double none = lowest(c.in(0).dtype());
    pool_reference(c, axes, [&](const double* x, const Window& w) {
      double best = none;
      for (const int64_t at : w.offsets) best = beats(x[at], best) ? x[at] : best;
      return best;
    });
    return {};
  }

  size_t scratch(const BindContext& c) const { return row_scratch(c); }
  double work(const BindContext& c) const { return pool_work(window, c); }

  Status run(CpuContext& c) const {
    const DType t = c.in(0).dtype;
    const bool fast = t == DType::kFloat || (kSmallTypes & type_bit(t));
    if (c.wants(1) || !fast || c.out(0).count() == 0) return run_by_reference(*this, c);
    OCIOR_ASSIGN(const auto axes, window.plan(c.in(0).shape));
    if (t == DType::kFloat) run_as<float>(c, axes, -std::numeric_limits<float>::infinity());
    else if (t == DType::kInt8) run_as<int8_t>(c, axes, std::numeric_limits<int8_t>::min());
    else run_as<uint8_t>(c, axes, 0);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out = pool_samples(true);
    for (const int64_t order : {0, 1})
      for (const Shape& x : {Shape{2, 2, 7}, Shape{2, 2, 5, 6}, Shape{1, 2, 4, 3, 5}})
        out.push_back({.inputs = {{.shape = x, .fill = Fill::kSmallInts}},
                       .attributes = {{"kernel_shape", std::vector<int64_t>(x.size() - 2, 2)}, {"storage_order", order}},
                       .opset = 12,
                       .outputs = 2});
    return out;
  }

 private:
  template <class T>
  static void run_as(CpuContext& c, const std::vector<PoolAxis>& axes, T none) {
    const RowPool pool(axes);
    pool_rows<Larger>(c, pool, none, static_cast<T*>(c.scratch()), [](int64_t, double, T*) {});
  }

  void find_indices(RefContext& c, const std::vector<PoolAxis>& axes) const {
    const std::vector<double> x = nn::doubles(c.in(0));
    const auto planes = static_cast<size_t>(c.in(0).shape()[0] * c.in(0).shape()[1]);
    if (planes == 0 || x.empty()) return;
    const size_t in = x.size() / planes, out = static_cast<size_t>(c.out(1).count()) / planes;
    int64_t* const y = c.out(1).as<int64_t>();
    each_window(axes, [&](size_t at, const Window& w) {
      for (size_t p = 0; p < planes; ++p) {
        int64_t best = w.offsets.empty() ? 0 : w.offsets[0];
        const double* const plane = x.data() + p * in;
        for (const int64_t i : w.offsets)
          if (plane[best] == plane[best] && beats(plane[i], plane[best])) best = i;
        y[p * out + at] = static_cast<int64_t>(p * in) + (column_major ? transposed(axes, best) : best);
      }
    });
  }

  // The place in a plane stored with its first axis fastest.
  static int64_t transposed(const std::vector<PoolAxis>& axes, int64_t at) {
    int64_t out = 0;
    for (size_t i = axes.size(); i-- > 0; at /= axes[i].in) out = out + at % axes[i].in * leading(axes, i);
    return out;
  }
  static int64_t leading(const std::vector<PoolAxis>& axes, size_t end) {
    int64_t n = 1;
    for (size_t i = 0; i < end; ++i) n *= axes[i].in;
    return n;
  }
};
OCIOR_OPERATOR(MaxPool)

// The mean of the window's elements; padding counts as zeros with count_include_pad. A window in the padding alone gives 0.
struct AveragePool {
  static constexpr OpInfo info{.name = "AveragePool"};
  PoolWindow window;
  bool count_padding = false;

  static AveragePool parse(const NodeReader& node) {
    AveragePool op{PoolWindow::parse(node, 10, 19)};
    if (node.opset() >= 7) op.count_padding = node.integer("count_include_pad", 0) != 0;
    return op;
  }

  Status infer(ShapeContext& c) const { return infer_pool(window, c, kFloats, "AveragePool"); }

  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(const auto axes, window.plan(c.in(0).shape()));
    pool_reference(c, axes, [&](const double* x, const Window& w) {
      double sum = 0;
      for (const int64_t at : w.offsets) sum += x[at];
      return w.offsets.empty() ? 0 : sum / (count_padding ? w.padded : static_cast<double>(w.offsets.size()));
    });
    return {};
  }

  size_t scratch(const BindContext& c) const { return row_scratch(c); }
  double work(const BindContext& c) const { return pool_work(window, c); }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat || c.out(0).count() == 0) return run_by_reference(*this, c);
    OCIOR_ASSIGN(const auto axes, window.plan(c.in(0).shape));
    const RowPool pool(axes);
    const PoolAxis& a = pool.last();
    const int64_t full = a.kernel;  // elements of a window inside the row: those at [begin, end) have that many
    const int64_t begin = std::min(a.out, (a.before + a.stride - 1) / a.stride), span = (a.kernel - 1) * a.dilation + 1;
    const int64_t room = a.in + a.before - span, end = room < 0 ? 0 : std::min(a.out, room / a.stride + 1);
    const auto edge = [&](bool any, int64_t from, int64_t to, float* y) {
      for (int64_t o = from; o < to; ++o) {
        const int64_t inner = count_padding ? a.padded(o) : a.last(o) - a.first(o);
        y[o] = any && inner > 0 ? y[o] * static_cast<float>(full) / static_cast<float>(inner) : 0;
      }
    };
    pool_rows<Sum>(c, pool, 0.0f, static_cast<float*>(c.scratch()), [&](int64_t row, double padded, float* y) {
      const double outer = count_padding ? padded : pool.covered(row);
      const auto inverse = static_cast<float>(outer > 0 ? 1 / (outer * static_cast<double>(full)) : 0);
      for (int64_t o = 0; o < a.out; ++o) y[o] *= inverse;
      edge(outer > 0, 0, begin, y);
      edge(outer > 0, std::max(begin, end), a.out, y);
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out = pool_samples(false);
    const size_t plain = out.size();
    for (size_t i = 0; i < plain; ++i) {
      if (out[i].bench || out[i].opset == 1) continue;
      out.push_back(out[i]);
      out.back().attributes["count_include_pad"] = int64_t{1};
    }
    return out;
  }
};
OCIOR_OPERATOR(AveragePool)

// The p-norm of the window's elements.
struct LpPool {
  static constexpr OpInfo info{.name = "LpPool"};
  PoolWindow window;
  double p = 2;

  static LpPool parse(const NodeReader& node) {
    LpPool op{PoolWindow::parse(node, 18, 18)};
    op.p = node.opset() < 2 ? node.number("p", 2) : static_cast<double>(node.integer("p", 2));
    if (!(op.p > 0)) node.fail("p is {}; expected a positive number", op.p);
    return op;
  }

  Status infer(ShapeContext& c) const { return infer_pool(window, c, kFloats, "LpPool"); }

  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(const auto axes, window.plan(c.in(0).shape()));
    pool_reference(c, axes, [&](const double* x, const Window& w) {
      double sum = 0;
      for (const int64_t at : w.offsets) sum += std::pow(std::fabs(x[at]), p);
      return std::pow(sum, 1 / p);
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out = pool_samples(false);
    out.erase(out.end() - 1);  // the large one: there is only the reference
    for (Sample& s : out) s.opset = s.opset == 19 ? 18 : s.opset;
    out.push_back(
        {.inputs = {{.shape = {1, 2, 6}}}, .attributes = {{"kernel_shape", std::vector<int64_t>{3}}, {"p", 1.5f}}, .opset = 1});
    out.push_back(
        {.inputs = {{.shape = {1, 2, 6}}}, .attributes = {{"kernel_shape", std::vector<int64_t>{3}}, {"p", int64_t{3}}}});
    return out;
  }
};
OCIOR_OPERATOR(LpPool)

}  // namespace ocior::ops
