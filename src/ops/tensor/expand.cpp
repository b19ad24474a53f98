// Expand, ConstantOfShape and Range: tensors whose shape is a value.
#include <algorithm>
#include <cmath>

#include "ops/loops.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {

// Broadcasts the input with the shape in input 1.
struct Expand {
  static constexpr OpInfo info{.name = "Expand", .since = 8, .min_inputs = 2, .max_inputs = 2};

  static Expand parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "Expand"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, "Expand"));
    c.set(0, c.dtype(0), std::nullopt);
    const auto target = data_of(c, 1);
    if (!target) {
      const auto length = length_of(c, 1);
      if (length && *length <= kMaxRank && ranked(c, 0))
        c.set(0, c.dtype(0), fresh_dims(c, std::max(*length, rank(c, 0)), "expand"));
      return {};
    }
    for (const Dim& d : *target)
      if (d.known() && d.value() < 0)
        return error(Code::kInvalidArgument, "Expand: the shape {} has a negative dimension", to_string(*target));
    if (!ranked(c, 0)) return {};
    OCIOR_ASSIGN(Dims out, broadcast(c, *c.shape(0), *target));
    follow(c, out);
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const FixedShape wish, fixed_ints(c.in(1), "Expand's shape"));
    OCIOR_ASSIGN(const Shape shape, broadcast(x.shape(), wish));
    OCIOR_RETURN_IF_ERROR(checked_element_count(shape).status());
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), shape));
    box(x.shape(), shape, x.dtype(), x.data(), c.out(0).data()).run();
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_ASSIGN(const FixedShape wish, fixed_ints(c.in(1), "Expand's shape"));
    OCIOR_ASSIGN(const FixedShape shape, broadcast_fixed(x.shape, wish));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
    box(x.shape, shape, x.dtype, x.data, c.out(0).data).run(c);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&out](DType t, Shape x, std::vector<double> to) {
      const auto n = static_cast<int64_t>(to.size());
      out.push_back({.inputs = {{t, std::move(x)}, {DType::kInt64, {n}, Fill::kZeros, std::move(to)}}});
    };
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kBool, DType::kString, DType::kFloat16, DType::kDouble}) {
      add(t, {3, 1}, {2, 3, 4});
      add(t, {3, 1}, {1, 1});
      add(t, {}, {2, 2});
      add(t, {1, 4}, {3, 1});
      add(t, {2, 1, 3}, {2, 0, 3});
      add(t, {5}, {});
    }
    add(DType::kFloat, {1, 1, 40}, {70, 30, 40});
    add(DType::kFloat, {70, 1}, {70, 900});
    return out;
  }

 private:
  static void follow(ShapeContext& c, const Dims& shape) {
    if (!carries_data(c.dtype(0)) || shape.size() > 1) return;
    const auto data = data_of(c, 0);
    const auto n = known_product(shape);
    if (!data || !n || *n > kMaxData) return;
    if (data->size() == 1) c.set_data(0, Dims(static_cast<size_t>(*n), (*data)[0]));
    else if (static_cast<int64_t>(data->size()) == *n) c.set_data(0, *data);
  }

  static Result<FixedShape> broadcast_fixed(std::span<const int64_t> x, const FixedShape& wish) {
    OCIOR_ASSIGN(const FixedShape from, fixed_shape(x));
    FixedShape out;
    out.rank = std::max(from.rank, wish.rank);
    for (int64_t i = 1; i <= out.rank; ++i) {
      const int64_t a = i <= from.rank ? from[from.rank - i] : 1, b = i <= wish.rank ? wish[wish.rank - i] : 1;
      if (a != b && a != 1 && b != 1)
        return error(Code::kInvalidArgument, "Expand: {} does not broadcast to {}", to_string(x), to_string(wish));
      out[out.rank - i] = a == 1 ? b : a;
    }
    return out;
  }

  static BoxCopy box(std::span<const int64_t> x, std::span<const int64_t> y, DType dtype, const void* from, void* to) {
    BoxCopy copy{.dtype = dtype, .destination = to, .source = from};
    int64_t in = element_count(x), out = element_count(y);
    if (out == 0) return copy.extent[0] = 0, copy.rank = 1, copy;
    const size_t pad = y.size() - x.size();
    for (size_t i = 0; i < y.size(); ++i) {
      const int64_t d = i < pad ? 1 : x[i - pad];
      in /= d, out /= y[i];
      copy.axis(y[i], out, d == 1 ? 0 : in);
    }
    return copy;
  }
};
OCIOR_OPERATOR(Expand)

// A tensor of the shape in input 0, filled with the one element of `value` (float 0 by default).
struct ConstantOfShape {
  static constexpr OpInfo info{.name = "ConstantOfShape", .since = 9};
  Tensor value;

