// MaxPool, AveragePool and LpPool over windows, and their global forms (https://onnx.ai/onnx/operators/onnx__MaxPool.html).
// Inputs are [n, c, spatial...]; each plane of n and c is pooled alone.
#include <cmath>
#include <limits>

#include "ops/nn/numeric.h"
#include "ops/nn/pool_rows.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

using nn::PoolAxis;
using nn::PoolWindow;
using nn::RowPool;

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

Status infer_pool(const PoolWindow& window, ShapeContext& c, TypeSet allowed, std::string_view name) {
  OCIOR_RETURN_IF_ERROR(check_type(c, 0, allowed, name));
  std::optional<Dims> out;
  if (ranked(c, 0)) {
    OCIOR_ASSIGN(out, window.infer(c, *c.shape(0)));
  }
  c.set(0, c.dtype(0), out);
  c.set(1, DType::kInt64, std::move(out));
  return {};
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

  size_t scratch(const BindContext& c) const { return nn::pool_scratch(window, c); }
  double work(const BindContext& c) const { return window.work(c); }

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
    nn::pool_rows<nn::Larger>(c, pool, none, static_cast<T*>(c.scratch()), [](int64_t, double, T*) {});
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

  size_t scratch(const BindContext& c) const { return nn::pool_scratch(window, c); }
  double work(const BindContext& c) const { return window.work(c); }

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
    nn::pool_rows<nn::Sum>(c, pool, 0.0f, static_cast<float*>(c.scratch()), [&](int64_t row, double padded, float* y) {
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
