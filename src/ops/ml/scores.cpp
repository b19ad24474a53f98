#include "ops/ml/scores.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace ocior::ops::ml {

Result<Matrix> matrix_of(std::span<const int64_t> shape, std::string_view op) {
  if (shape.size() == 1) return Matrix{1, shape[0]};
  if (shape.size() == 2) return Matrix{shape[0], shape[1]};
  return error(Code::kInvalidArgument, "{}: the input has shape {}; expected [N, F] or [F]", op, to_string(shape));
}

Result<SymbolicMatrix> infer_matrix(ShapeContext& c, std::string_view op) {
  if (!ranked(c, 0)) return SymbolicMatrix{c.fresh("rows"), c.fresh("features")};
  const Dims& shape = *c.shape(0);
  if (shape.size() == 1) return SymbolicMatrix{1, shape[0]};
  if (shape.size() == 2) return SymbolicMatrix{shape[0], shape[1]};
  return error(Code::kInvalidArgument, "{}: the input has shape {}; expected [N, F] or [F]", op, to_string(shape));
}

Status check_features(const Dim& got, int64_t want, std::string_view op) {
  if (!got.known() || got.value() == want) return {};
  return error(Code::kInvalidArgument, "{}: the input has {} features per row, but the coefficients are for {}", op, got.value(),
               want);
}

double dot(const double* x, const float* w, int64_t n) {
  double sum[4] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (int64_t k = 0; k < 4; ++k) sum[k] += x[i + k] * static_cast<double>(w[i + k]);
  for (; i < n; ++i) sum[0] += x[i] * static_cast<double>(w[i]);
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

PostTransform parse_post_transform(const NodeReader& node) {
  static constexpr std::string_view kNames[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  const std::string name = node.text("post_transform", "NONE");
  const auto* found = std::ranges::find(kNames, name);
  if (found != std::end(kNames)) return static_cast<PostTransform>(found - kNames);
  node.fail("post_transform is '{}'; expected NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT", name);
  return PostTransform::kNone;
}

namespace {

double logistic(double v) {
  const double e = 1 / (1 + std::exp(-std::fabs(v)));
  return v < 0 ? 1 - e : e;
}

// The normal quantile by Winitzki's approximation of the inverse error function, the one that implementations agree on.
double probit(double p) {
  constexpr double a = 0.147;
  const double x = 2 * p - 1, log = std::log((1 - x) * (1 + x));
  const double v = 2 / (std::numbers::pi * a) + 0.5 * log;
  const double root = std::sqrt(-v + std::sqrt(v * v - log / a));
  return std::numbers::sqrt2 * (x < 0 ? -root : root);
}

void softmax(std::span<double> s) {
  const double most = *std::ranges::max_element(s);
  double sum = 0;
  for (double& v : s) sum += v = std::exp(v - most);
  for (double& v : s) v /= sum;
}

// Softmax over the scores that are not zero; the others stay next to nothing.
void softmax_zero(std::span<double> s) {
  constexpr double kZero = 1e-7;
  const double most = *std::ranges::max_element(s);
  double sum = 0;
  for (double& v : s) {
    if (std::fabs(v) > kZero) sum += v = std::exp(v - most);
    else v *= std::exp(-most);
  }
  for (double& v : s) v = sum == 0 ? 0.5 : v / sum;
}

}  // namespace

void transform(PostTransform how, std::span<double> scores) {
  if (scores.empty() || (scores.size() == 1 && how != PostTransform::kProbit)) return;
  switch (how) {
    case PostTransform::kNone: return;
    case PostTransform::kSoftmax: return softmax(scores);
    case PostTransform::kSoftmaxZero: return softmax_zero(scores);
    case PostTransform::kLogistic: std::ranges::transform(scores, scores.begin(), logistic); return;
    case PostTransform::kProbit: std::ranges::transform(scores, scores.begin(), probit); return;
  }
}

void transform_pair(PostTransform how, bool probabilities, double* scores) {
  const double s = scores[0];
  scores[0] = probabilities ? 1 - s : -s;
  scores[1] = s;
  if (how == PostTransform::kLogistic) scores[0] = logistic(-s), scores[1] = logistic(s);
  if (how == PostTransform::kProbit) scores[1] = probit(s), scores[0] = -scores[1];
}

Labels Labels::parse(const NodeReader& node, std::string_view numbers, std::string_view names) {
  Labels out{node.integers(numbers), node.texts(names)};
  if (out.numbers.empty() == out.names.empty())
    node.fail("exactly one of the attributes {} and {} must list the classes; got {} and {} of them", numbers, names,
              out.numbers.size(), out.names.size());
  return out;
}

void Labels::put(void* y, int64_t row, int64_t k) const {
  const auto at = static_cast<size_t>(k);
  if (names.empty()) static_cast<int64_t*>(y)[row] = numbers[at];
  else static_cast<std::string*>(y)[row] = names[at];
}

void Labels::put_sign(void* y, int64_t row, bool positive) const {
  if (names.empty()) static_cast<int64_t*>(y)[row] = positive;
  else static_cast<std::string*>(y)[row] = std::string(1, positive ? '1' : '0');
}

}  // namespace ocior::ops::ml
