// Squeeze and Unsqueeze: drop or insert dimensions of 1. The axes are an attribute before opset 13, an input since.
#include <algorithm>

#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

// The axes of one node, from the attribute or from input 1.
struct Axes {
  std::optional<std::vector<int64_t>> fixed;
  bool input = false;

  static Axes parse(const NodeReader& node) {
    Axes out;
    out.input = node.opset() >= 13;
    if (out.input) return out;
    if (node.has("axes")) out.fixed = node.integers("axes");
    if (node.inputs() != 1) node.fail("the axes are an attribute before opset 13, got {} inputs", node.inputs());
    return out;
  }
  bool given(const ShapeContext& c) const { return input ? c.has(1) : fixed.has_value(); }
  std::optional<std::vector<int64_t>> known(ShapeContext& c) const { return input ? ints_of(c, 1) : fixed; }

  // In a run: a bit per axis of `rank`.
  template <class C>
  Result<uint64_t> bits(C& c, int64_t rank) const {
    uint64_t mask = 0;
    FixedShape list;
    if (input) {
      OCIOR_ASSIGN(list, fixed_ints(c.in(1), "the list of axes"));
    } else {
      OCIOR_ASSIGN(list, fixed_shape(*fixed));
    }
    for (int64_t i = 0; i < list.rank; ++i) {
      OCIOR_ASSIGN(const int64_t a, resolve_axis(list[i], rank));
      if (mask >> a & 1) return error(Code::kInvalidArgument, "axis {} is named twice", a);
      mask |= uint64_t{1} << a;
    }
    return mask;
  }
};

template <class Op>
Status copy_reference(const Op& op, RefContext& c) {
  const Tensor& x = c.in(0);
  OCIOR_ASSIGN(const FixedShape shape, op.shape_of(c, x.shape()));
  OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), shape));
  copy_elements(x.dtype(), c.out(0).data(), 0, x.data(), 0, x.count());
  return {};
}

template <class Op>
Status copy_run(const Op& op, CpuContext& c) {
  const TensorView& x = c.in(0);
  OCIOR_ASSIGN(const FixedShape shape, op.shape_of(c, x.shape));
  OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
  if (c.out(0).data != x.data) copy_elements(x.dtype, c.out(0).data, 0, x.data, 0, x.count());
  return {};
}

std::vector<Sample> axes_samples(const std::vector<std::pair<Shape, std::vector<double>>>& cases) {
  std::vector<Sample> out;
  for (const auto& [shape, axes] : cases) {
    out.push_back({.inputs = {{DType::kFloat, shape}, {DType::kInt64, {static_cast<int64_t>(axes.size())}, Fill::kZeros, axes}}});
    out.push_back({.inputs = {{DType::kString, shape}},
                   .attributes = {{"axes", std::vector<int64_t>(axes.begin(), axes.end())}},
                   .opset = 11});
  }
  return out;
}

}  // namespace

// Drops the named dimensions, each of which must be 1; without axes all that are 1.
struct Squeeze {
  static constexpr OpInfo info{.name = "Squeeze", .max_inputs = 2, .view = true, .in_place = 1};
  Axes axes;

