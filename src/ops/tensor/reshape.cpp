// Reshape and Flatten: the same elements in another shape.
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

Dim product(const Dims& dims) {
  Dim out = 1;
  for (const Dim& d : dims) out = out * d;
  return out;
}

// total / part of two lists of dims, after crossing out what they share.
Dim ratio(Dims total, Dims part) {
  for (size_t i = 0; i < part.size();) {
    const auto it = std::find(total.begin(), total.end(), part[i]);
    if (it == total.end()) {
      ++i;
      continue;
    }
    total.erase(it);
    part.erase(part.begin() + static_cast<ptrdiff_t>(i));
  }
  return Dim::quotient(product(total), product(part));
}

Status copy_run(CpuContext& c) {
  const TensorView &x = c.in(0), &y = c.out(0);
  if (y.data != x.data) copy_elements(x.dtype, y.data, 0, x.data, 0, x.count());
  return {};
}

}  // namespace

// To the shape in input 1 (attribute before opset 5): one -1 is inferred; 0 copies the input's dimension unless allowzero.
struct Reshape {
  static constexpr OpInfo info{.name = "Reshape", .max_inputs = 2, .view = true, .in_place = 1};
  std::optional<std::vector<int64_t>> fixed;  // opset < 5
  bool allow_zero = false;

  static Reshape parse(const NodeReader& node) {
    Reshape op;
    if (node.opset() < 5) {
      node.ignore("consumed_inputs");
      op.fixed = node.integers("shape");
      if (node.inputs() != 1) node.fail("the shape is an attribute before opset 5, got {} inputs", node.inputs());
    } else if (node.inputs() != 2) {
      node.fail("expected 2 inputs since opset 5, got {}", node.inputs());
    }
    if (node.opset() >= 14) op.allow_zero = node.integer("allowzero", 0) != 0;
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "Reshape"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, "Reshape"));
    pass_data(c);
    std::optional<Dims> target = fixed ? Dims(fixed->begin(), fixed->end()) : data_of(c, 1);
    if (!target && length_of(c, 1) == 0) target.emplace();  // known without its value
    if (!target) {
      const auto length = length_of(c, 1);
      if (length && *length > kMaxRank)
        return error(Code::kNotImplemented, "Reshape to rank {}; the limit is {}", *length, kMaxRank);
      c.set(0, c.dtype(0), length ? std::optional(fresh_dims(c, *length, "reshape")) : std::nullopt);
      return {};
    }
    OCIOR_RETURN_IF_ERROR(solve(c, *target));
    c.set(0, c.dtype(0), std::move(target));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const FixedShape wish, fixed ? fixed_shape(*fixed) : fixed_ints(c.in(1), "Reshape's shape"));
    OCIOR_ASSIGN(const FixedShape shape, solve(x.shape(), wish));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), shape));
    copy_elements(x.dtype(), c.out(0).data(), 0, x.data(), 0, x.count());
    return {};
  }

  Status run(CpuContext& c) const {
    OCIOR_ASSIGN(const FixedShape wish, fixed ? fixed_shape(*fixed) : fixed_ints(c.in(1), "Reshape's shape"));
    OCIOR_ASSIGN(const FixedShape shape, solve(c.in(0).shape, wish));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
    return copy_run(c);
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&out](Shape x, std::vector<double> to, int64_t allow_zero = 0, DType t = DType::kFloat) {
      const auto n = static_cast<int64_t>(to.size());
      out.push_back({.inputs = {{t, std::move(x)}, {DType::kInt64, {n}, Fill::kZeros, std::move(to)}},
                     .attributes = {{"allowzero", allow_zero}}});
    };
    add({2, 3, 4}, {4, 6});
    add({2, 3, 4}, {-1});
    add({2, 3, 4}, {0, -1});
    add({2, 3, 4}, {0, 0, 2, -1});
    add({1}, {});
    add({}, {1, 1});
    add({0, 3}, {3, 0}, 1);
    add({0, 3}, {0, 5}, 0);
    add({6}, {2, 3}, 0, DType::kString);
    add({6}, {2, 3}, 0, DType::kInt4);
    out.push_back({.inputs = {{DType::kFloat, {2, 6}}}, .attributes = {{"shape", std::vector<int64_t>{3, -1}}}, .opset = 1});
    std::erase_if(out, [](const Sample& s) { return s.inputs[0].shape == Shape{0, 3} && s.inputs[1].values.back() == 5; });
    return out;
  }

 private:
  // Replaces 0 and -1 in `target`.
  Status solve(ShapeContext& c, Dims& target) const {
    std::optional<size_t> unknown;
    Dims others;
    for (size_t i = 0; i < target.size(); ++i) {
      Dim& d = target[i];
      if (d.known() && d.value() == 0 && !allow_zero) {
        if (!ranked(c, 0)) d = c.fresh("reshape");
        else if (static_cast<int64_t>(i) >= rank(c, 0))
          return error(Code::kInvalidArgument, "Reshape: dimension {} of {} copies one that the input {} has not", i,
                       to_string(target), c.in(0).text());
        else d = (*c.shape(0))[i];
      } else if (d.known() && d.value() == -1) {
        if (unknown) return error(Code::kInvalidArgument, "Reshape: more than one -1 in the shape");
        unknown = i;
        continue;
      } else if (d.known() && d.value() < 0) {
        return error(Code::kInvalidArgument, "Reshape: dimension {} of the shape is {}; expected -1 or more", i, d.value());
      }
      others.push_back(d);
    }
    if (!ranked(c, 0)) {
      if (unknown) target[*unknown] = c.fresh("reshape");
      return {};
    }
    const auto from = known_shape(*c.shape(0)), to = known_shape(target);
    if (from && to) {  // all numbers: one way of solving
      OCIOR_ASSIGN(const FixedShape wish, fixed_shape(*to));
      OCIOR_ASSIGN(const FixedShape solved, solve(*from, wish, true));
      for (size_t i = 0; i < target.size(); ++i) target[i] = solved[static_cast<int64_t>(i)];
    } else if (unknown) {
      target[*unknown] = ratio(*c.shape(0), others);
    }
    return {};
  }

  // The same on numbers; `copied`: zeros were replaced before.
  Result<FixedShape> solve(std::span<const int64_t> from, FixedShape to, bool copied = false) const {
    OCIOR_ASSIGN(const int64_t count, checked_element_count(from));
    int64_t known = 1, unknown = -1;
    bool zero = false;
    for (int64_t i = 0; i < to.rank; ++i) {
      if (to[i] == 0 && !allow_zero && !copied) {
        if (i >= static_cast<int64_t>(from.size()))
          return error(Code::kInvalidArgument, "Reshape: dimension {} copies one that the input {} has not", i, to_string(from));
        to[i] = from[static_cast<size_t>(i)];
      }
      if (to[i] < -1 || (to[i] == -1 && unknown >= 0))
        return error(Code::kInvalidArgument, "Reshape: {} is no shape: negative dimensions other than one -1", to_string(to));
      if (to[i] == -1) unknown = i;
      else if (to[i] == 0) zero = true;
      else if (__builtin_mul_overflow(known, to[i], &known))
        return error(Code::kInvalidArgument, "Reshape: {} is too large", to_string(to));
    }
    if (zero) known = 0;
    const bool fits = unknown < 0 ? known == count : known != 0 && count % known == 0;
    if (!fits)
      return error(Code::kInvalidArgument, "Reshape: an input of shape {} ({} elements) cannot become {}", to_string(from), count,
                   to_string(to));
    if (unknown >= 0) to[unknown] = count / known;
    return to;
  }
};
OCIOR_OPERATOR(Reshape)