  static ConstantOfShape parse(const NodeReader& node) {
    ConstantOfShape op;
    if (const Tensor* t = node.tensor("value")) op.value = *t;
    else op.value = Tensor::of<float>({1}, {0});
    if (op.value.count() != 1) node.fail("attribute 'value' must hold one element, got shape {}", to_string(op.value.shape()));
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kIndices, "ConstantOfShape"));
    const auto shape = data_of(c, 0);
    if (!shape) {
      const auto length = length_of(c, 0);
      c.set(0, value.dtype(),
            length && *length <= kMaxRank ? std::optional(fresh_dims(c, *length, "constant_of_shape")) : std::nullopt);
      return {};
    }
    for (const Dim& d : *shape)
      if (d.known() && d.value() < 0)
        return error(Code::kInvalidArgument, "ConstantOfShape: the shape {} has a negative dimension", to_string(*shape));
    const auto count = known_product(*shape);
    if (count && *count <= kMaxData && carries_data(value.dtype()))
      c.set_data(0, Dims(static_cast<size_t>(*count), Dim(get_int(value.dtype(), value.data(), 0))));
    c.set(0, value.dtype(), *shape);
    return {};
  }

  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(const FixedShape shape, fixed_ints(c.in(0), "ConstantOfShape's shape"));
    OCIOR_ASSIGN(const int64_t count, checked_element_count(shape));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, value.dtype(), shape));
    fill_elements(value.dtype(), c.out(0).data(), 0, value.data(), 0, count);
    return {};
  }

  Status run(CpuContext& c) const {
    OCIOR_ASSIGN(const FixedShape shape, fixed_ints(c.in(0), "ConstantOfShape's shape"));
    OCIOR_ASSIGN(const int64_t count, checked_element_count(shape));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
    void* y = c.out(0).data;
    const auto fill = [&](int64_t begin, int64_t end) { fill_elements(value.dtype(), y, begin, value.data(), 0, end - begin); };
    if (moves_as_bytes(value.dtype())) for_items(c, count, 1, fill);
    else fill(0, count);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const SampleInput shape{DType::kInt64, {2}, Fill::kZeros, {2, 3}}, scalar{DType::kInt64, {0}},
        empty{DType::kInt64, {2}, Fill::kZeros, {0, 3}};
    const SampleInput large{DType::kInt64, {2}, Fill::kZeros, {200, 300}};
    for (const SampleInput& s : {shape, scalar, empty, large}) {
      out.push_back({.inputs = {s}});
      out.push_back({.inputs = {s}, .attributes = {{"value", Tensor::of<int64_t>({1}, {-7})}}});
      out.push_back({.inputs = {s}, .attributes = {{"value", Tensor::of<bool>({1}, {true})}}});
    }
    return out;
  }
};
OCIOR_OPERATOR(ConstantOfShape)

// start, start + delta, ... below (or, with a negative delta, above) limit.
struct Range {
  static constexpr OpInfo info{.name = "Range", .since = 11, .min_inputs = 3, .max_inputs = 3};

  static Range parse(const NodeReader& node) {
    if (node.opset() >= 27) node.ignore("stash_type");  // the sums are double, at least as precise as any type it can name
    return {};
  }

