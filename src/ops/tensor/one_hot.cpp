// OneHot and EyeLike: tensors that are one value but for some places.
#include <algorithm>

#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

// A new axis of `depth` places, on where the index says; indices outside of [-depth, depth) leave all off.
struct OneHot {
  static constexpr OpInfo info{.name = "OneHot", .since = 9, .min_inputs = 3, .max_inputs = 3};
  int64_t axis = -1;

  static OneHot parse(const NodeReader& node) { return {node.integer("axis", -1)}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kNumbers, "OneHot"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kNumbers, "OneHot"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 2, kAnyType, "OneHot"));
    c.set(0, c.dtype(2), std::nullopt);
    if (!ranked(c, 0)) return {};
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, rank(c, 0) + 1));
    Dim depth;
    const Tensor* constant = c.constant(1);
    const auto data = data_of(c, 1);
    if (constant && constant->count() == 1) {
      OCIOR_ASSIGN(depth, checked_depth(get_int(constant->dtype(), constant->data(), 0)));
    } else {
      depth = data && data->size() == 1 ? (*data)[0] : c.fresh("depth");
    }
    Dims out = *c.shape(0);
    out.insert(out.begin() + a, depth);
    c.set(0, c.dtype(2), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor &x = c.in(0), &depth = c.in(1), &values = c.in(2);
    if (depth.count() != 1 || values.count() != 2)
      return error(Code::kInvalidArgument, "OneHot: expected one depth and two values");
    OCIOR_ASSIGN(const int64_t n, checked_depth(get_int(depth.dtype(), depth.data(), 0)));
    OCIOR_ASSIGN(const FixedShape shape, output_shape(x.shape(), n));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, values.dtype(), shape));
    return fill(x.dtype(), x.data(), values.dtype(), values.data(), shape, n, c.out(0).data());
  }

  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &depth = c.in(1), &values = c.in(2);
    if (depth.count() != 1 || values.count() != 2)
      return error(Code::kInvalidArgument, "OneHot: expected one depth and two values");
    OCIOR_ASSIGN(const int64_t n, checked_depth(get_int(depth.dtype, depth.data, 0)));
    OCIOR_ASSIGN(const FixedShape shape, output_shape(x.shape, n));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
    return fill(x.dtype, x.data, values.dtype, values.data, shape, n, c.out(0).data);
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kInt32, DType::kBool, DType::kString, DType::kFloat16})
      for (const DType index : {DType::kInt64, DType::kFloat, DType::kInt32})
        for (const int64_t axis : {0, 1, -1, -2}) {
          const SampleInput depth{DType::kInt64, axis == 0 ? Shape{1} : Shape{}, Fill::kZeros, {5}},
              values{t, {2}, Fill::kZeros, {0, 1}};
          out.push_back(
              {.inputs = {{index, {2, 3}, Fill::kZeros, {0, 4, -1, 9, -6, 2}}, depth, values}, .attributes = {{"axis", axis}}});
        }
    const SampleInput depth{DType::kInt64, {}, Fill::kZeros, {3}}, values{DType::kFloat, {2}, Fill::kZeros, {-1, 2}};
    out.push_back({.inputs = {{DType::kInt64, {}, Fill::kZeros, {1}}, depth, values}});
    out.push_back({.inputs = {{DType::kInt64, {0}}, depth, values}});
    return out;
  }

 private:
  static Result<int64_t> checked_depth(int64_t depth) {
    if (depth < 0) return error(Code::kInvalidArgument, "OneHot: the depth is {}; expected 0 or more", depth);
    return depth;
  }

  Result<FixedShape> output_shape(std::span<const int64_t> x, int64_t depth) const {
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, static_cast<int64_t>(x.size()) + 1));
    if (x.size() >= kMaxRank) return error(Code::kNotImplemented, "OneHot of indices of rank {} is not supported", x.size());
    FixedShape out;
    for (int64_t i = 0; i <= static_cast<int64_t>(x.size()); ++i)
      out.push(i == a ? depth : x[static_cast<size_t>(i < a ? i : i - 1)]);
    OCIOR_RETURN_IF_ERROR(checked_element_count(out).status());
    return out;
  }

  Status fill(DType index_type, const void* indices, DType t, const void* values, const FixedShape& shape, int64_t depth,
              void* y) const {
    fill_elements(t, y, 0, values, 0, element_count(shape));
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, shape.rank));
    int64_t inner = 1, count = 1;
    for (int64_t i = 0; i < shape.rank; ++i) {
      if (i > a) inner *= shape[i];
      if (i != a) count *= shape[i];
    }
    for (int64_t k = 0; k < count; ++k) {
      const int64_t index = get_int(index_type, indices, k);
      if (index < -depth || index >= depth) continue;
      copy_elements(t, y, k / inner * depth * inner + (index < 0 ? index + depth : index) * inner + k % inner, values, 1, 1);
    }
    return {};
  }
};
OCIOR_OPERATOR(OneHot)

// A matrix of the input's shape with ones on diagonal k.
struct EyeLike {
  static constexpr OpInfo info{.name = "EyeLike", .since = 9};
  std::optional<DType> to;
  int64_t k = 0;

  static EyeLike parse(const NodeReader& node) {
    EyeLike op;
    op.k = node.integer("k", 0);
    if (node.has("dtype")) {
      const int64_t number = node.integer("dtype", 0);
      if (number <= 0 || number >= kDTypeCount || !((kNumbers | kBools) >> number & 1))
        node.fail("dtype {} is no numeric element type", number);
      else op.to = static_cast<DType>(number);
    }
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kNumbers | kBools, "EyeLike"));
    if (ranked(c, 0) && rank(c, 0) != 2)
      return error(Code::kInvalidArgument, "EyeLike: the input has rank {}; expected 2", rank(c, 0));
    c.set(0, to.value_or(c.dtype(0)), c.shape(0));
    return {};
  }
  Status reference(RefContext& c) const { return fill(c.out(0).dtype(), c.out(0).shape(), c.out(0).data()); }
  Status run(CpuContext& c) const { return fill(c.out(0).dtype, c.out(0).shape, c.out(0).data); }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kFloat16, DType::kBool})
      for (const int64_t k : {int64_t{0}, int64_t{1}, int64_t{-2}, int64_t{9}, INT64_MIN, INT64_MAX})
        out.push_back({.inputs = {{t, {3, 4}, Fill::kBools}}, .attributes = {{"k", k}}});
    out.push_back({.inputs = {{DType::kInt32, {4, 3}}}, .attributes = {{"dtype", int64_t{11}}}});
    out.push_back({.inputs = {{DType::kInt32, {0, 3}}}});
    return out;
  }

 private:
  Status fill(DType t, std::span<const int64_t> shape, void* y) const {
    if (shape.size() != 2) return error(Code::kInvalidArgument, "EyeLike: the input has rank {}; expected 2", shape.size());
    const int64_t rows = shape[0], columns = shape[1], shift = std::clamp(k, -rows, columns);
    for (int64_t i = 0; i < rows * columns; ++i) set_int(t, y, i, i % columns == i / columns + shift);
    return {};
  }
};
OCIOR_OPERATOR(EyeLike)

}  // namespace ocior::ops
