// Slice: [start, end) with a step along some axes. Bounds are attributes before opset 10, inputs since.
#include <algorithm>

#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

constexpr int64_t kFar = int64_t{1} << 30;  // exporters write "to the end" as something at least this large

// One axis on numbers: where it begins and how many elements it takes.
struct Span {
  int64_t start, length;
};
Span clamp_span(int64_t start, int64_t end, int64_t step, int64_t dim) {
  const auto from_end = [dim](int64_t v) { return v < 0 ? (v < -dim ? int64_t{-1} : v + dim) : v; };
  start = from_end(start), end = from_end(end);
  if (step > 0) {
    start = std::clamp<int64_t>(start, 0, dim);
    end = std::clamp<int64_t>(end, 0, dim);
    return {start, end > start ? (end - start - 1) / step + 1 : 0};
  }
  start = std::clamp<int64_t>(start, -1, dim - 1);
  end = std::clamp<int64_t>(end, -1, dim - 1);
  return {start, start > end ? (start - end - 1) / (step == INT64_MIN ? INT64_MAX : -step) + 1 : 0};
}

// A bound of a forward slice of a symbolic dimension. A negative number is taken to lie inside.
Dim symbolic_bound(const Dim& v, const Dim& dim) {
  if (v == dim) return dim;
  if (!v.known()) return Dim::min(v, dim);
  if (v.value() >= kFar) return dim;
  if (v.value() <= -kFar) return 0;
  if (v.value() < 0) return dim + v;
  return v;
}

Dim symbolic_length(const Dim& start, const Dim& end, const Dim& step, const Dim& dim) {
  const Dim from = symbolic_bound(start, dim);
  Dim to = symbolic_bound(end, dim);
  if (to.known() && !(dim == to)) to = Dim::min(to, dim);
  return Dim::quotient(to - from + step - Dim(1), step);
}

}  // namespace

struct Slice {
  static constexpr OpInfo info{.name = "Slice", .max_inputs = 5};
  bool attributes = false;
  std::vector<int64_t> starts, ends, axes;

