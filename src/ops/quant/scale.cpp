#include "ops/quant/scale.h"

#include <cmath>

#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops::quant {

Range range_of(DType t) {
  const bool is_signed = t == DType::kInt8 || t == DType::kInt16 || t == DType::kInt4 || t == DType::kInt2;
  const double values = static_cast<double>(1 << bits_of(t));
  return is_signed ? Range{-values / 2, values / 2 - 1} : Range{0, values - 1};
}

double rounded(DType t, double v) {
  switch (t) {
    case DType::kFloat: return static_cast<float>(v);
    case DType::kFloat16: return half_to_float(float_to_half(static_cast<float>(v)));
    case DType::kBFloat16: return bfloat16_to_float(float_to_bfloat16(static_cast<float>(v)));
    default: return v;
  }
}

// Several running bounds, so that the loop has no chain from element to element.
Bounds bounds(const float* x, int64_t n) {
  constexpr int64_t kLanes = 16;
  float lo[kLanes] = {}, hi[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t j = 0; j < kLanes; ++j) {
      lo[j] = x[i + j] < lo[j] ? x[i + j] : lo[j];
      hi[j] = x[i + j] > hi[j] ? x[i + j] : hi[j];
    }
  for (; i < n; ++i) lo[0] = std::min(lo[0], x[i]), hi[0] = std::max(hi[0], x[i]);
  return {*std::min_element(lo, lo + kLanes), *std::max_element(hi, hi + kLanes)};
}

Dynamic Dynamic::of(const Bounds& b) {
  const float scale = (b.lo == b.hi ? 1.0f : b.hi - b.lo) / 255.0f;
  return {scale, static_cast<uint8_t>(std::nearbyint(saturated(0.0f - b.lo / scale, {0, 255})))};
}

uint8_t Dynamic::quantize(float x) const { return static_cast<uint8_t>(saturated(std::nearbyint(x / scale) + zero, {0, 255})); }

Granularity Granularity::parse(const NodeReader& node) {
  Granularity out;
  if (node.opset() >= 13) out.axis = node.integer("axis", 1);
  if (node.opset() >= 21) out.block_size = node.integer("block_size", 0);
  if (out.block_size < 0) node.fail("block_size is {}; expected a positive number, or 0 for none", out.block_size);
  return out;
}

namespace {

// Of an input of rank 1 the axis does not matter.
Result<int64_t> axis_of(int64_t axis, int64_t rank) { return rank == 1 ? Result<int64_t>(int64_t{0}) : resolve_axis(axis, rank); }

Status wrong_scale(std::string_view op, const std::string& x, const std::string& scale, std::string_view expected) {
  return error(Code::kInvalidArgument, "{}: scales of shape {} for an input of shape {}; expected {}", op, scale, x, expected);
}

}  // namespace

Status Granularity::infer(ShapeContext& c, std::string_view op) const {
  if (!ranked(c, 1)) return {};
  const Dims& scale = *c.shape(1);
  if (c.has(2) && ranked(c, 2) && !nn::may_equal(*c.shape(2), scale)) {
    const bool single = known_product(*c.shape(2)) == 1 && known_product(scale) == 1;
    if (!single)
      return error(Code::kInvalidArgument, "{}: zero points of shape {} and scales of shape {}; expected equal shapes", op,
                   to_string(*c.shape(2)), to_string(scale));
  }
  if (!ranked(c, 0)) return {};
  const Dims& x = *c.shape(0);
  const auto xs = known_shape(x), scales = known_shape(scale);
  if (xs && scales) return layout(*xs, *scales, op).status();
  if (scale.size() > 1 && scale.size() != x.size())
    return wrong_scale(op, to_string(x), to_string(scale), "one, one per index of the axis, or as many axes as the input");
  return {};
}

Result<Layout> Granularity::layout(std::span<const int64_t> x, std::span<const int64_t> scale, std::string_view op) const {
  const auto rank = static_cast<int64_t>(x.size());
  Layout out;
  out.length = std::max<int64_t>(1, element_count(x));
  out.block = out.length;
  if (scale.size() <= 1 && element_count(scale) == 1) return out;
  if (rank == 0 || scale.empty()) return wrong_scale(op, to_string(x), to_string(scale), "a single one");
  OCIOR_ASSIGN(const int64_t axis, axis_of(this->axis, rank));
  const auto at = static_cast<size_t>(axis);
  out.length = x[at], out.inner = element_count(x.subspan(at + 1)), out.block = 1;
  if (scale.size() == 1 && (block_size == 0 || rank > 1)) {
    if (scale[0] != x[at])
      return wrong_scale(op, to_string(x), to_string(scale), fmt::format("{}, one per index of axis {}", x[at], axis));
    out.axis_step = 1;
    return out;
  }
  if (block_size == 0) return wrong_scale(op, to_string(x), to_string(scale), "at most one axis without attribute block_size");
  Shape blocks(x.begin(), x.end());
  blocks[at] = x[at] / block_size + (x[at] % block_size != 0);
  if (!std::ranges::equal(blocks, scale))
    return wrong_scale(op, to_string(x), to_string(scale),
                       fmt::format("{}: blocks of {} along axis {}", to_string(blocks), block_size, axis));
  out.block = block_size;
  out.inner_step = 1, out.axis_step = out.inner, out.outer_step = out.inner * blocks[at];
  return out;
}

DType parse_output_dtype(const NodeReader& node, int since, TypeSet allowed) {
  if (node.opset() < since) return DType::kUndefined;
  const int64_t number = node.integer("output_dtype", 0);
  if (number == 0) return DType::kUndefined;
  if (number > 0 && number < kDTypeCount && (type_bit(static_cast<DType>(number)) & allowed)) return static_cast<DType>(number);
  node.fail("output_dtype is {}, which is not an element type of the output", number);
  return DType::kUndefined;
}

std::vector<ScaledShape> scaled_shapes() {
  const auto attributes = [](int64_t axis, int64_t block) {
    graph::Attributes out{{"axis", axis}};
    if (block) out["block_size"] = block;
    return out;
  };
  return {{{2, 3, 5}, {}, {}},
          {{2, 3, 5}, {1}, {}},
          {{}, {}, {}},
          {{0, 3}, {}, {}},
          {{0, 3}, {3}, {}},
          {{7}, {7}, {}},
          {{2, 3, 5}, {3}, {}},
          {{2, 3, 5}, {5}, attributes(-1, 0)},
          {{2, 3, 5}, {2}, attributes(0, 0)},
          {{2, 7, 3}, {2, 3, 3}, attributes(1, 3)},
          {{2, 3, 67}, {2, 3, 3}, attributes(-1, 32)},
          {{9, 4}, {1, 4}, attributes(0, 16)},
          {{9}, {5}, attributes(0, 2)},
          {{2, 0, 3}, {2, 0, 3}, attributes(1, 2)},
          {{64, 1500}, {64}, attributes(0, 0)}};
}

}  // namespace ocior::ops::quant
