// QuantizeLinear: y = saturate(round(x / scale) + zero point), halves to even, and DynamicQuantizeLinear, which finds scale and
// zero point itself (https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html). Integer results are the same bits on every
// machine.
#include <cmath>

#include "ops/move.h"
#include "ops/quant/scale.h"
#include "ops/shapes.h"
#include "ops/tensor/cast.h"

namespace ocior::ops {
namespace {

using quant::rounded;
using quant::saturated;

bool is_integer(DType t) { return (quant::kQuantizedInts & type_bit(t)) != 0; }

// What every element needs: where things are, of which type, and the type of the division.
struct Operands {
  DType x_type, scale_type, y_type, division;
  const void *x, *scale, *zero;  // zero: of y's type, or null
  void* y;
  bool saturate;
};

void quantize_strip(const Operands& o, int64_t at, int64_t n, int64_t first_scale, int64_t step) {
  alignas(64) double x_buffer[kStrip], scale_buffer[kStrip], zero_buffer[kStrip], y[kStrip];
  const double* x = load<double>(o.x_type, o.x, at, n, x_buffer);
  const double* scale = load<double>(o.scale_type, o.scale, first_scale, step ? n : 1, scale_buffer);
  const double none = 0;
  const double* zero = o.zero ? load<double>(o.y_type, o.zero, first_scale, step ? n : 1, zero_buffer) : &none;
  const int64_t zero_step = o.zero ? step : 0;
  if (is_integer(o.y_type)) {
    const quant::Range r = quant::range_of(o.y_type);
    for (int64_t i = 0; i < n; ++i) {
      const double q = rounded(o.division, rounded(o.division, x[i]) / rounded(o.division, scale[i * step]));
      y[i] = saturated(std::nearbyint(q) + zero[i * zero_step], r);
    }
    return store<double>(o.y_type, o.y, at, n, y);
  }
  for (int64_t i = 0; i < n; ++i) {
    y[i] = rounded(o.division, rounded(o.division, x[i]) / rounded(o.division, scale[i * step]));
    if (const double z = zero[i * zero_step]; z != 0) y[i] = rounded(o.division, y[i] + z);  // adding 0 would lose the sign of -0
  }
  uint8_t narrow[kStrip];
  (void)cast_elements({.saturate = o.saturate}, DType::kDouble, y, o.y_type, narrow, 0, n);  // fails on strings only
  copy_elements(o.y_type, o.y, at, narrow, 0, n);
}

// The same in float.
template <class Y>
void quantize_floats(const Operands& o, int64_t at, int64_t n, int64_t first_scale, int64_t step) {
  const float *x = static_cast<const float*>(o.x) + at, *scale = static_cast<const float*>(o.scale) + first_scale;
  const Y none = 0, *zero = o.zero ? static_cast<const Y*>(o.zero) + first_scale : &none;
  Y* y = static_cast<Y*>(o.y) + at;
  if (step == 0) {
    const float s = *scale, z = *zero;
    for (int64_t i = 0; i < n; ++i) y[i] = quant::quantized<Y>(x[i] / s, z);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = quant::quantized<Y>(x[i] / scale[i], o.zero ? static_cast<float>(zero[i]) : 0.0f);
  }
}

void quantize(const Operands& o, const quant::Layout& layout, int64_t begin, int64_t end) {
  auto strip = &quantize_strip;
  if (o.x_type == DType::kFloat && o.scale_type == DType::kFloat && o.division == DType::kFloat) {
    if (o.y_type == DType::kInt8) strip = &quantize_floats<int8_t>;
    else if (o.y_type == DType::kUint8) strip = &quantize_floats<uint8_t>;
    else if (o.y_type == DType::kInt16) strip = &quantize_floats<int16_t>;
    else if (o.y_type == DType::kUint16) strip = &quantize_floats<uint16_t>;
  }
  layout.strips(begin, end, [&](int64_t at, int64_t n, int64_t scale, int64_t step) { strip(o, at, n, scale, step); });
}

}  // namespace

struct QuantizeLinear {
  static constexpr OpInfo info{.name = "QuantizeLinear", .since = 10, .min_inputs = 2, .max_inputs = 3};
  quant::Granularity granularity;
  DType output = DType::kUndefined;     // attribute output_dtype
  DType precision = DType::kUndefined;  // of the division; undefined: the scale's type
  bool saturate = true;