  Status infer(ShapeContext& c) const {
    for (int i = 0; i < 3; ++i) {
      OCIOR_RETURN_IF_ERROR(check_type(c, i, kNumbers, "Range"));
      OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, i, "Range"));
      if (!c.constant(i) || c.constant(i)->count() == 1) continue;
      return error(Code::kInvalidArgument, "Range: input {} must be a scalar, got {}", i, c.in(i).text());
    }
    const Tensor *start = c.constant(0), *limit = c.constant(1), *delta = c.constant(2);
    if (start && limit && delta) {
      OCIOR_ASSIGN(const int64_t n, length(c.dtype(0), start->data(), limit->data(), delta->data()));
      c.set(0, c.dtype(0), Dims{n});
    } else {
      c.set(0, c.dtype(0), Dims{symbolic_length(c)});
    }
    follow(c);
    return {};
  }

  Status reference(RefContext& c) const {
    for (int i = 0; i < 3; ++i)
      if (c.in(i).count() != 1)
        return error(Code::kInvalidArgument, "Range: input {} must be a scalar, got {}", i, to_string(c.in(i).shape()));
    const DType t = c.in(0).dtype();
    OCIOR_ASSIGN(const int64_t n, length(t, c.in(0).data(), c.in(1).data(), c.in(2).data()));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, t, Shape{n}));
    fill(t, c.in(0).data(), c.in(2).data(), c.out(0).data(), n);
    return {};
  }

  Status run(CpuContext& c) const {
    for (int i = 0; i < 3; ++i)
      if (c.in(i).count() != 1)
        return error(Code::kInvalidArgument, "Range: input {} must be a scalar, got {}", i, to_string(c.in(i).shape));
    const DType t = c.in(0).dtype;
    OCIOR_ASSIGN(const int64_t n, length(t, c.in(0).data, c.in(1).data, c.in(2).data));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, {&n, 1}));
    fill(t, c.in(0).data, c.in(2).data, c.out(0).data, n);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&out](DType t, double start, double limit, double delta) {
      out.push_back({.inputs = {{t, {}, Fill::kZeros, {start}}, {t, {}, Fill::kZeros, {limit}}, {t, {}, Fill::kZeros, {delta}}}});
    };
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kInt16, DType::kInt32, DType::kInt64}) {
      add(t, 0, 7, 1);
      add(t, 7, -2, -3);
      add(t, 3, 3, 1);
      add(t, 5, 1, 1);
    }
    add(DType::kFloat, 0.5, 2.1, 0.25);
    out.back().attributes = {{"stash_type", int64_t{1}}};
    return out;
  }

 private:
  static constexpr int64_t kLongest = int64_t{1} << 40;

  static Result<int64_t> length(DType t, const void* start, const void* limit, const void* delta) {
    const double a = get_double(t, start, 0), b = get_double(t, limit, 0), d = get_double(t, delta, 0);
    if (d == 0) return error(Code::kInvalidArgument, "Range: delta is 0");
    if (!is_floating(t)) {
      const auto from = static_cast<__int128>(get_int(t, start, 0)), to = static_cast<__int128>(get_int(t, limit, 0)),
                 by = static_cast<__int128>(get_int(t, delta, 0));
      const __int128 n = by > 0 ? (to - from + by - 1) / by : (from - to - by - 1) / -by;
      if (n > kLongest) return error(Code::kInvalidArgument, "Range: from {} to {} by {} is more than 2^40 elements", a, b, d);
      return n > 0 ? static_cast<int64_t>(n) : 0;
    }
    const double n = std::ceil((b - a) / d);
    if (std::isnan(n)) return error(Code::kInvalidArgument, "Range: from {} to {} by {} is no range", a, b, d);
    if (n > static_cast<double>(kLongest))
      return error(Code::kInvalidArgument, "Range: from {} to {} by {} is more than 2^40 elements", a, b, d);
    return n > 0 ? static_cast<int64_t>(n) : 0;
  }

  static void fill(DType t, const void* start, const void* delta, void* y, int64_t n) {
    if (is_floating(t)) {
      const double a = get_double(t, start, 0), d = get_double(t, delta, 0);
      for (int64_t i = 0; i < n; ++i) set_double(t, y, i, a + static_cast<double>(i) * d);
    } else {
      const auto a = static_cast<uint64_t>(get_int(t, start, 0)), d = static_cast<uint64_t>(get_int(t, delta, 0));
      for (int64_t i = 0; i < n; ++i) set_int(t, y, i, static_cast<int64_t>(a + static_cast<uint64_t>(i) * d));
    }
  }

  // The length as a dim when the bounds are dims and the step is a number.
  static Dim symbolic_length(ShapeContext& c) {
    const auto start = data_of(c, 0), limit = data_of(c, 1), delta = data_of(c, 2);
    const bool one = start && limit && delta && start->size() == 1 && limit->size() == 1 && delta->size() == 1;
    if (!one || !(*delta)[0].known() || (*delta)[0].value() == 0) return c.fresh("range");
    const int64_t d = (*delta)[0].value();
    const Dim way = d > 0 ? (*limit)[0] - (*start)[0] : (*start)[0] - (*limit)[0];
    const Dim by = d > 0 ? Dim(d) : Dim(0) - Dim(d);
    const Dim n = Dim::quotient(way + by - Dim(1), by);
    return n.known() ? Dim::max(n, 0) : n;
  }

  static void follow(ShapeContext& c) {
    const auto start = data_of(c, 0), limit = data_of(c, 1), delta = data_of(c, 2);
    if (!start || !limit || !delta || start->size() != 1 || limit->size() != 1 || delta->size() != 1) return;
    const Dim n = symbolic_length(c);
    if (!n.known() || n.value() > kMaxData) return;
    Dims out;
    for (int64_t i = 0; i < n.value(); ++i) out.push_back((*start)[0] + Dim(i) * (*delta)[0]);
    c.set_data(0, std::move(out));
  }
};
OCIOR_OPERATOR(Range)

}  // namespace ocior::ops
