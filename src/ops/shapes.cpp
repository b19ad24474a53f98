#include "ops/shapes.h"

#include <algorithm>

namespace ocior::ops {

Result<int64_t> resolve_axis(int64_t axis, int64_t rank, std::string_view what) {
  if (axis < -rank || axis >= rank)
    return error(Code::kInvalidGraph, "{} {} is out of range for rank {}; expected {} to {}", what, axis, rank, -rank, rank - 1);
  return axis < 0 ? axis + rank : axis;
}

Result<std::vector<int64_t>> resolve_axes(std::vector<int64_t> axes, int64_t rank) {
  for (int64_t& a : axes) {
    OCIOR_ASSIGN(a, resolve_axis(a, rank));
  }
  std::sort(axes.begin(), axes.end());
  if (std::adjacent_find(axes.begin(), axes.end()) != axes.end()) return error(Code::kInvalidGraph, "axes name an axis twice");
  return axes;
}

namespace {

// Whether x is min(n, y) for a number n.
bool limited_by(const Dim& x, const Dim& y) {
  const std::string text = x.text(), other = y.text();
  return text.starts_with("min(") && (text.ends_with(", " + other + ")") || text.starts_with("min(" + other + ", "));
}

}  // namespace

Result<Dims> broadcast(ShapeContext& c, const Dims& a, const Dims& b) {
  Dims out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t from_end = out.size() - 1 - i;
    const Dim x = from_end < a.size() ? a[a.size() - 1 - from_end] : Dim(1);
    const Dim y = from_end < b.size() ? b[b.size() - 1 - from_end] : Dim(1);
    const bool x_one = x.known() && x.value() == 1, y_one = y.known() && y.value() == 1;
    if (x == y || y_one) out[i] = x;
    else if (x_one) out[i] = y;
    else if (x.known() && y.known())
      return error(Code::kInvalidArgument, "shapes {} and {} do not broadcast: dimension {} is {} and {}", to_string(a),
                   to_string(b), i, x.value(), y.value());
    else if (x.known()) out[i] = x;  // the other must be equal or 1
    else if (y.known()) out[i] = y;
    else if (limited_by(x, y)) out[i] = y;  // min(512, seq) against seq: equal wherever it broadcasts
    else if (limited_by(y, x)) out[i] = x;
    else out[i] = c.fresh("broadcast");
  }
  return out;
}

Result<Shape> broadcast(std::span<const int64_t> a, std::span<const int64_t> b) {
  Shape out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t from_end = out.size() - 1 - i;
    const int64_t x = from_end < a.size() ? a[a.size() - 1 - from_end] : 1;
    const int64_t y = from_end < b.size() ? b[b.size() - 1 - from_end] : 1;
    if (x != y && x != 1 && y != 1)
      return error(Code::kInvalidArgument, "shapes {} and {} do not broadcast: dimension {} is {} and {}", to_string(a),
                   to_string(b), i, x, y);
    out[i] = x == 1 ? y : x;
  }
  return out;
}

std::vector<int64_t> dense_strides(std::span<const int64_t> shape) {
  std::vector<int64_t> s(shape.size());
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    s[i] = step;
    step *= shape[i];
  }
  return s;
}

std::vector<int64_t> broadcast_strides(std::span<const int64_t> shape, std::span<const int64_t> to) {
  const auto dense = dense_strides(shape);
  std::vector<int64_t> s(to.size(), 0);
  const size_t pad = to.size() - shape.size();
  for (size_t i = 0; i < shape.size(); ++i)
    if (shape[i] != 1 || to[pad + i] == 1) s[pad + i] = shape[i] == 1 ? 0 : dense[i];
  return s;
}

Status infer_unary(ShapeContext& c) {
  c.set(0, c.in(0));
  return {};
}

Status infer_broadcast(ShapeContext& c, DType dtype) {
  std::optional<Dims> shape = Dims{};
  for (int i = 0; i < c.inputs() && shape; ++i) {
    if (!c.has(i)) continue;
    if (!c.shape(i)) shape.reset();
    else {
      OCIOR_ASSIGN(shape, broadcast(c, *shape, *c.shape(i)));
    }
  }
  c.set(0, dtype, std::move(shape));
  return {};
}

std::vector<int64_t> to_ints(const Tensor& t) {
  std::vector<int64_t> out(static_cast<size_t>(t.count()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = get_int(t.dtype(), t.data(), static_cast<int64_t>(i));
  return out;
}

size_t element_size(DType dtype) {
  if (dtype == DType::kString) return sizeof(std::string);
  const int bits = bits_of(dtype);
  return bits < 8 ? 0 : static_cast<size_t>(bits) / 8;
}

}  // namespace ocior::ops
