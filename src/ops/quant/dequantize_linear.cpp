// DequantizeLinear: y = (x - zero point) * scale (https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html). Products are
// rounded to float, then to the output's type.
#include "ops/quant/scale.h"

namespace ocior::ops {
namespace {

struct Operands {
  DType x_type, scale_type, y_type;
  const void *x, *scale, *zero;  // zero: of x's type, or null
  void* y;
};

void dequantize_strip(const Operands& o, int64_t at, int64_t n, int64_t first_scale, int64_t step) {
  alignas(64) double x_buffer[kStrip], scale_buffer[kStrip], zero_buffer[kStrip], y[kStrip];
  const double* x = load<double>(o.x_type, o.x, at, n, x_buffer);
  const double* scale = load<double>(o.scale_type, o.scale, first_scale, step ? n : 1, scale_buffer);
  const double none = 0;
  const double* zero = o.zero ? load<double>(o.x_type, o.zero, first_scale, step ? n : 1, zero_buffer) : &none;
  const int64_t zero_step = o.zero ? step : 0;
  for (int64_t i = 0; i < n; ++i) {
    const double centred = static_cast<float>(x[i] - zero[i * zero_step]);
    y[i] = static_cast<float>(centred * scale[i * step]);
  }
  store<double>(o.y_type, o.y, at, n, y);
}

template <class X>
void dequantize_floats(const Operands& o, int64_t at, int64_t n, int64_t first_scale, int64_t step) {
  using Wide = std::conditional_t<sizeof(X) == 4, int64_t, int32_t>;
  const X* x = static_cast<const X*>(o.x) + at;
  const float* scale = static_cast<const float*>(o.scale) + first_scale;
  const X none = 0, *zero = o.zero ? static_cast<const X*>(o.zero) + first_scale : &none;
  float* y = static_cast<float*>(o.y) + at;
  const auto one = [](X v, float s, X z) { return static_cast<float>(static_cast<Wide>(v) - static_cast<Wide>(z)) * s; };
  if (step == 0) {
    const float s = *scale;
    const X z = *zero;
    for (int64_t i = 0; i < n; ++i) y[i] = one(x[i], s, z);
  } else if (o.zero) {
    for (int64_t i = 0; i < n; ++i) y[i] = one(x[i], scale[i], zero[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = one(x[i], scale[i], none);
  }
}

}  // namespace

struct DequantizeLinear {
  static constexpr OpInfo info{.name = "DequantizeLinear", .since = 10, .min_inputs = 2, .max_inputs = 3};
  quant::Granularity granularity;
  DType output = DType::kUndefined;  // attribute output_dtype

  static DequantizeLinear parse(const NodeReader& node) {
    return {quant::Granularity::parse(node), quant::parse_output_dtype(node, 23, quant::kScales)};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, quant::kQuantizedInts | quant::kQuantizedFloats | type_bit(DType::kInt32), info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, quant::kScales | type_bit(DType::kFloat8E8M0), info.name));
    if (c.has(2)) OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 2, info.name));
    if (output == DType::kUndefined && c.dtype(1) == DType::kFloat8E8M0)
      return error(Code::kInvalidGraph,
                   "DequantizeLinear: scales are float8e8m0, which the output cannot be; expected output_dtype");
    OCIOR_RETURN_IF_ERROR(granularity.infer(c, info.name));
    c.set(0, output == DType::kUndefined ? c.dtype(1) : output, c.shape(0));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor &x = c.in(0), &scale = c.in(1);
    Tensor& y = c.out(0);
    OCIOR_RETURN_IF_ERROR(quant::check_zero_points(c, info.name));
    OCIOR_ASSIGN(const quant::Layout layout, granularity.layout(x.shape(), scale.shape(), info.name));
    const Operands o{x.dtype(), scale.dtype(), y.dtype(), x.data(), scale.data(), c.has(2) ? c.in(2).data() : nullptr, y.data()};
    layout.strips(0, x.count(),
                  [&](int64_t at, int64_t n, int64_t first, int64_t step) { dequantize_strip(o, at, n, first, step); });
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &scale = c.in(1), &y = c.out(0);
    OCIOR_RETURN_IF_ERROR(quant::check_zero_points(c, info.name));
    OCIOR_ASSIGN(const quant::Layout layout, granularity.layout(x.shape, scale.shape, info.name));
    const Operands o{x.dtype, scale.dtype, y.dtype, x.data, scale.data, c.has(2) ? c.in(2).data : nullptr, y.data};
    const auto strip = strip_for(o);
    for_items(c, x.count(), 1, [&](int64_t begin, int64_t end) {
      layout.strips(begin, end, [&](int64_t at, int64_t n, int64_t first, int64_t step) { strip(o, at, n, first, step); });
    });
    return {};
  }

  static std::vector<Sample> samples();

 private:
  static void (*strip_for(const Operands& o))(const Operands&, int64_t, int64_t, int64_t, int64_t) {
    if (o.scale_type != DType::kFloat || o.y_type != DType::kFloat) return &dequantize_strip;
    switch (o.x_type) {
      case DType::kInt8: return &dequantize_floats<int8_t>;
      case DType::kUint8: return &dequantize_floats<uint8_t>;
      case DType::kInt16: return &dequantize_floats<int16_t>;
      case DType::kUint16: return &dequantize_floats<uint16_t>;
      case DType::kInt32: return &dequantize_floats<int32_t>;
      default: return &dequantize_strip;
    }
  }
};

