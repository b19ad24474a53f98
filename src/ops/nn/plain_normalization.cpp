// Normalisations without parameters to learn: LRN (across neighbouring channels), MeanVarianceNormalization and LpNormalization
// (https://onnx.ai/onnx/operators/onnx__LRN.html).
#include <cmath>

#include "ops/nn/numeric.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

Status infer_floats(ShapeContext& c, std::string_view name) {
  OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, name));
  return infer_unary(c);
}

void add_samples(std::vector<Sample>& out, const Shape& x, const Attributes& a, int old_opset) {
  for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16})
    out.push_back({.inputs = {{.dtype = t, .shape = x, .fill = Fill::kNormal}},
                   .attributes = a,
                   .tolerance = t == DType::kFloat     ? 4e-6
                                : t == DType::kDouble  ? 1e-12
                                : t == DType::kFloat16 ? 2e-3
                                                       : 1e-2});
  out.push_back({.inputs = {{.shape = x}}, .attributes = a, .opset = old_opset, .tolerance = 4e-6});
}

}  // namespace

// x / (bias + alpha / size * sum of squares of the `size` channels around)^beta.
struct LRN {
  static constexpr OpInfo info{.name = "LRN", .in_place = 1};
  double alpha = 1e-4, beta = 0.75, bias = 1;
  int64_t size = 1;

  static LRN parse(const NodeReader& node) {
    LRN op{node.number("alpha", 1e-4f), node.number("beta", 0.75f), node.number("bias", 1), node.required_integer("size")};
    if (op.size < 1 || op.size > INT32_MAX) node.fail("size is {}; expected a positive number", op.size);
    return op;
  }

  Status infer(ShapeContext& c) const {
    if (ranked(c, 0) && rank(c, 0) < 2)
      return error(Code::kInvalidGraph, "LRN: the input has rank {}; expected [n, c, ...]", rank(c, 0));
    return infer_floats(c, info.name);
  }

  Status reference(RefContext& c) const {
    const Shape& shape = c.in(0).shape();
    const std::vector<double> x = nn::doubles(c.in(0));
    std::vector<double> y(x.size());
    const int64_t channels = shape[1], inner = nn::extent(shape, 2, c.in(0).rank());
    for (int64_t i = 0; i < shape[0] * inner; ++i)
      column(x.data() + first(i, channels, inner), channels, inner, y.data() + first(i, channels, inner));
    nn::store(c.out(0), y);
    return {};
  }

  double work(const BindContext& c) const { return 30.0 * static_cast<double>(c.out(0).count()); }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    add_samples(out, {2, 5, 3, 4}, {{"size", int64_t{3}}}, 1);
    add_samples(out, {2, 5, 3}, {{"size", int64_t{4}}, {"alpha", 0.5f}, {"beta", 0.5f}, {"bias", 2.0f}}, 1);
    add_samples(out, {1, 2}, {{"size", int64_t{9}}}, 1);
    add_samples(out, {0, 2, 3}, {{"size", int64_t{1}}}, 1);
    return out;
  }

 private:
  // Where place i of [n, inner] begins in [n, c, inner].
  static int64_t first(int64_t i, int64_t channels, int64_t inner) { return i / inner * channels * inner + i % inner; }

  // The channels at one place, `step` apart.
  void column(const double* x, int64_t channels, int64_t step, double* y) const {
    for (int64_t k = 0; k < channels; ++k) {
      const int64_t from = std::max<int64_t>(0, k - (size - 1) / 2), to = std::min(channels - 1, k + size / 2);
      double squares = 0;
      for (int64_t j = from; j <= to; ++j) squares += x[j * step] * x[j * step];
      y[k * step] = x[k * step] / std::pow(bias + alpha / static_cast<double>(size) * squares, beta);
    }
  }
};
OCIOR_OPERATOR(LRN)

// (x - mean) / (standard deviation + 1e-9) over some axes.
struct MeanVarianceNormalization {
  static constexpr OpInfo info{.name = "MeanVarianceNormalization", .since = 9, .in_place = 1};
  std::vector<int64_t> axes;

