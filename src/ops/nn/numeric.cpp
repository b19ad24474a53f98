#include "ops/nn/numeric.h"

#include "ops/shapes.h"

namespace ocior::ops::nn {

std::vector<double> doubles(const Tensor& t) {
  const size_t count = static_cast<size_t>(t.count());
  std::vector<double> out(count);
  if (t.dtype() == DType::kFloat) {
    std::copy_n(t.as<float>(), count, out.begin());
  } else {
    for (size_t i = 0; i < count; ++i) out[i] = get_double(t.dtype(), t.data(), static_cast<int64_t>(i));
  }
  return out;
}

void store(Tensor& t, std::span<const double> values) {
  if (t.dtype() == DType::kFloat) {
    std::transform(values.begin(), values.end(), t.as<float>(), [](double v) { return static_cast<float>(v); });
  } else {
    for (size_t i = 0; i < values.size(); ++i) set_double(t.dtype(), t.data(), static_cast<int64_t>(i), values[i]);
  }
}

Status check_floats(const ShapeContext& c, std::initializer_list<int> inputs, bool alike) {
  for (const int i : inputs) {
    if (!c.has(i)) continue;
    const DType dtype = c.dtype(i);
    if (is_floating(dtype) && (!alike || dtype == c.dtype(0))) continue;
    return error(Code::kInvalidGraph, "input {} is {}; expected {}", i, name_of(dtype),
                 alike && i > 0 ? name_of(c.dtype(0)) : "a float type");
  }
  return {};
}

Status check_numbers(const ShapeContext& c) {
  const DType dtype = c.dtype(0);
  if (bits_of(dtype) < 8 || dtype == DType::kBool || dtype == DType::kComplex64 || dtype == DType::kComplex128)
    return error(Code::kInvalidGraph, "input 0 is {}; expected numbers", name_of(dtype));
  for (int i = 1; i < c.inputs(); ++i)
    if (c.has(i) && c.dtype(i) != dtype)
      return error(Code::kInvalidGraph, "input {} is {}; expected {}", i, name_of(c.dtype(i)), name_of(dtype));
  return {};
}

bool may_equal(const Dims& a, const Dims& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Dim& x, const Dim& y) { return may_equal(x, y); });
}

std::vector<int64_t> broadcast_index(std::span<const int64_t> from, std::span<const int64_t> to) {
  const std::vector<int64_t> strides = broadcast_strides(from, to);
  std::vector<int64_t> out(static_cast<size_t>(element_count(to)));
  for (size_t i = 0; i < out.size(); ++i) {
    auto rest = static_cast<int64_t>(i);
    for (size_t axis = to.size(); axis-- > 0; rest /= to[axis]) out[i] += rest % to[axis] * strides[axis];
  }
  return out;
}

}  // namespace ocior::ops::nn
