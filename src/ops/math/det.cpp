// Det: determinants of the square matrices in the last two axes (https://onnx.ai/onnx/operators/onnx__Det.html).
#include <cmath>

#include "ops/nn/numeric.h"
#include "ops/shape_data.h"

namespace ocior::ops {
namespace {

// Gaussian elimination with row pivoting; `m`, n by n, is overwritten.
double determinant(double* m, int64_t n) {
  double product = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i)
      if (std::fabs(m[i * n + k]) > std::fabs(m[pivot * n + k])) pivot = i;
    if (pivot != k) {
      std::swap_ranges(m + k * n, m + (k + 1) * n, m + pivot * n);
      product = -product;
    }
    const double top = m[k * n + k];
    product *= top;
    if (top == 0) return product;
    for (int64_t i = k + 1; i < n; ++i) {
      const double factor = m[i * n + k] / top;
      for (int64_t j = k + 1; j < n; ++j) m[i * n + j] -= factor * m[k * n + j];
    }
  }
  return product;
}

}  // namespace

struct Det {
  static constexpr OpInfo info{.name = "Det", .since = 11};

  static Det parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, "Det"));
    if (!ranked(c, 0)) {
      c.set(0, c.dtype(0), std::nullopt);
      return {};
    }
    const Dims& x = *c.shape(0);
    const size_t rank = x.size();
    if (rank < 2 || !nn::may_equal(x[rank - 2], x[rank - 1]))
      return error(Code::kInvalidArgument, "Det: the input's shape is {}; expected square matrices in the last two axes",
                   to_string(x));
    c.set(0, c.dtype(0), Dims(x.begin(), x.end() - 2));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    const int64_t n = x.shape().back();
    std::vector<double> values = nn::doubles(x), out(static_cast<size_t>(c.out(0).count()));
    for (size_t i = 0; i < out.size(); ++i) out[i] = determinant(values.data() + static_cast<int64_t>(i) * n * n, n);
    nn::store(c.out(0), out);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16})
      for (const Shape& shape : {Shape{1, 1}, Shape{3, 3}, Shape{2, 4, 5, 5}, Shape{0, 2, 2}, Shape{2, 0, 0}})
        out.push_back({.inputs = {{t, shape}}});
    out.push_back({.inputs = {{DType::kFloat, {3, 3}, Fill::kZeros, {0, 2, 1, 0, 0, 3, 4, 5, 6}}}});
    out.push_back({.inputs = {{DType::kFloat, {2, 2}, Fill::kZeros}}});
    return out;
  }
};
OCIOR_OPERATOR(Det)

}  // namespace ocior::ops