  static MeanVarianceNormalization parse(const NodeReader& node) { return {node.integers("axes", {0, 2, 3})}; }

  Status infer(ShapeContext& c) const {
    if (ranked(c, 0)) OCIOR_RETURN_IF_ERROR(resolve_axes(axes, rank(c, 0)).status());
    return infer_floats(c, info.name);
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const std::vector<int64_t> reduced, resolve_axes(axes, x.rank()));
    Shape groups = x.shape();
    for (const int64_t a : reduced) groups[static_cast<size_t>(a)] = 1;
    std::vector<double> values = nn::doubles(x);
    const auto count = static_cast<size_t>(element_count(groups));
    if (values.empty()) return {};
    const std::vector<int64_t> group = nn::broadcast_index(groups, x.shape());
    const double n = static_cast<double>(values.size() / count);
    std::vector<double> mean(count), variance(count);
    for (size_t i = 0; i < values.size(); ++i) mean[static_cast<size_t>(group[i])] += values[i] / n;
    for (size_t i = 0; i < values.size(); ++i) {
      const auto g = static_cast<size_t>(group[i]);
      variance[g] += (values[i] - mean[g]) * (values[i] - mean[g]) / n;
    }
    for (size_t i = 0; i < values.size(); ++i) {
      const auto g = static_cast<size_t>(group[i]);
      values[i] = (values[i] - mean[g]) / (std::sqrt(variance[g]) + 1e-9);
    }
    nn::store(c.out(0), values);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    add_samples(out, {2, 3, 4, 5}, {}, 9);
    add_samples(out, {2, 3, 4}, {{"axes", std::vector<int64_t>{-1, 0}}}, 9);
    add_samples(out, {0, 3, 4}, {{"axes", std::vector<int64_t>{1}}}, 9);
    return out;
  }
};
OCIOR_OPERATOR(MeanVarianceNormalization)

// x divided by its 1- or 2-norm along an axis; where that is 0, so is the result.
struct LpNormalization {
  static constexpr OpInfo info{.name = "LpNormalization", .in_place = 1};
  int64_t axis = -1, p = 2;

  static LpNormalization parse(const NodeReader& node) {
    LpNormalization op{node.integer("axis", -1), node.integer("p", 2)};
    if (op.p != 1 && op.p != 2) node.fail("p is {}; expected 1 or 2", op.p);
    return op;
  }

  Status infer(ShapeContext& c) const {
    if (ranked(c, 0)) OCIOR_RETURN_IF_ERROR(resolve_axis(axis, rank(c, 0)).status());
    return infer_floats(c, info.name);
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, x.rank()));
    std::vector<double> values = nn::doubles(x);
    if (values.empty()) return {};
    const int64_t n = x.shape()[static_cast<size_t>(a)], inner = nn::extent(x.shape(), a + 1, x.rank());
    for (int64_t i = 0; i < static_cast<int64_t>(values.size()) / n; ++i) {
      double* const row = values.data() + i / inner * n * inner + i % inner;
      double norm = 0;
      for (int64_t k = 0; k < n; ++k) norm += p == 1 ? std::fabs(row[k * inner]) : row[k * inner] * row[k * inner];
      if (p == 2) norm = std::sqrt(norm);
      for (int64_t k = 0; k < n; ++k) row[k * inner] = norm == 0 ? 0 : row[k * inner] / norm;
    }
    nn::store(c.out(0), values);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const int64_t p : {1, 2})
      for (const int64_t axis : {0, 1, -1}) add_samples(out, {2, 3, 4}, {{"p", p}, {"axis", axis}}, 1);
    add_samples(out, {2, 0}, {}, 1);
    out.push_back({.inputs = {{.shape = {2, 3}, .fill = Fill::kZeros}}});
    return out;
  }
};
OCIOR_OPERATOR(LpNormalization)

}  // namespace ocior::ops
