// What QuantizeLinear and DequantizeLinear share: which scale and zero point belong to an element (one for all, one per index of
// an axis, or one per block of an axis), and the samples of these. Thread-safe.
#pragma once

#include <algorithm>
#include <limits>

#include "ops/loops.h"
#include "ops/shape_data.h"
#include "ops/typed.h"

namespace ocior::ops::quant {

inline constexpr TypeSet kScales = types(DType::kFloat, DType::kFloat16, DType::kBFloat16);
inline constexpr TypeSet kQuantizedInts =
    types(DType::kInt8, DType::kUint8, DType::kInt16, DType::kUint16, DType::kInt4, DType::kUint4, DType::kInt2, DType::kUint2);
// Of the two operators in com.microsoft.
inline constexpr TypeSet kMicrosoftInts =
    types(DType::kInt8, DType::kUint8, DType::kInt16, DType::kUint16, DType::kInt4, DType::kUint4);
inline constexpr TypeSet kQuantizedFloats =
    types(DType::kFloat8E4M3FN, DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2, DType::kFloat8E5M2FNUZ, DType::kFloat4E2M1);

// The smallest and the largest value of a quantized integer type.
struct Range {
  double lo, hi;
};
Range range_of(DType t);
// NaN becomes the smallest value.
inline double saturated(double v, const Range& r) { return v > r.hi ? r.hi : v >= r.lo ? v : r.lo; }

// v rounded to float, float16 or bfloat16; other types keep it. Products and quotients of two values of such a type, rounded to
// double first, round to the same value.
double rounded(DType t, double v);

// saturate(round(q) + zero) for 8- and 16-bit types, NaN as above. Clamping before rounding gives what rounding first does, as
// the bounds are integers; adding and taking away 1.5 * 2^23 rounds halves to even below 2^22, where the bounds keep the values.
template <class Y>
Y quantized(float q, float zero) {
  constexpr float kRounder = 12582912.0f;
  const float lo = static_cast<float>(std::numeric_limits<Y>::min()) - zero;
  const float hi = static_cast<float>(std::numeric_limits<Y>::max()) - zero;
  const float above = q > lo ? q : lo, inside = above < hi ? above : hi;
  return static_cast<Y>(static_cast<int32_t>(inside + kRounder - kRounder + zero));
}

// The smallest and the largest of n numbers and 0; NaN is passed over.
struct Bounds {
  float lo = 0, hi = 0;
};
Bounds bounds(const float* x, int64_t n);

// To uint8 such that 0 and everything within bounds is in range. Without any other value than 0 the scale is 1 / 255.
struct Dynamic {
  float scale;
  uint8_t zero;

  static Dynamic of(const Bounds& b);
  uint8_t quantize(float x) const;
};

// Scale of an element at (outer, d, inner) of the cut at the axis: outer * outer_step + d / block * axis_step + inner *
// inner_step.
struct Layout {
  int64_t length = 1, inner = 1, block = 1;
  int64_t outer_step = 0, axis_step = 0, inner_step = 0;

  // Calls f(first element, n, first scale, step of the scale) for the strips of elements [begin, end), each at most kStrip.
  template <class F>
  void strips(int64_t begin, int64_t end, F&& f) const {
    for (int64_t at = begin; at < end;) {
      const int64_t i = at % inner, d = at / inner % length, o = at / inner / length;
      const int64_t scale = o * outer_step + d / block * axis_step + i * inner_step;
      int64_t n = std::min(kStrip, end - at), step = 0;
      if (inner > 1) n = std::min(n, inner - i), step = inner_step;
      else if (block > 1) n = std::min({n, block - d % block, length - d});
      else n = std::min(n, length - d), step = axis_step;
      f(at, n, scale, step);
      at += n;
    }
  }
};

// The attributes that say how scales are laid out.
struct Granularity {
  int64_t axis = 1;
  int64_t block_size = 0;

  // `axis` came with opset 13, `block_size` with 21.
  static Granularity parse(const NodeReader& node);
  // Checks inputs 1 and 2 against input 0, as far as their shapes are known.
  Status infer(ShapeContext& c, std::string_view op) const;
  // Shapes are those that infer() would accept; errors say what differs where it could not know them.
  Result<Layout> layout(std::span<const int64_t> x, std::span<const int64_t> scale, std::string_view op) const;
};

// Fails unless input 2, the zero points, is omitted or has as many elements as input 1, the scales; C: of a reference or a run.
template <class C>
Status check_zero_points(const C& c, std::string_view op) {
  if (!c.has(2) || c.in(2).count() == c.in(1).count()) return {};
  return error(Code::kInvalidArgument, "{}: {} zero points and {} scales; expected as many", op, c.in(2).count(),
               c.in(1).count());
}

// Reads `output_dtype` (since `since`): a type of `allowed`, or kUndefined.
DType parse_output_dtype(const NodeReader& node, int since, TypeSet allowed);

// The shapes of x and of its scales with the attributes that go with them, of every granularity.
struct ScaledShape {
  Shape x, scale;
  graph::Attributes attributes;
};
std::vector<ScaledShape> scaled_shapes();

}  // namespace ocior::ops::quant