  static Slice parse(const NodeReader& node) {
    Slice op;
    op.attributes = node.opset() < 10;
    if (!op.attributes) {
      if (node.inputs() < 3) node.fail("expected at least 3 inputs since opset 10, got {}", node.inputs());
      return op;
    }
    if (node.inputs() != 1) node.fail("bounds are attributes before opset 10, got {} inputs", node.inputs());
    op.starts = node.integers("starts");
    op.ends = node.integers("ends");
    op.axes = node.integers("axes");
    if (op.starts.size() != op.ends.size() || (node.has("axes") && op.axes.size() != op.starts.size()))
      node.fail("starts, ends and axes have {}, {} and {} elements; expected as many each", op.starts.size(), op.ends.size(),
                op.axes.size());
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "Slice"));
    for (int i = 1; i < 5; ++i) OCIOR_RETURN_IF_ERROR(check_type(c, i, kIndices, "Slice"));
    if (!ranked(c, 0)) return c.set(0, c.dtype(0), std::nullopt), Status();
    OCIOR_RETURN_IF_ERROR(check_counts(c));
    Dims shape = *c.shape(0);
    std::optional<Bounds> bounds;
    OCIOR_ASSIGN(bounds, read_bounds(c));
    if (!bounds) {
      c.set(0, c.dtype(0), fresh_dims(c, rank(c, 0), "slice"));
      return {};
    }
    for (size_t k = 0; k < bounds->axes.size(); ++k) {
      const auto at = static_cast<size_t>(bounds->axes[k]);
      const Dim &start = bounds->starts[k], &end = bounds->ends[k], &step = bounds->steps[k];
      if (step.known() && step.value() == 0) return error(Code::kInvalidArgument, "Slice: the step of axis {} is 0", at);
      if (start.known() && end.known() && step.known() && shape[at].known())
        shape[at] = clamp_span(start.value(), end.value(), step.value(), shape[at].value()).length;
      else if (step.known() && step.value() > 0) shape[at] = symbolic_length(start, end, step, shape[at]);
      else shape[at] = c.fresh("slice");
    }
    c.set(0, c.dtype(0), std::move(shape));
    follow(c, *bounds);
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(Plan plan, plan_of(c, x.shape()));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), plan.shape));
    box(plan, x.shape(), x.dtype(), x.data(), c.out(0).data()).run();
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_ASSIGN(const Plan plan, plan_of(c, x.shape));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, plan.shape));
    box(plan, x.shape, x.dtype, x.data, c.out(0).data).run(c);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    using L = std::vector<double>;
    const auto ints = [](L v) { return SampleInput{DType::kInt64, {static_cast<int64_t>(v.size())}, Fill::kZeros, v}; };
    const auto add = [&](Shape x, L starts, L ends, L axes, L steps, DType t = DType::kFloat) {
      out.push_back({.inputs = {{t, std::move(x)}, ints(starts), ints(ends), ints(axes), ints(steps)}});
    };
    for (const DType t :
         {DType::kFloat, DType::kInt64, DType::kBool, DType::kString, DType::kFloat16, DType::kDouble, DType::kInt4}) {
      add({5, 6}, {1, 0}, {3, 1e10}, {0, 1}, {1, 2}, t);
      add({5, 6}, {-1}, {-100}, {0}, {-1}, t);
      add({5, 6}, {-3}, {-1}, {-1}, {1}, t);
      add({5, 6}, {4}, {2}, {1}, {1}, t);
      add({4, 5, 6}, {3, 5}, {0, -7}, {1, 2}, {-2, -3}, t);
    }
    add({0, 3}, {0}, {9}, {0}, {1});
    add({5}, {9}, {-9}, {0}, {-9e18});
    out.push_back({.inputs = {{DType::kFloat, {4, 4}}, ints({1, 0}), ints({2, 2})}});
    out.push_back({.inputs = {{DType::kInt64, {4}, Fill::kSmallInts}, ints({1}), ints({-1}), {.omitted = true}, ints({1})}});
    out.push_back({.inputs = {{DType::kFloat, {4, 4}}},
                   .attributes = {{"starts", std::vector<int64_t>{1}},
                                  {"ends", std::vector<int64_t>{3}},
                                  {"axes", std::vector<int64_t>{-1}}},
                   .opset = 9});
    add({300, 400}, {1, 1}, {299, 399}, {0, 1}, {1, 1});
    return out;
  }

 private:
  struct Bounds {
    std::vector<int64_t> axes;  // resolved
    Dims starts, ends, steps;
  };
  struct Plan {
    FixedShape shape, start, step;
  };

  // Whether as many bounds are given by each input, and no more than there are axes, as far as shapes say it.
  static Status check_counts(const ShapeContext& c) {
    std::optional<int64_t> first;
    for (int i = 1; i < 5; ++i) {
      const auto n = c.has(i) && ranked(c, i) ? known_product(*c.shape(i)) : std::nullopt;
      if (!n) continue;
      if (first.value_or(*n) != *n)
        return error(Code::kInvalidArgument, "Slice: input {} has {} elements and one before it {}; expected as many each", i, *n,
                     *first);
      first = n;
    }
    if (first && *first > rank(c, 0))
      return error(Code::kInvalidArgument, "Slice: bounds of {} axes for an input of shape {}", *first, to_string(*c.shape(0)));
    return {};
  }

  // The bounds as dims; nothing when not known at all. Unknown single starts or ends leave the whole unknown.
  Result<std::optional<Bounds>> read_bounds(ShapeContext& c) const {
    Bounds b;
    std::vector<int64_t> wish = axes;
    if (attributes) {
      b.starts.assign(starts.begin(), starts.end());
      b.ends.assign(ends.begin(), ends.end());
    } else {
      auto from = data_of(c, 1), to = data_of(c, 2), by = data_of(c, 4);
      const auto along = ints_of(c, 3);
      if (!from || !to || (c.has(4) && !by) || (c.has(3) && !along)) return std::optional<Bounds>();
      b.starts = std::move(*from), b.ends = std::move(*to);
      if (by) b.steps = std::move(*by);
      if (along) wish = *along;
    }
    const bool given = attributes ? !axes.empty() : c.has(3);
    if (!given)
      for (size_t i = 0; i < b.starts.size(); ++i) wish.push_back(static_cast<int64_t>(i));
    if (b.steps.empty()) b.steps.assign(b.starts.size(), Dim(1));
    if (b.ends.size() != b.starts.size() || wish.size() != b.starts.size() || b.steps.size() != b.starts.size())
      return error(Code::kInvalidArgument, "Slice: {} starts, {} ends, {} axes and {} steps; expected as many each",
                   b.starts.size(), b.ends.size(), wish.size(), b.steps.size());
    for (int64_t& a : wish) {
      OCIOR_ASSIGN(a, resolve_axis(a, rank(c, 0)));
    }
    b.axes = std::move(wish);
    return std::optional(std::move(b));
  }

  static void follow(ShapeContext& c, const Bounds& b) {
    if (!carries_data(c.dtype(0)) || rank(c, 0) != 1 || b.axes.size() > 1) return;
    const auto data = data_of(c, 0);
    if (!data) return;
    Dims out;
    if (b.axes.empty()) return c.set_data(0, *data);
    if (!b.starts[0].known() || !b.ends[0].known() || !b.steps[0].known()) return;
    const Span s = clamp_span(b.starts[0].value(), b.ends[0].value(), b.steps[0].value(), static_cast<int64_t>(data->size()));
    for (int64_t i = 0; i < s.length; ++i) out.push_back((*data)[static_cast<size_t>(s.start + i * b.steps[0].value())]);
    c.set_data(0, std::move(out));
  }

  // Value k of one of the bounds in a run.
  template <class C>
  int64_t value(C& c, int input, const std::vector<int64_t>& attribute, int64_t k, int64_t otherwise) const {
    if (attributes) return attribute.empty() ? otherwise : attribute[static_cast<size_t>(k)];
    if (!c.has(input)) return otherwise;
    const auto& t = c.in(input);
    if constexpr (std::is_same_v<C, RefContext>) return get_int(t.dtype(), t.data(), k);
    else return get_int(t.dtype, t.data, k);
  }

  template <class C>
  Result<Plan> plan_of(C& c, std::span<const int64_t> x) const {
    Plan plan;
    OCIOR_ASSIGN(plan.shape, fixed_shape(x));
    for (int64_t a = 0; a < plan.shape.rank; ++a) plan.start.push(0), plan.step.push(1);
    const int64_t n = attributes ? static_cast<int64_t>(starts.size()) : c.in(1).count();
    for (int i = 2; i < 5 && !attributes; ++i)
      if (c.has(i) && c.in(i).count() != n)
        return error(Code::kInvalidArgument, "Slice: input {} has {} elements; expected {}", i, c.in(i).count(), n);
    if (n > plan.shape.rank)
      return error(Code::kInvalidArgument, "Slice: bounds of {} axes for an input of shape {}", n, to_string(x));
    for (int64_t k = 0; k < n; ++k) {
      OCIOR_ASSIGN(const int64_t a, resolve_axis(value(c, 3, axes, k, k), plan.shape.rank));
      const int64_t step = value(c, 4, {}, k, 1);
      if (step == 0) return error(Code::kInvalidArgument, "Slice: the step of axis {} is 0", a);
      const Span s = clamp_span(value(c, 1, starts, k, 0), value(c, 2, ends, k, 0), step, x[static_cast<size_t>(a)]);
      plan.shape[a] = s.length, plan.start[a] = s.start, plan.step[a] = s.length > 1 ? step : 1;
    }
    return plan;
  }

  static BoxCopy box(const Plan& plan, std::span<const int64_t> x, DType dtype, const void* from, void* to) {
    BoxCopy copy{.dtype = dtype, .destination = to, .source = from};
    int64_t in[kMaxRank], out[kMaxRank], in_step = 1, out_step = 1;
    for (int64_t a = plan.shape.rank; a-- > 0;) {
      in[a] = in_step, out[a] = out_step;
      in_step *= x[static_cast<size_t>(a)], out_step *= plan.shape[a];
    }
    for (int64_t a = 0; a < plan.shape.rank; ++a) {
      if (plan.shape[a] == 0) return copy.extent[0] = 0, copy.rank = 1, copy;
      copy.s += plan.start[a] * in[a];
      copy.axis(plan.shape[a], out[a], in[a] * plan.step[a]);
    }
    return copy;
  }
};
OCIOR_OPERATOR(Slice)

}  // namespace ocior::ops
