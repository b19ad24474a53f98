// What the operators on linearly quantised bytes share: one scale and zero point per tensor, rounding to bytes, and tables over
// all 256 of them. Plain functions and values, thread-safe.
#pragma once

#include <array>
#include <cmath>

#include "ops/microsoft/microsoft.h"
#include "ops/quant/integer_product.h"

namespace ocior::ops::qlinear {

inline constexpr TypeSet kBytes = types(DType::kInt8, DType::kUint8);

// Fails when one of `inputs` is omitted: those behind optional ones.
inline Status check_given(const ShapeContext& c, std::initializer_list<int> inputs, std::string_view op) {
  for (const int i : inputs)
    if (!c.has(i)) return error(Code::kInvalidGraph, "{}: input {} is omitted, but the operator needs it", op, i);
  return {};
}

// Fails unless input i, when given, can be a single value.
inline Status check_single(const ShapeContext& c, int i, std::string_view op) {
  const auto count = c.has(i) && ranked(c, i) ? known_product(*c.shape(i)) : std::nullopt;
  if (!count || *count == 1) return {};
  return error(Code::kInvalidArgument, "{}: input {} has shape {}; expected a single value", op, i, to_string(*c.shape(i)));
}

// Fails unless inputs `scale`, `zero` (which may be omitted) and `bytes` are of the types that go together, the first two single.
inline Status check_affine(const ShapeContext& c, int bytes, int scale, int zero, std::string_view op) {
  OCIOR_RETURN_IF_ERROR(check_given(c, {bytes, scale}, op));
  OCIOR_RETURN_IF_ERROR(check_type(c, bytes, kBytes, op));
  OCIOR_RETURN_IF_ERROR(check_type(c, scale, type_bit(DType::kFloat), op));
  if (c.has(zero)) OCIOR_RETURN_IF_ERROR(check_same_type(c, bytes, zero, op));
  OCIOR_RETURN_IF_ERROR(check_single(c, scale, op));
  return check_single(c, zero, op);
}

// value = (byte - zero) * scale.
struct Affine {
  DType dtype = DType::kUint8;
  float scale = 1;
  int32_t zero = 0;

  float value(int64_t byte) const { return static_cast<float>(byte - zero) * scale; }
  // The byte of a value of `steps` scales.
  int64_t byte(float steps) const {
    return static_cast<int64_t>(quant::saturated(std::nearbyint(steps) + static_cast<float>(zero), quant::range_of(dtype)));
  }
  // The same with the zero point added before the rounding, which differs at halves when it is odd.
  int64_t byte_of_sum(float steps) const {
    return static_cast<int64_t>(quant::saturated(std::nearbyint(steps + static_cast<float>(zero)), quant::range_of(dtype)));
  }
  bool operator==(const Affine&) const = default;
};

// Of a tensor of type `dtype` in a reference or a run, whose inputs `scale` and `zero` hold its scale and zero point.
template <class C>
Result<Affine> read_affine(const C& c, DType dtype, int scale, int zero, std::string_view op) {
  Affine out{.dtype = dtype};
  for (const int i : {scale, zero}) {
    if (!c.has(i)) continue;
    const quant::Operand value(c.in(i));
    if (element_count(value.shape) != 1)
      return error(Code::kInvalidArgument, "{}: input {} has shape {}; expected a single value", op, i, to_string(value.shape));
    if (i == scale) out.scale = static_cast<float>(get_double(value.dtype, value.data, 0));
    else out.zero = static_cast<int32_t>(get_int(value.dtype, value.data, 0));
  }
  return out;
}

// A byte for each byte, by its bits.
using Table = std::array<uint8_t, 256>;

// f(byte of x as a number) -> byte of y as a number.
template <class F>
Table make_table(DType x, F&& f) {
  Table out;
  for (int i = 0; i < 256; ++i)
    out[static_cast<size_t>(i)] = static_cast<uint8_t>(f(x == DType::kInt8 ? static_cast<int8_t>(i) : i));
  return out;
}
// From one scale and zero point to others.
inline Table requantizing_table(const Affine& x, const Affine& y) {
  return make_table(x.dtype, [&](int64_t byte) { return x == y ? byte : y.byte(x.value(byte) / y.scale); });
}

inline void map_bytes(const Table& table, const uint8_t* from, uint8_t* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = table[from[i]];
}

// y[i] = f(x[i]) over all elements of input `from`, in a reference.
template <class F>
void map_plainly(RefContext& c, int from, F&& f) {
  const Tensor& x = c.in(from);
  for (int64_t i = 0; i < x.count(); ++i) set_int(x.dtype(), c.out(0).data(), i, f(get_int(x.dtype(), x.data(), i)));
}

}  // namespace ocior::ops::qlinear
