// Inverse of com.microsoft: the inverses of the square matrices in the last two axes. A singular one gives no finite numbers.
#include <cmath>
#include <limits>

#include "ops/microsoft/microsoft.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

// Gauss-Jordan elimination with row pivoting: `m`, n by n, is overwritten, `inverse` receives the result.
void invert(double* m, double* inverse, int64_t n) {
  std::fill_n(inverse, n * n, 0.0);
  for (int64_t i = 0; i < n; ++i) inverse[i * n + i] = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i)
      if (std::fabs(m[i * n + k]) > std::fabs(m[pivot * n + k])) pivot = i;
    if (m[pivot * n + k] == 0) return std::fill_n(inverse, n * n, std::numeric_limits<double>::quiet_NaN()), void();
    if (pivot != k)
      for (double* const a : {m, inverse}) std::swap_ranges(a + k * n, a + (k + 1) * n, a + pivot * n);
    const double top = m[k * n + k];
    for (double* const a : {m, inverse})
      for (int64_t j = 0; j < n; ++j) a[k * n + j] /= top;
    for (int64_t i = 0; i < n; ++i) {
      const double factor = m[i * n + k];
      if (i == k || factor == 0) continue;
      for (double* const a : {m, inverse})
        for (int64_t j = 0; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
    }
  }
}

}  // namespace

struct Inverse {
  static constexpr OpInfo info{.name = "Inverse", .domain = kMicrosoft};

  static Inverse parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, "Inverse"));
    if (c.shape(0)) {
      const Dims& x = *c.shape(0);
      if (x.size() < 2 || !nn::may_equal(x[x.size() - 2], x.back()))
        return error(Code::kInvalidArgument, "X has shape {}; expected square matrices in the last two axes", to_string(x));
    }
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    std::vector<double> x = nn::doubles(c.in(0)), y(x.size());
    if (x.empty()) return {};
    const int64_t n = c.in(0).shape().back();
    for (size_t at = 0; at < x.size(); at += static_cast<size_t>(n * n)) invert(x.data() + at, y.data() + at, n);
    nn::store(c.out(0), y);
    return {};
  }

  static double work(const BindContext& c) {
    return 4.0 * static_cast<double>(c.in(0).count()) * static_cast<double>(std::max<int64_t>(1, c.in(0).shape.back()));
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16})
      for (const Shape& shape : {Shape{1, 1}, Shape{3, 3}, Shape{2, 4, 5, 5}, Shape{0, 2, 2}, Shape{2, 0, 0}})
        out.push_back({.inputs = {{t, shape}}});
    out.push_back({.inputs = {{DType::kFloat, {3, 3}, Fill::kZeros, {0, 2, 1, 0, 0, 3, 4, 5, 6}}}});
    out.push_back({.inputs = {{DType::kFloat, {2, 2}, Fill::kZeros}}});
    return out;
  }
};

OCIOR_OPERATOR(Inverse)

}  // namespace ocior::ops
