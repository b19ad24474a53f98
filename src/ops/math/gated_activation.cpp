// Activations of two inputs: PRelu, whose slope is an input, and SwiGLU, a Swish that gates a second input.
#include <cmath>

#include "ops/math/binary.h"

namespace ocior::ops {
namespace {

struct PReluFormula {
  template <class C>
  static C apply(C x, C slope) {
    if constexpr (std::is_same_v<C, int64_t>)
      return x < 0 ? static_cast<C>(static_cast<uint64_t>(x) * static_cast<uint64_t>(slope)) : x;
    else return x < C(0) ? x * slope : x;
  }
};

}  // namespace

// x where x >= 0, slope * x below. The slope broadcasts to x; before opset 7 it has one value, or one per channel (axis 1).
struct PRelu {
  static constexpr OpInfo info{.name = "PRelu", .min_inputs = 2, .max_inputs = 2, .in_place = 1};
  static constexpr BinarySpec spec =
      binary_spec<PReluFormula>("PRelu", kFloats | types(DType::kInt32, DType::kInt64, DType::kUint32, DType::kUint64));
  bool channels = false;

  static PRelu parse(const NodeReader& node) {
    if (node.opset() < 6) node.ignore("consumed_inputs");
    return {node.opset() < 7};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, spec.types, spec.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, spec.types, spec.name));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 1, spec.name));
    if (ranked(c, 0) && ranked(c, 1)) {
      const Dims& x = *c.shape(0);
      OCIOR_ASSIGN(const Dims slope, alignment(x.size(), c.shape(1)->size()).aligned(x, *c.shape(1)));
      OCIOR_RETURN_IF_ERROR(check_slope(x, slope));
    }
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    return binary_reference(spec, alignment(c.in(0).shape().size(), c.in(1).shape().size()), c);
  }

  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &slope = c.in(1);
    const OldBroadcast old = alignment(x.shape.size(), slope.shape.size());
    if (x.dtype != DType::kFloat) return binary_run(spec, old, c);
    OCIOR_ASSIGN(const FixedShape aligned, old.aligned(x.shape, slope.shape));
    BroadcastLoop loop;
    OCIOR_RETURN_IF_ERROR(loop.plan(x.shape, {x.shape, aligned}));
    for_items(c, loop.total(), 1, [&](int64_t begin, int64_t end) {
      loop.strips(begin, end, INT64_MAX, [&](int64_t at, const auto& offset, int64_t n) {
        binary_strip<PReluFormula, float>(x.as<const float>() + offset[0], loop.step(0), slope.as<const float>() + offset[1],
                                          loop.step(1), c.out(0).as<float>() + at, n);
      });
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16, DType::kInt32, DType::kInt64,
                          DType::kUint32, DType::kUint64})
      for (const auto& [x, slope] :
           {std::pair<Shape, Shape>{{2, 3, 4}, {2, 3, 4}}, {{2, 3, 4}, {3, 1}}, {{5}, {}}, {{0, 3}, {3}}})
        out.push_back({.inputs = {{t, x}, {t, slope}}});
    out.push_back({.inputs = {{DType::kFloat, {77}, Fill::kSpecials}, {DType::kFloat, {1}}}});
    for (const int opset : {1, 6})
      for (const auto& [x, slope] : {std::pair<Shape, Shape>{{2, 3, 4, 5}, {3}}, {{2, 3, 4}, {1}}, {{3}, {3}}, {{2, 3}, {3}}})
        out.push_back({.inputs = {{DType::kFloat, x}, {DType::kFloat, slope}}, .opset = opset});
    out.push_back({.inputs = {{DType::kFloat, {1, 64, 56, 56}}, {DType::kFloat, {64, 1, 1}}}, .bench = true});
    return out;
  }

 private:
  OldBroadcast alignment(size_t x_rank, size_t slope_rank) const {
    if (!channels || slope_rank != 1) return {};
    return {.old = true, .broadcast = true, .axis = x_rank > 1 ? 1 : 0};
  }

  static Status check_slope(const Dims& x, const Dims& slope) {
    bool fits = slope.size() <= x.size();
    for (size_t i = 0; i < slope.size() && fits; ++i) {
      const Dim &own = slope[i], &other = x[x.size() - slope.size() + i];
      fits = !own.known() || own.value() == 1 || !other.known() || own == other;
    }
    if (fits) return {};
    return error(Code::kInvalidArgument, "PRelu: the slope's shape {} does not broadcast to the input's {}", to_string(slope),
                 to_string(x));
  }
};
OCIOR_OPERATOR(PRelu)

// a * sigmoid(alpha * a) * b of two tensors of one shape.
struct SwiGLU {
  static constexpr OpInfo info{.name = "SwiGLU", .since = 28, .min_inputs = 2, .max_inputs = 2, .in_place = 1};
  double alpha = 1;

  static SwiGLU parse(const NodeReader& node) { return {node.number("alpha", 1)}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, "SwiGLU"));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 1, "SwiGLU"));
    if (!ranked(c, 0) || !ranked(c, 1)) return infer_unary(c);
    const Dims &a = *c.shape(0), &b = *c.shape(1);
    bool alike = a.size() == b.size();
    for (size_t i = 0; i < a.size() && alike; ++i) alike = !a[i].known() || !b[i].known() || a[i] == b[i];
    if (!alike)
      return error(Code::kInvalidArgument, "SwiGLU: inputs of shapes {} and {}; expected equal shapes", to_string(a),
                   to_string(b));
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    const Tensor &a = c.in(0), &b = c.in(1);
    gate(a.dtype(), a.data(), b.data(), c.out(0).data(), 0, a.count());
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView &a = c.in(0), &b = c.in(1), &y = c.out(0);
    const KernelTable& k = c.kernels();
    for_items(c, a.count(), 1, [&](int64_t begin, int64_t end) {
      if (a.dtype != DType::kFloat || alpha != 1) return gate(a.dtype, a.data, b.data, y.data, begin, end);
      alignas(64) float gates[kStrip];  // apart from the output, which may lie over a, and a may be b
      for (int64_t at = begin; at < end; at += kStrip) {
        const int64_t n = std::min(kStrip, end - at);
        k.unary_f32(UnaryFn::kSilu, a.as<const float>() + at, gates, n, 0, 0);
        k.binary_f32(BinaryFn::kMul, gates, 1, b.as<const float>() + at, 1, y.as<float>() + at, n);
      }
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16})
      for (const float alpha : {1.0f, 1.702f})
        for (const Shape& shape : {Shape{2, 3, 5}, Shape{}, Shape{0, 4}, Shape{700}})
          out.push_back({.inputs = {{t, shape, Fill::kNormal}, {t, shape, Fill::kNormal}}, .attributes = {{"alpha", alpha}}});
    out.push_back({.inputs = {{DType::kFloat, {128, 3072}}, {DType::kFloat, {128, 3072}}}, .bench = true});
    return out;
  }

 private:
  void gate(DType t, const void* a, const void* b, void* y, int64_t begin, int64_t end) const {
    alignas(64) double gates[kStrip], values[kStrip], out[kStrip];
    for (int64_t at = begin; at < end; at += kStrip) {
      const int64_t n = std::min(kStrip, end - at);
      const double *x = load<double>(t, a, at, n, gates), *z = load<double>(t, b, at, n, values);
      for (int64_t i = 0; i < n; ++i) out[i] = x[i] / (1 + std::exp(-alpha * x[i])) * z[i];
      store<double>(t, y, at, n, out);
    }
  }
};
OCIOR_OPERATOR(SwiGLU)

}  // namespace ocior::ops