  static Squeeze parse(const NodeReader& node) { return {Axes::parse(node)}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "Squeeze"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, "Squeeze"));
    pass_data(c);
    c.set(0, c.dtype(0), std::nullopt);
    if (!ranked(c, 0)) return {};
    const Dims& x = *c.shape(0);
    Dims out;
    if (!axes.given(c)) {
      if (!known_shape(x)) return {};  // which are 1 only the run knows
      for (const Dim& d : x)
        if (d.value() != 1) out.push_back(d);
      return c.set(0, c.dtype(0), std::move(out)), Status();
    }
    const auto known = axes.known(c);
    if (!known) {
      const auto length = length_of(c, 1);
      if (length && *length == rank(c, 0))  // all of them go, whatever their order
        for (size_t i = 0; i < x.size(); ++i)
          if (x[i].known() && x[i].value() != 1)
            return error(Code::kInvalidArgument, "Squeeze: dimension {} is {}; expected 1", i, x[i].value());
      if (length && *length <= rank(c, 0)) c.set(0, c.dtype(0), fresh_dims(c, rank(c, 0) - *length, "squeeze"));
      return {};
    }
    OCIOR_ASSIGN(const std::vector<int64_t> drop, resolve_axes(*known, rank(c, 0)));
    for (size_t i = 0; i < x.size(); ++i) {
      const bool dropped = std::binary_search(drop.begin(), drop.end(), static_cast<int64_t>(i));
      if (!dropped) out.push_back(x[i]);
      else if (x[i].known() && x[i].value() != 1)
        return error(Code::kInvalidArgument, "Squeeze: dimension {} is {}; expected 1", i, x[i].value());
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }
  Status reference(RefContext& c) const { return copy_reference(*this, c); }
  Status run(CpuContext& c) const { return copy_run(*this, c); }

  template <class C>
  Result<FixedShape> shape_of(C& c, std::span<const int64_t> x) const {
    OCIOR_ASSIGN(const FixedShape all, fixed_shape(x));
    const bool given = axes.input ? c.has(1) : axes.fixed.has_value();
    uint64_t mask = 0;
    if (given) {
      OCIOR_ASSIGN(mask, axes.bits(c, all.rank));
    }
    FixedShape out;
    for (int64_t i = 0; i < all.rank; ++i) {
      const bool dropped = given ? mask >> i & 1 : all[i] == 1;
      if (!dropped) out.push(all[i]);
      else if (all[i] != 1) return error(Code::kInvalidArgument, "Squeeze: dimension {} is {}; expected 1", i, all[i]);
    }
    return out;
  }

  static std::vector<Sample> samples() {
    auto out = axes_samples({{{1, 3, 1, 2}, {0}}, {{1, 3, 1, 2}, {0, -2}}, {{1}, {0}}, {{0, 1}, {1}}});
    out.push_back({.inputs = {{DType::kFloat, {1, 3, 1}}}});
    out.push_back({.inputs = {{DType::kFloat, {1, 3, 1}}}, .opset = 1});
    out.push_back({.inputs = {{DType::kInt4, {3, 1}}}});
    return out;
  }
};
OCIOR_OPERATOR(Squeeze)

// Inserts dimensions of 1 at the named places of the output.
struct Unsqueeze {
  static constexpr OpInfo info{.name = "Unsqueeze", .max_inputs = 2, .view = true, .in_place = 1};
  Axes axes;

  static Unsqueeze parse(const NodeReader& node) {
    Unsqueeze op{Axes::parse(node)};
    if (op.axes.input && node.inputs() != 2) node.fail("expected 2 inputs since opset 13, got {}", node.inputs());
    if (!op.axes.input && !op.axes.fixed) node.fail("attribute 'axes' is required");
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "Unsqueeze"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, "Unsqueeze"));
    pass_data(c);
    c.set(0, c.dtype(0), std::nullopt);
    if (!ranked(c, 0)) return {};
    const auto known = axes.known(c);
    if (!known) {
      const auto length = length_of(c, 1);
      if (length && *length <= kMaxRank) c.set(0, c.dtype(0), fresh_dims(c, rank(c, 0) + *length, "unsqueeze"));
      return {};
    }
    if (static_cast<int64_t>(known->size()) > kMaxRank)
      return error(Code::kNotImplemented, "Unsqueeze: {} axes; the limit is {}", known->size(), kMaxRank);
    const Dims& x = *c.shape(0);
    Dims out(x.size() + known->size(), Dim(1));
    OCIOR_ASSIGN(const std::vector<int64_t> added, resolve_axes(*known, static_cast<int64_t>(out.size())));
    for (size_t i = 0, k = 0; i < out.size(); ++i)
      if (!std::binary_search(added.begin(), added.end(), static_cast<int64_t>(i))) out[i] = x[k++];
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }
  Status reference(RefContext& c) const { return copy_reference(*this, c); }
  Status run(CpuContext& c) const { return copy_run(*this, c); }

  template <class C>
  Result<FixedShape> shape_of(C& c, std::span<const int64_t> x) const {
    const int64_t added = axes.input ? c.in(1).count() : static_cast<int64_t>(axes.fixed->size());
    const int64_t rank = static_cast<int64_t>(x.size()) + added;
    if (rank > kMaxRank)
      return error(Code::kNotImplemented, "Unsqueeze: rank {} is not supported; the limit is {}", rank, kMaxRank);
    OCIOR_ASSIGN(const uint64_t mask, axes.bits(c, rank));
    FixedShape out;
    for (int64_t i = 0, k = 0; i < rank; ++i) out.push(mask >> i & 1 ? 1 : x[static_cast<size_t>(k++)]);
    return out;
  }

  static std::vector<Sample> samples() {
    return axes_samples({{{3, 2}, {0}}, {{3, 2}, {-1}}, {{3, 2}, {4, 0, 1}}, {{}, {0}}, {{0}, {1}}, {{2}, {}}});
  }
};
OCIOR_OPERATOR(Unsqueeze)

}  // namespace ocior::ops