  static QuantizeLinear parse(const NodeReader& node) {
    QuantizeLinear op;
    op.granularity = quant::Granularity::parse(node);
    op.output = quant::parse_output_dtype(node, 21, quant::kQuantizedInts | quant::kQuantizedFloats);
    if (node.opset() >= 19) op.saturate = node.integer("saturate", 1) != 0;
    if (node.opset() < 23) return op;
    const int64_t number = node.integer("precision", 0);
    if (number > 0 && number < kDTypeCount) op.precision = static_cast<DType>(number);
    if (number != 0 && !(type_bit(op.precision) & (quant::kScales | type_bit(DType::kDouble))))
      node.fail("precision is {}; expected float, float16, bfloat16 or double", number);
    return op;
  }

  Status infer(ShapeContext& c) const {
    const TypeSet scales = quant::kScales | types(DType::kInt32, DType::kFloat8E8M0);
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, quant::kScales | type_bit(DType::kInt32), info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, scales, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 2, quant::kQuantizedInts | quant::kQuantizedFloats, info.name));
    if (c.has(2) && output != DType::kUndefined && c.dtype(2) != output)
      return error(Code::kInvalidGraph, "QuantizeLinear: output_dtype is {}, but the zero point is {}; expected the same type",
                   name_of(output), name_of(c.dtype(2)));
    OCIOR_RETURN_IF_ERROR(granularity.infer(c, info.name));
    const DType none = output == DType::kUndefined ? DType::kUint8 : output;
    c.set(0, c.has(2) ? c.dtype(2) : none, c.shape(0));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor &x = c.in(0), &scale = c.in(1);
    Tensor& y = c.out(0);
    OCIOR_RETURN_IF_ERROR(quant::check_zero_points(c, info.name));
    OCIOR_ASSIGN(const quant::Layout layout, granularity.layout(x.shape(), scale.shape(), info.name));
    const Operands o =
        operands(x.dtype(), scale.dtype(), y.dtype(), x.data(), scale.data(), c.has(2) ? c.in(2).data() : nullptr, y.data());
    layout.strips(0, x.count(),
                  [&](int64_t at, int64_t n, int64_t first, int64_t step) { quantize_strip(o, at, n, first, step); });
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &scale = c.in(1), &y = c.out(0);
    OCIOR_RETURN_IF_ERROR(quant::check_zero_points(c, info.name));
    OCIOR_ASSIGN(const quant::Layout layout, granularity.layout(x.shape, scale.shape, info.name));
    const Operands o = operands(x.dtype, scale.dtype, y.dtype, x.data, scale.data, c.has(2) ? c.in(2).data : nullptr, y.data);
    // Chunks begin at whole bytes of packed types: kChunk is a multiple of 4.
    for_items(c, x.count(), 1, [&](int64_t begin, int64_t end) { quantize(o, layout, begin, end); });
    return {};
  }

  static std::vector<Sample> samples();

 private:
  Operands operands(DType x_type, DType scale_type, DType y_type, const void* x, const void* scale, const void* zero,
                    void* y) const {
    // Powers of two divide in float; 32-bit integers exactly.
    const DType own = scale_type == DType::kFloat8E8M0 ? DType::kFloat
                      : scale_type == DType::kInt32    ? DType::kDouble
                                                       : scale_type;
    return {x_type, scale_type, y_type, precision == DType::kUndefined ? own : precision, x, scale, zero, y, saturate};
  }
};

