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