std::vector<Sample> DequantizeLinear::samples() {
  std::vector<Sample> out;
  const DType sources[] = {DType::kInt8,           DType::kUint8,        DType::kInt16,          DType::kUint16,
                           DType::kInt32,          DType::kInt4,         DType::kUint4,          DType::kInt2,
                           DType::kUint2,          DType::kFloat8E4M3FN, DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2,
                           DType::kFloat8E5M2FNUZ, DType::kFloat4E2M1};
  for (const quant::ScaledShape& s : quant::scaled_shapes())
    for (const DType t : {DType::kInt8, DType::kUint8, DType::kInt16, DType::kUint16, DType::kInt32, DType::kInt4}) {
      out.push_back({.inputs = {{t, s.x}, {DType::kFloat, s.scale, Fill::kPositive}, {t, s.scale, Fill::kSmallInts}},
                     .attributes = s.attributes});
      out.push_back({.inputs = {{t, s.x}, {DType::kFloat, s.scale, Fill::kPositive}}, .attributes = s.attributes});
    }
  for (const DType t : sources) {
    for (const DType scale : {DType::kFloat, DType::kFloat16, DType::kBFloat16})
      out.push_back({.inputs = {{t, {3, 17}}, {scale, {}, Fill::kZeros, {0.3}}, {t, {}, Fill::kZeros}}});
    out.push_back(
        {.inputs = {{t, {3, 17}}, {DType::kFloat, {}, Fill::kZeros, {0.3}}}, .attributes = {{"output_dtype", int64_t{10}}}});
    out.push_back(
        {.inputs = {{t, {3, 17}}, {DType::kFloat8E8M0, {}, Fill::kZeros, {0.5}}}, .attributes = {{"output_dtype", int64_t{1}}}});
  }
  for (const int opset : {10, 13, 19, 21, 23, 25})
    out.push_back({.inputs = {{DType::kUint8, {5}, Fill::kZeros, {0, 3, 128, 200, 255}},
                              {DType::kFloat, {}, Fill::kZeros, {2}},
                              {DType::kUint8, {}, Fill::kZeros, {128}}},
                   .opset = opset});
  out.push_back({.inputs = {{DType::kInt32, {3}, Fill::kZeros, {2147483647, -2147483648.0, 16777217}},
                            {DType::kFloat, {}, Fill::kZeros, {0.5}}}});
  out.push_back({.inputs = {{DType::kUint8, {128, 3072}},
                            {DType::kFloat, {}, Fill::kZeros, {0.02}},
                            {DType::kUint8, {}, Fill::kZeros, {128}}},
                 .bench = true});
  return out;
}
OCIOR_OPERATOR(DequantizeLinear)

// That of com.microsoft: from integers, whatever the opset, of scales as opset 13 has them.
struct MicrosoftDequantizeLinear : DequantizeLinear {
  static constexpr OpInfo info{.name = "DequantizeLinear", .domain = "com.microsoft", .min_inputs = 2, .max_inputs = 3};

  static MicrosoftDequantizeLinear parse(const NodeReader& node) {
    MicrosoftDequantizeLinear op;
    op.granularity.axis = node.integer("axis", 1);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, quant::kMicrosoftInts | type_bit(DType::kInt32), info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, types(DType::kFloat, DType::kFloat16), info.name));
    return DequantizeLinear::infer(c);
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t :
         {DType::kInt8, DType::kUint8, DType::kInt16, DType::kUint16, DType::kInt32, DType::kInt4, DType::kUint4}) {
      out.push_back({.inputs = {{t, {2, 3, 5}}, {.values = {0.1}}, {.dtype = t, .values = {1}}}});
      out.push_back({.inputs = {{t, {2, 3, 5}}, {DType::kFloat16, {5}, Fill::kPositive}, {t, {5}, Fill::kSmallInts}},
                     .attributes = {{"axis", int64_t{-1}}}});
    }
    return out;
  }
};
OCIOR_OPERATOR(MicrosoftDequantizeLinear)

}  // namespace ocior::ops