std::vector<Sample> QuantizeLinear::samples() {
  std::vector<Sample> out;
  const DType targets[] = {DType::kInt8,         DType::kUint8,          DType::kInt16,      DType::kUint16,
                           DType::kInt4,         DType::kUint4,          DType::kInt2,       DType::kUint2,
                           DType::kFloat8E4M3FN, DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2, DType::kFloat8E5M2FNUZ,
                           DType::kFloat4E2M1};
  for (const quant::ScaledShape& s : quant::scaled_shapes()) {
    for (const DType t : {DType::kInt8, DType::kUint8, DType::kInt16, DType::kUint16, DType::kInt4})
      out.push_back({.inputs = {{DType::kFloat, s.x, Fill::kNormal},
                                {DType::kFloat, s.scale, Fill::kPositive},
                                {t, s.scale, Fill::kSmallInts}},
                     .attributes = s.attributes});
    out.push_back({.inputs = {{DType::kFloat16, s.x, Fill::kNormal}, {DType::kFloat16, s.scale, Fill::kPositive}},
                   .attributes = s.attributes});
  }
  for (const DType t : targets) {
    const SampleInput scale{DType::kFloat, {}, Fill::kZeros, {0.0625}};
    out.push_back({.inputs = {{DType::kFloat, {301}, Fill::kSpecials}, scale, {t, {}, Fill::kZeros}}});
    out.push_back(
        {.inputs = {{DType::kFloat, {301}, Fill::kSpecials}, scale}, .attributes = {{"output_dtype", static_cast<int64_t>(t)}}});
    out.push_back({.inputs = {{DType::kFloat, {3, 70001}, Fill::kNormal}, scale, {t, {}, Fill::kZeros, {1}}}});
    for (const DType x : {DType::kFloat16, DType::kBFloat16, DType::kInt32})
      out.push_back({.inputs = {{x, {3, 17}, Fill::kNormal},
                                {x == DType::kInt32 ? DType::kFloat : x, {}, Fill::kZeros, {0.5}},
                                {t, {}, Fill::kZeros}}});
  }
  for (const DType t : {DType::kFloat8E4M3FN, DType::kFloat8E5M2})
    out.push_back({.inputs = {{DType::kFloat, {4}, Fill::kZeros, {1e6, -1e6, 460, 3}},
                              {DType::kFloat, {}, Fill::kZeros, {1}},
                              {t, {}, Fill::kZeros}},
                   .attributes = {{"saturate", int64_t{0}}}});
  const std::vector<double> halves = {0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 127.5, 128.5, -128.5, 254.5, 255.5, 1e30, -1e30};
  for (const DType t : {DType::kInt8, DType::kUint8, DType::kInt16, DType::kUint2})
    for (const int opset : {10, 13, 19, 21, 23, 25}) {
      if (opset < 21 && t != DType::kInt8 && t != DType::kUint8) continue;
      out.push_back({.inputs = {{DType::kFloat, {13}, Fill::kZeros, halves},
                                {DType::kFloat, {}, Fill::kZeros, {1}},
                                {t, {}, Fill::kZeros, {1}}},
                     .opset = opset});
    }
  for (const DType p : {DType::kFloat, DType::kFloat16, DType::kBFloat16, DType::kDouble})
    out.push_back({.inputs = {{DType::kFloat, {401}, Fill::kNormal},
                              {DType::kFloat16, {}, Fill::kZeros, {0.013}},
                              {DType::kInt8, {}, Fill::kZeros}},
                   .attributes = {{"precision", static_cast<int64_t>(p)}}});
  out.push_back({.inputs = {{DType::kFloat, {2, 3}, Fill::kNormal},
                            {DType::kFloat8E8M0, {}, Fill::kZeros, {0.25}},
                            {DType::kInt8, {}, Fill::kZeros}}});
  out.push_back(
      {.inputs = {
           {DType::kInt32, {2, 3}, Fill::kUniform}, {DType::kInt32, {}, Fill::kZeros, {3}}, {DType::kInt8, {}, Fill::kZeros}}});
  out.push_back({.inputs = {{DType::kFloat, {128, 3072}, Fill::kNormal},
                            {DType::kFloat, {}, Fill::kZeros, {0.02}},
                            {DType::kUint8, {}, Fill::kZeros, {128}}},
                 .bench = true});
  return out;
}
OCIOR_OPERATOR(QuantizeLinear)

// That of com.microsoft: to 8-, 16- and 4-bit integers, whatever the opset, of scales as opset 13 has them.
struct MicrosoftQuantizeLinear : QuantizeLinear {
  static constexpr OpInfo info{.name = "QuantizeLinear", .domain = "com.microsoft", .min_inputs = 2, .max_inputs = 3};

  static MicrosoftQuantizeLinear parse(const NodeReader& node) {
    MicrosoftQuantizeLinear op;
    op.precision = DType::kFloat;  // of float16 too, as ONNX Runtime has it
    op.granularity.axis = node.integer("axis", 1);
    return op;
  }