// To 2-D: the product of the dimensions before `axis`, and of the rest.
struct Flatten {
  static constexpr OpInfo info{.name = "Flatten", .view = true, .in_place = 1};
  int64_t axis = 1;

  static Flatten parse(const NodeReader& node) { return {node.integer("axis", 1)}; }

  Status infer(ShapeContext& c) const {
    if (!ranked(c, 0)) return c.set(0, c.dtype(0), fresh_dims(c, 2, "flatten")), Status();
    OCIOR_ASSIGN(const int64_t a, cut(rank(c, 0)));
    const Dims& x = *c.shape(0);
    c.set(0, c.dtype(0), Dims{product(Dims(x.begin(), x.begin() + a)), product(Dims(x.begin() + a, x.end()))});
    return {};
  }
  Status reference(RefContext& c) const {
    copy_elements(c.in(0).dtype(), c.out(0).data(), 0, c.in(0).data(), 0, c.in(0).count());
    return {};
  }
  Status run(CpuContext& c) const {
    const auto shape = c.in(0).shape;
    OCIOR_ASSIGN(const int64_t a, cut(c.in(0).rank()));
    const int64_t to[2] = {element_count(shape.first(static_cast<size_t>(a))),
                           element_count(shape.subspan(static_cast<size_t>(a)))};
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, to));
    return copy_run(c);
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const int64_t axis : {0, 1, 2, 3, -1, -3})
      out.push_back({.inputs = {{DType::kFloat, {2, 3, 4}}}, .attributes = {{"axis", axis}}});
    out.push_back({.inputs = {{DType::kFloat, {}}}, .attributes = {{"axis", int64_t{0}}}});
    out.push_back({.inputs = {{DType::kInt8, {0, 3}}}});
    return out;
  }

 private:
  Result<int64_t> cut(int64_t rank) const {  // 0 to rank, both included
    if (axis < -rank || axis > rank)
      return error(Code::kInvalidGraph, "Flatten: axis {} is out of range for rank {}", axis, rank);
    return axis < 0 ? axis + rank : axis;
  }
};
OCIOR_OPERATOR(Flatten)

}  // namespace ocior::ops
