// Helpers that many operators' infer() and reference() share: axes, broadcasting, index walks.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "ops/operator.h"

namespace ocior::ops {

// axis in [-rank, rank) -> [0, rank); an error says the range.
Result<int64_t> resolve_axis(int64_t axis, int64_t rank, std::string_view what = "axis");

// NumPy broadcasting of symbolic shapes. Two unlike symbols: the result is taken to be the one that is not 1 if known, else a
// fresh dim.
Result<Dims> broadcast(ShapeContext& c, const Dims& a, const Dims& b);
// The same for numbers.
Result<Shape> broadcast(std::span<const int64_t> a, std::span<const int64_t> b);

// Row-major element strides; stride 0 along broadcast axes when `shape` is aligned right to `to`.
std::vector<int64_t> dense_strides(std::span<const int64_t> shape);
std::vector<int64_t> broadcast_strides(std::span<const int64_t> shape, std::span<const int64_t> to);

// infer() of an element-wise operator: output 0 has input 0's type (unary) or the broadcast of all inputs with input `typed`'s
// dtype.
Status infer_unary(ShapeContext& c);
Status infer_broadcast(ShapeContext& c, DType dtype);

// Normalises a list of axes (negative allowed), sorted; doubles and out-of-range ones are errors.
Result<std::vector<int64_t>> resolve_axes(std::vector<int64_t> axes, int64_t rank);

// Elements of an integer tensor (int32 or int64, any rank) as int64.
std::vector<int64_t> to_ints(const Tensor& t);
inline std::vector<int64_t> to_ints(const TensorView& t) {
  std::vector<int64_t> out(static_cast<size_t>(t.count()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = get_int(t.dtype, t.data, static_cast<int64_t>(i));
  return out;
}

// Bytes of one element; for data movement (strings: sizeof(std::string)). 0 for sub-byte types.
size_t element_size(DType dtype);

}  // namespace ocior::ops