  Status infer(ShapeContext& c) const {
    for (const int i : {0, 1}) OCIOR_RETURN_IF_ERROR(check_type(c, i, types(DType::kFloat, DType::kFloat16), info.name));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 1, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 2, quant::kMicrosoftInts, info.name));
    return QuantizeLinear::infer(c);
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kInt8, DType::kUint8, DType::kInt16, DType::kUint16, DType::kInt4, DType::kUint4}) {
      out.push_back({.inputs = {{.shape = {2, 3, 5}, .fill = Fill::kNormal}, {.values = {0.1}}, {.dtype = t, .values = {1}}}});
      out.push_back({.inputs = {{DType::kFloat, {2, 3, 5}, Fill::kNormal},
                                {DType::kFloat, {5}, Fill::kPositive},
                                {t, {5}, Fill::kSmallInts}},
                     .attributes = {{"axis", int64_t{-1}}}});
    }
    out.push_back({.inputs = {{DType::kFloat16, {3, 4}, Fill::kNormal}, {DType::kFloat16, {4}, Fill::kPositive}}});
    return out;
  }
};
OCIOR_OPERATOR(MicrosoftQuantizeLinear)

// To uint8 by quant::Dynamic.
struct DynamicQuantizeLinear {
  static constexpr OpInfo info{.name = "DynamicQuantizeLinear", .since = 11, .min_outputs = 3, .max_outputs = 3};

  static DynamicQuantizeLinear parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, type_bit(DType::kFloat), info.name));
    c.set(0, DType::kUint8, c.shape(0));
    c.set(1, DType::kFloat, Dims{});
    c.set(2, DType::kUint8, Dims{});
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    const int64_t n = x.count();
    const quant::Dynamic f = quant::Dynamic::of(quant::bounds(x.as<float>(), n));
    if (c.wants(0)) {
      for (int64_t i = 0; i < n; ++i) c.out(0).as<uint8_t>()[i] = f.quantize(x.as<float>()[i]);
    }
    if (c.wants(1)) *c.out(1).as<float>() = f.scale;
    if (c.wants(2)) *c.out(2).as<uint8_t>() = f.zero;
    return {};
  }

  size_t scratch(const BindContext& c) const { return static_cast<size_t>(chunks(c.in(0).count())) * sizeof(quant::Bounds); }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    const int64_t n = x.count();
    const auto* values = x.as<const float>();
    auto* parts = static_cast<quant::Bounds*>(c.scratch());
    c.team().parallel_for(chunks(n), c.stop(), [&](int64_t i, int) {
      parts[i] = quant::bounds(values + i * kChunk, std::min(kChunk, n - i * kChunk));
    });
    if (c.stop() && c.stop()->requested()) return {};
    quant::Bounds all;
    for (int64_t i = 0; i < chunks(n); ++i) all = {std::min(all.lo, parts[i].lo), std::max(all.hi, parts[i].hi)};
    const quant::Dynamic f = quant::Dynamic::of(all);
    if (c.wants(0)) {
      const Operands o{DType::kFloat, DType::kFloat, DType::kUint8, DType::kFloat, x.data,
                       &f.scale,      &f.zero,       c.out(0).data, true};
      const quant::Layout single{.length = n, .block = n};
      for_items(c, n, 1, [&](int64_t begin, int64_t end) { quantize(o, single, begin, end); });
    }
    if (c.wants(1)) *c.out(1).as<float>() = f.scale;
    if (c.wants(2)) *c.out(2).as<uint8_t>() = f.zero;
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const Shape& shape : {Shape{2, 3, 5}, Shape{}, Shape{0, 4}, Shape{1}, Shape{3, 40001}})
      for (const Fill fill : {Fill::kNormal, Fill::kPositive, Fill::kZeros})
        out.push_back({.inputs = {{DType::kFloat, shape, fill}}, .outputs = 3});
    out.push_back({.inputs = {{DType::kFloat, {3}, Fill::kZeros, {-1, -2, -2.5}}}, .outputs = 3});
    out.push_back({.inputs = {{DType::kFloat, {128, 3072}, Fill::kNormal}}, .outputs = 3, .bench = true});
    return out;
  }

 private:
  static int64_t chunks(int64_t n) { return n / kChunk + (n % kChunk != 0); }
};
OCIOR_OPERATOR(DynamicQuantizeLinear)

}  // namespace ocior::ops
