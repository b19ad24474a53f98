// Pad: elements around the input (or, with negative pads, fewer): a constant, the edge, the mirror image or the other end.
#include <algorithm>

#include "ops/evaluate.h"
#include "ops/loops.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

enum class PadMode { kConstant, kEdge, kReflect, kWrap };

// Where output place i (counted from the first input element) comes from; -1: from the constant. n > 0.
int64_t source(PadMode mode, int64_t i, int64_t n) {
  if (i >= 0 && i < n) return i;
  switch (mode) {
    case PadMode::kConstant: return -1;
    case PadMode::kEdge: return i < 0 ? 0 : n - 1;
    case PadMode::kWrap: return ((i % n) + n) % n;
    case PadMode::kReflect: break;
  }
  if (n == 1) return 0;
  const int64_t period = 2 * (n - 1), place = ((i % period) + period) % period;
  return place < n ? place : period - place;
}

}  // namespace

struct Pad {
  static constexpr OpInfo info{.name = "Pad", .max_inputs = 4};
  PadMode mode = PadMode::kConstant;
  std::optional<std::vector<int64_t>> fixed;  // opset < 11
  float fixed_value = 0;

  static Pad parse(const NodeReader& node) {
    Pad op;
    const std::string mode = node.text("mode", "constant");
    if (mode == "edge") op.mode = PadMode::kEdge;
    else if (mode == "reflect") op.mode = PadMode::kReflect;
    else if (mode == "wrap" && node.opset() >= 19) op.mode = PadMode::kWrap;
    else if (mode != "constant") node.fail("mode is '{}'; expected constant, reflect, edge or (since opset 19) wrap", mode);
    if (node.opset() >= 11) {
      if (node.inputs() < 2) node.fail("expected at least 2 inputs since opset 11, got {}", node.inputs());
      return op;
    }
    if (node.inputs() != 1) node.fail("pads are an attribute before opset 11, got {} inputs", node.inputs());
    op.fixed = node.integers(node.opset() < 2 ? "paddings" : "pads");
    op.fixed_value = node.number("value", 0);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kNumbers | kBools | kStrings, "Pad"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, "Pad"));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 2, "Pad"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 3, kIndices, "Pad"));
    c.set(0, c.dtype(0), std::nullopt);
    if (!ranked(c, 0)) return {};
    const auto pads = fixed ? Dims(fixed->begin(), fixed->end()) : data_of(c, 1);
    const auto axes = axes_of(c);
    if (!pads || !axes) return c.set(0, c.dtype(0), fresh_dims(c, rank(c, 0), "pad")), Status();
    if (pads->size() != 2 * axes->size())
      return error(Code::kInvalidArgument, "Pad: {} pads for {} axes; expected two for each", pads->size(), axes->size());
    Dims out = *c.shape(0);
    for (size_t i = 0; i < axes->size(); ++i) {
      OCIOR_ASSIGN(const int64_t a, resolve_axis((*axes)[i], rank(c, 0)));
      Dim& d = out[static_cast<size_t>(a)];
      d = d + (*pads)[i] + (*pads)[i + axes->size()];
      if (d.known() && d.value() < 0) return error(Code::kInvalidArgument, "Pad: dimension {} would become {}", a, d.value());
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const Plan plan, plan_of(c, x.shape()));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), plan.shape));
    Tensor value;
    OCIOR_ASSIGN(value, constant_value(c));
    const auto strides = dense_strides(x.shape());
    FixedShape place = plan.shape;
    for (int64_t i = 0; i < place.rank; ++i) place[i] = 0;
    for (int64_t k = 0, n = element_count(plan.shape); k < n; ++k) {
      int64_t from = 0;
      bool inside = true;
      for (int64_t i = 0; i < place.rank; ++i) {
        const int64_t at = source(mode, place[i] - plan.before[i], x.shape()[static_cast<size_t>(i)]);
        inside &= at >= 0;
        from += at * strides[static_cast<size_t>(i)];
      }
      copy_elements(x.dtype(), c.out(0).data(), k, inside ? x.data() : value.data(), inside ? from : 0, 1);
      for (int64_t i = place.rank; i-- > 0;) {
        if (++place[i] < plan.shape[i]) break;
        place[i] = 0;
      }
    }
    return {};
  }

  // A constant: fill, then copy the box that remains of the input. Other modes go by the reference.
  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    if (mode != PadMode::kConstant || !moves_as_bytes(x.dtype)) return run_by_reference(*this, c);
    OCIOR_ASSIGN(const Plan plan, plan_of(c, x.shape));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, plan.shape));
    alignas(16) std::byte value[16] = {};
    if (c.has(2) && c.in(2).count() == 1) copy_elements(x.dtype, value, 0, c.in(2).data, 0, 1);
    else if (fixed) set_double(x.dtype, value, 0, fixed_value);
    const int64_t n = element_count(plan.shape);
    void* y = c.out(0).data;
    for_items(c, n, 1, [&](int64_t begin, int64_t end) { fill_elements(x.dtype, y, begin, value, 0, end - begin); });
    BoxCopy copy{.dtype = x.dtype, .destination = y, .source = x.data};
    int64_t in = 1, out = 1, in_stride[kMaxRank], out_stride[kMaxRank];
    for (int64_t i = plan.shape.rank; i-- > 0;) {
      in_stride[i] = in, out_stride[i] = out;
      in *= x.shape[static_cast<size_t>(i)], out *= plan.shape[i];
    }
    for (int64_t i = 0; i < plan.shape.rank; ++i) {
      const int64_t first = std::max<int64_t>(0, -plan.before[i]);
      const int64_t last = std::min(x.shape[static_cast<size_t>(i)], plan.shape[i] - plan.before[i]);
      if (last <= first) return {};
      copy.s += first * in_stride[i], copy.d += (first + plan.before[i]) * out_stride[i];
      copy.axis(last - first, out_stride[i], in_stride[i]);
    }
    copy.run(c);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&out](DType t, Shape x, std::vector<double> pads, const char* mode, std::vector<double> value = {}) {
      const auto n = static_cast<int64_t>(pads.size());
      Sample s{.inputs = {{t, std::move(x)}, {DType::kInt64, {n}, Fill::kZeros, std::move(pads)}},
               .attributes = {{"mode", std::string(mode)}}};
      if (!value.empty()) s.inputs.push_back({t, {}, Fill::kZeros, std::move(value)});
      out.push_back(std::move(s));
    };
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kBool, DType::kString, DType::kFloat16, DType::kDouble})
      for (const char* mode : {"constant", "edge", "reflect", "wrap"}) {
        add(t, {3, 4}, {1, 2, 0, 3}, mode);
        add(t, {3, 4}, {-1, 2, 1, -1}, mode);
        add(t, {2, 3, 2}, {0, 2, 0, 1, 2, 0}, mode, {1});
      }
    add(DType::kFloat, {2, 3}, {7, 8, 9, 10}, "reflect");
    add(DType::kFloat, {0, 3}, {1, 0, 1, 0}, "constant", {2});
    add(DType::kFloat, {}, {}, "constant");
    add(DType::kFloat, {150, 200}, {3, 4, 5, 6}, "constant", {2});
    out.push_back({.inputs = {{DType::kFloat, {2, 3, 4}},
                              {DType::kInt64, {2}, Fill::kZeros, {1, 2}},
                              {.omitted = true},
                              {DType::kInt64, {1}, Fill::kZeros, {-2}}}});
    out.push_back({.inputs = {{DType::kFloat, {2, 3}}},
                   .attributes = {{"pads", std::vector<int64_t>{1, 0, 0, 2}}, {"value", 3.5f}},
                   .opset = 2});
    return out;
  }

 private:
  struct Plan {
    FixedShape shape, before;
  };

  // The axes that the pads are for, when known.
  std::optional<std::vector<int64_t>> axes_of(ShapeContext& c) const {
    if (c.has(3)) return ints_of(c, 3);
    std::vector<int64_t> all;
    for (int64_t i = 0; i < rank(c, 0); ++i) all.push_back(i);
    return all;
  }

  template <class C>
  Result<Plan> plan_of(C& c, std::span<const int64_t> x) const {
    Plan plan;
    OCIOR_ASSIGN(plan.shape, fixed_shape(x));
    for (int64_t i = 0; i < plan.shape.rank; ++i) plan.before.push(0);
    const bool listed = c.has(3);
    const int64_t axes = listed ? c.in(3).count() : plan.shape.rank;
    const int64_t pads = fixed ? static_cast<int64_t>(fixed->size()) : c.in(1).count();
    if (axes > kMaxRank || pads != 2 * axes)
      return error(Code::kInvalidArgument, "Pad: {} pads for {} axes; expected two for each", pads, axes);
    const auto value = [](const auto& t, int64_t i) {
      if constexpr (std::is_same_v<C, RefContext>) return get_int(t.dtype(), t.data(), i);
      else return get_int(t.dtype, t.data, i);
    };
    for (int64_t i = 0; i < axes; ++i) {
      OCIOR_ASSIGN(const int64_t a, resolve_axis(listed ? value(c.in(3), i) : i, plan.shape.rank));
      const int64_t before = fixed ? (*fixed)[static_cast<size_t>(i)] : value(c.in(1), i);
      const int64_t after = fixed ? (*fixed)[static_cast<size_t>(i + axes)] : value(c.in(1), i + axes);
      const int64_t length = plan.shape[a];
      plan.before[a] = before;
      const bool overflow = __builtin_add_overflow(plan.shape[a], before, &plan.shape[a]) ||
                            __builtin_add_overflow(plan.shape[a], after, &plan.shape[a]);
      if (overflow || plan.shape[a] < 0 || plan.shape[a] > (int64_t{1} << 58))
        return error(Code::kInvalidArgument, "Pad: pads {} and {} of dimension {} ({}) leave no shape", before, after, a, length);
      if (length == 0 && plan.shape[a] > 0 && mode != PadMode::kConstant)
        return error(Code::kInvalidArgument, "Pad: dimension {} has no elements to pad with", a);
    }
    OCIOR_RETURN_IF_ERROR(checked_element_count(plan.shape).status());
    return plan;
  }

  Result<Tensor> constant_value(RefContext& c) const {
    const DType t = c.in(0).dtype();
    OCIOR_ASSIGN(Tensor value, Tensor::allocate(t, {}));
    if (c.has(2) && c.in(2).count() == 1) copy_elements(t, value.data(), 0, c.in(2).data(), 0, 1);
    else if (t != DType::kString) set_double(t, value.data(), 0, fixed ? fixed_value : 0);
    return value;
  }
};
OCIOR_OPERATOR(Pad)

}  // namespace ocior::ops
