// SVMRegressor and SVMClassifier: kernels of a row with the support vectors, combined pair by pair of classes as libsvm does
// (Chang and Lin, LIBSVM, 2011; probabilities by Wu, Lin and Weng, 2004). Without support vectors the coefficients are linear.
#include <algorithm>
#include <cmath>

#include "ops/ml/scores.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

enum class SvmKernel { kLinear, kPoly, kRbf, kSigmoid };

struct Svm {
  SvmKernel kernel = SvmKernel::kLinear;
  double gamma = 0, coef0 = 0, degree = 0;
  std::vector<float> vectors, coefficients, rho;
  int64_t count = 0, features = 0;  // support vectors; numbers in each

  static Svm parse(const NodeReader& node) {
    static constexpr std::string_view kNames[] = {"LINEAR", "POLY", "RBF", "SIGMOID"};
    Svm op;
    const std::string name = node.text("kernel_type", "LINEAR");
    const auto* found = std::ranges::find(kNames, name);
    if (found == std::end(kNames)) node.fail("kernel_type is '{}'; expected LINEAR, POLY, RBF or SIGMOID", name);
    else op.kernel = static_cast<SvmKernel>(found - kNames);
    const std::vector<float> params = node.numbers("kernel_params");
    if (!params.empty() && params.size() != 3)
      node.fail("kernel_params has {} elements; expected gamma, coef0 and degree", params.size());
    else if (!params.empty()) op.gamma = params[0], op.coef0 = params[1], op.degree = params[2];
    op.vectors = node.numbers("support_vectors");
    op.coefficients = node.numbers("coefficients");
    op.rho = node.numbers("rho");
    if (op.coefficients.empty() || op.rho.empty()) node.fail("the attributes coefficients and rho must have values");
    return op;
  }
  // Cuts the vectors into `n` or, when n is 0, the coefficients into one vector for each of `rows`.
  void cut(const NodeReader& node, int64_t n, int64_t rows) {
    if (n < 0) return node.fail("there are {} support vectors; expected 0 or more", n);
    const auto have = static_cast<int64_t>(n > 0 ? vectors.size() : coefficients.size()), parts = n > 0 ? n : rows;
    if (have == 0 || have % parts != 0) {
      node.fail("there are {} {} for {} vectors; expected as many for each", have,
                n > 0 ? "numbers of support vectors" : "coefficients", n > 0 ? n : rows);
      return;
    }
    count = n, features = have / parts;
    if (n == 0) kernel = SvmKernel::kLinear;
  }
  // The kernel of x and w, both of `features` numbers.
  double apply(const double* x, const float* w) const {
    switch (kernel) {
      case SvmKernel::kLinear: return ml::dot(x, w, features);
      case SvmKernel::kPoly: return std::pow(gamma * ml::dot(x, w, features) + coef0, degree);
      case SvmKernel::kSigmoid: return std::tanh(gamma * ml::dot(x, w, features) + coef0);
      case SvmKernel::kRbf: break;
    }
    double sum[2] = {};
    for (int64_t i = 0; i < features; ++i) {
      const double d = x[i] - static_cast<double>(w[i]);
      sum[i & 1] += d * d;
    }
    return std::exp(-gamma * (sum[0] + sum[1]));
  }
  const float* vector(int64_t i) const { return vectors.data() + i * features; }
  double cost() const { return 2.0 * static_cast<double>(std::max(vectors.size(), coefficients.size())); }
  int64_t row_cost() const { return static_cast<int64_t>(std::max(vectors.size(), coefficients.size())); }
};

std::vector<float> wave(size_t n, double seed) {
  std::vector<float> out(n);
  for (size_t i = 0; i < n; ++i) out[i] = static_cast<float>(std::sin(seed + 1.7 * static_cast<double>(i)));
  return out;
}
const std::vector<float> kParams{0.3F, 0.2F, 3};

}  // namespace

struct SVMRegressor {
  static constexpr OpInfo info{.name = "SVMRegressor", .domain = ml::kMl};
  Svm svm;
  bool one_class = false;

  static SVMRegressor parse(const NodeReader& node) {
    SVMRegressor op{Svm::parse(node), node.integer("one_class", 0) != 0};
    ml::parse_post_transform(node);  // the only score of a row is not transformed, as in ONNX Runtime
    op.svm.cut(node, node.integer("n_supports", 0), 1);
    if (static_cast<int64_t>(op.svm.coefficients.size()) < op.svm.count)
      node.fail("there are {} coefficients for {} support vectors", op.svm.coefficients.size(), op.svm.count);
    return op;
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, ml::kFeatures, info.name));
    OCIOR_ASSIGN(const ml::SymbolicMatrix m, ml::infer_matrix(c, info.name));
    OCIOR_RETURN_IF_ERROR(ml::check_features(m.columns, svm.features, info.name));
    c.set(0, DType::kFloat, Dims{m.rows, 1});
    return {};
  }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const ml::Matrix m, ml::matrix_of(x.shape(), info.name));
    OCIOR_RETURN_IF_ERROR(ml::check_features(m.columns, svm.features, info.name));
    std::vector<double> buffer(static_cast<size_t>(svm.features));
    score(x.dtype(), x.data(), c.out(0).as<float>(), 0, m.rows, buffer.data());
    return {};
  }
  size_t scratch(const BindContext& c) const { return ml::row_scratch(c, static_cast<size_t>(svm.features)); }
  double work(const BindContext& c) const { return svm.cost() * static_cast<double>(c.out(0).count()); }
  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_ASSIGN(const ml::Matrix m, ml::matrix_of(x.shape, info.name));
    OCIOR_RETURN_IF_ERROR(ml::check_features(m.columns, svm.features, info.name));
    ml::for_rows(c, m.rows, svm.row_cost(), static_cast<size_t>(svm.features), [&](int64_t begin, int64_t end, double* buffer) {
      score(x.dtype, x.data, c.out(0).as<float>(), begin, end, buffer);
    });
    return {};
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const char* kernel : {"LINEAR", "POLY", "RBF", "SIGMOID"})
      for (const DType t : {DType::kFloat, DType::kDouble, DType::kInt64, DType::kInt32})
        for (const Shape& shape : {Shape{5}, Shape{0, 5}, Shape{900, 5}})
          out.push_back({.inputs = {{t, shape, Fill::kSmallInts}},
                         .attributes = {{"kernel_type", std::string(kernel)},
                                        {"kernel_params", kParams},
                                        {"support_vectors", wave(35, 1)},
                                        {"coefficients", wave(7, 2)},
                                        {"rho", std::vector<float>{.3F}},
                                        {"n_supports", int64_t{7}}}});
    for (const int64_t one_class : {0, 1})
      out.push_back({.inputs = {{DType::kFloat, {4, 6}}},
                     .attributes = {{"coefficients", wave(6, 2)}, {"rho", std::vector<float>{.1F}}, {"one_class", one_class}}});
    return out;
  }

 private:
  void score(DType t, const void* x, float* y, int64_t begin, int64_t end, double* buffer) const {
    for (int64_t row = begin; row < end; ++row) {
      const double* v = load<double>(t, x, row * svm.features, svm.features, buffer);
      double sum = static_cast<double>(svm.rho[0]);
      if (svm.count == 0) sum += svm.apply(v, svm.coefficients.data());
      for (int64_t i = 0; i < svm.count; ++i)
        sum += static_cast<double>(svm.coefficients[static_cast<size_t>(i)]) * svm.apply(v, svm.vector(i));
      y[row] = static_cast<float>(!one_class ? sum : sum > 0 ? 1 : -1);
    }
  }
};
OCIOR_OPERATOR(SVMRegressor)

struct SVMClassifier {
  static constexpr OpInfo info{.name = "SVMClassifier", .domain = ml::kMl, .max_outputs = 2};
  Svm svm;
  ml::Labels labels;
  std::vector<float> prob_a, prob_b;
  std::vector<int64_t> starts;  // of each class's support vectors, and their end; empty without any
  ml::PostTransform transform = ml::PostTransform::kNone;
  bool all_positive = false;  // no coefficient is negative

  static SVMClassifier parse(const NodeReader& node) {
    SVMClassifier op{Svm::parse(node), ml::Labels::parse(node, "classlabels_ints", "classlabels_strings"), node.numbers("prob_a"),
                     node.numbers("prob_b")};
    op.transform = ml::parse_post_transform(node);
    op.all_positive = std::ranges::all_of(op.svm.coefficients, [](float v) { return v >= 0; });
    op.read_counts(node, node.integers("vectors_per_class"));
    if (!node.status().ok()) return op;
    op.svm.cut(node, op.starts.empty() ? 0 : op.starts.back(), op.labels.count());
    if (!op.starts.empty()) op.check_pairs(node);
    return op;
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, ml::kFeatures, info.name));
    OCIOR_ASSIGN(const ml::SymbolicMatrix m, ml::infer_matrix(c, info.name));
    OCIOR_RETURN_IF_ERROR(ml::check_features(m.columns, svm.features, info.name));
    c.set(0, labels.dtype(), Dims{m.rows});
    c.set(1, DType::kFloat, Dims{m.rows, columns()});
    return {};
  }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const ml::Matrix m, ml::matrix_of(x.shape(), info.name));
    OCIOR_RETURN_IF_ERROR(ml::check_features(m.columns, svm.features, info.name));
    std::vector<double> buffer(buffer_size());
    classify(x.dtype(), x.data(), c.wants(0) ? c.out(0).data() : nullptr, c.wants(1) ? c.out(1).as<float>() : nullptr, 0, m.rows,
             buffer.data());
    return {};
  }
  size_t scratch(const BindContext& c) const { return ml::row_scratch(c, buffer_size()); }
  double work(const BindContext& c) const {
    return svm.cost() / static_cast<double>(svm.features) * static_cast<double>(c.in(0).count());
  }
  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_ASSIGN(const ml::Matrix m, ml::matrix_of(x.shape, info.name));
    OCIOR_RETURN_IF_ERROR(ml::check_features(m.columns, svm.features, info.name));
    void* y = c.wants(0) ? c.out(0).data : nullptr;
    float* z = c.wants(1) ? c.out(1).as<float>() : nullptr;
    ml::for_rows(c, m.rows, svm.row_cost(), buffer_size(),
                 [&](int64_t begin, int64_t end, double* buffer) { classify(x.dtype, x.data, y, z, begin, end, buffer); });
    return {};
  }
  static std::vector<Sample> samples();

 private:
  int64_t classes() const { return labels.count(); }
  int64_t pairs() const { return classes() * (classes() - 1) / 2; }
  bool probabilities() const { return !starts.empty() && !prob_a.empty(); }
  int64_t columns() const { return starts.empty() || probabilities() || classes() == 2 ? classes() : pairs(); }

  void read_counts(const NodeReader& node, const std::vector<int64_t>& counts) {
    int64_t sum = 0;
    std::vector<int64_t> out{0};
    for (const int64_t n : counts) {
      if (n < 0 || __builtin_add_overflow(sum, n, &sum)) return node.fail("vectors_per_class has {}; expected 0 or more", n);
      out.push_back(sum);
    }
    if (sum > 0) starts = std::move(out);
  }
  // With support vectors: lists long enough for all pairs of classes.
  void check_pairs(const NodeReader& node) const {
    const auto lacks = [&](const std::vector<float>& list, int64_t want) { return static_cast<int64_t>(list.size()) < want; };
    int64_t coefficients = 0;
    if (classes() < 2 || classes() > INT32_MAX || static_cast<int64_t>(starts.size()) != classes() + 1)
      return node.fail("vectors_per_class lists {} classes, but there are {} labels; expected as many, and at least 2",
                       starts.size() - 1, classes());
    if (__builtin_mul_overflow(classes() - 1, svm.count, &coefficients) || lacks(svm.coefficients, coefficients))
      return node.fail("there are {} coefficients; expected {} per support vector, {} of them", svm.coefficients.size(),
                       classes() - 1, svm.count);
    if (lacks(svm.rho, pairs())) node.fail("rho has {} elements; expected one for each of {} pairs", svm.rho.size(), pairs());
    if (prob_a.size() != prob_b.size() || (!prob_a.empty() && lacks(prob_a, pairs())))
      node.fail("prob_a and prob_b have {} and {} elements; expected one for each of {} pairs or none", prob_a.size(),
                prob_b.size(), pairs());
  }

  // Pieces of a worker's buffer: the row, kernels, votes, scores of pairs, matrices of the probabilities.
  struct Pieces {
    double *row, *kernels, *votes, *scores, *matrix, *products, *result;
  };
  template <class Take>
  Pieces pieces(Take&& take) const {
    const bool p = probabilities();
    const auto k = static_cast<size_t>(classes());
    return {take(static_cast<size_t>(svm.features)),
            take(static_cast<size_t>(svm.count)),
            take(k),
            take(std::max<size_t>({k, starts.empty() ? 0 : static_cast<size_t>(pairs()), 2})),
            take(p ? 2 * k * k : 0),
            take(p ? k : 0),
            take(p ? k : 0)};
  }
  size_t buffer_size() const {
    size_t total = 0;
    pieces([&](size_t n) -> double* { return total += n, nullptr; });
    return total;
  }

  void classify(DType t, const void* x, void* y, float* z, int64_t begin, int64_t end, double* buffer) const {
    size_t used = 0;
    const Pieces p = pieces([&](size_t n) { return buffer + std::exchange(used, used + n); });
    for (int64_t row = begin; row < end; ++row) {
      const double* v = load<double>(t, x, row * svm.features, svm.features, p.row);
      double* scores = p.scores;
      if (starts.empty()) {
        for (int64_t k = 0; k < classes(); ++k)
          scores[k] = svm.apply(v, svm.coefficients.data() + k * svm.features) + static_cast<double>(svm.rho[0]);
      } else {
        vote(v, p);
        if (probabilities()) couple(p), scores = p.result;
      }
      if (y) choose(y, row, starts.empty() ? scores : p.votes);
      if (!z) continue;
      if (!starts.empty() && !probabilities() && classes() == 2) {
        // One score for two classes. Only NONE gives {-s, s}, as in ONNX Runtime.
        ml::transform_pair(transform, transform != ml::PostTransform::kNone, scores);
      } else {
        ml::transform(transform, {scores, static_cast<size_t>(columns())});
      }
      for (int64_t k = 0; k < columns(); ++k) z[row * columns() + k] = static_cast<float>(scores[k]);
    }
  }

  // Scores of all pairs and the votes they give.
  void vote(const double* x, const Pieces& p) const {
    for (int64_t i = 0; i < svm.count; ++i) p.kernels[i] = svm.apply(x, svm.vector(i));
    std::fill(p.votes, p.votes + classes(), 0.0);
    int64_t pair = 0;
    for (int64_t i = 0; i < classes(); ++i)
      for (int64_t j = i + 1; j < classes(); ++j, ++pair) {
        const double score =
            static_cast<double>(svm.rho[static_cast<size_t>(pair)]) + part(p.kernels, j - 1, i) + part(p.kernels, i, j);
        p.scores[pair] = score;
        ++p.votes[score > 0 ? i : j];
      }
  }
  // What the support vectors of a class add by row `row` of the coefficients [classes - 1, vectors].
  double part(const double* kernels, int64_t row, int64_t of) const {
    const int64_t begin = starts[static_cast<size_t>(of)], end = starts[static_cast<size_t>(of) + 1];
    return ml::dot(kernels + begin, svm.coefficients.data() + row * svm.count + begin, end - begin);
  }

  // Class probabilities from those of the pairs: minimises the quadratic form of Wu, Lin and Weng (2004), algorithm 2.
  void couple(const Pieces& p) const {
    const int64_t k = classes();
    double *r = p.matrix, *q = p.matrix + k * k, *product = p.products, *out = p.result;
    int64_t pair = 0;
    for (int64_t i = 0; i < k; ++i)
      for (int64_t j = i + 1; j < k; ++j, ++pair) {
        const auto at = static_cast<size_t>(pair);
        const double v = 1 / (1 + std::exp(p.scores[pair] * static_cast<double>(prob_a[at]) + static_cast<double>(prob_b[at])));
        r[i * k + j] = std::clamp(v, 1e-7, 1 - 1e-7);
        r[j * k + i] = 1 - r[i * k + j];
      }
    for (int64_t i = 0; i < k; ++i) {
      out[i] = 1 / static_cast<double>(k);
      q[i * k + i] = 0;
      for (int64_t j = 0; j < k; ++j)
        if (j != i) q[i * k + i] += r[j * k + i] * r[j * k + i], q[i * k + j] = -r[j * k + i] * r[i * k + j];
    }
    for (int round = 0; round < 100; ++round) {
      double form = 0, worst = 0;
      for (int64_t i = 0; i < k; ++i) {
        product[i] = 0;
        for (int64_t j = 0; j < k; ++j) product[i] += q[i * k + j] * out[j];
        form += out[i] * product[i];
      }
      for (int64_t i = 0; i < k; ++i) worst = std::max(worst, std::fabs(product[i] - form));
      if (worst < 0.005 / static_cast<double>(k)) return;
      for (int64_t i = 0; i < k; ++i) {
        const double step = (form - product[i]) / q[i * k + i], whole = 1 + step;
        out[i] += step;
        form = (form + step * (step * q[i * k + i] + 2 * product[i])) / whole / whole;
        for (int64_t j = 0; j < k; ++j) product[j] = (product[j] + step * q[i * k + j]) / whole, out[j] /= whole;
      }
    }
  }

  // The label of the class with most votes (or, without support vectors, the highest score).
  void choose(void* y, int64_t row, const double* rank) const {
    const int64_t best = std::max_element(rank, rank + classes()) - rank;
    if (classes() != 2 || !prob_a.empty()) return labels.put(y, row, best);
    // Two classes without probabilities: the score decides by a threshold, as in ONNX Runtime; votes leave it at 0.
    const double most = starts.empty() ? rank[best] : 0;
    labels.put(y, row, (all_positive ? most >= 0.5 : most > 0) ? 1 : best);
  }
};

std::vector<Sample> SVMClassifier::samples() {
  std::vector<Sample> out;
  for (const char* kernel : {"LINEAR", "POLY", "RBF", "SIGMOID"})
    for (const size_t classes : {2, 3, 4})
      for (const bool probabilities : {false, true}) {
        const size_t pairs = classes * (classes - 1) / 2;
        std::vector<int64_t> counts{2, 3, 1, 2};
        counts.resize(classes);
        size_t vectors = 0;
        for (const int64_t n : counts) vectors += static_cast<size_t>(n);
        Attributes attributes{{"kernel_type", std::string(kernel)},
                              {"kernel_params", kParams},
                              {"support_vectors", wave(5 * vectors, 1)},
                              {"coefficients", wave((classes - 1) * vectors, 2)},
                              {"rho", wave(pairs, 3)},
                              {"vectors_per_class", counts}};
        if (probabilities) attributes["prob_a"] = wave(pairs, 4), attributes["prob_b"] = wave(pairs, 5);
        if (classes == 3) attributes["classlabels_strings"] = std::vector<std::string>{"a", "b", "c"};
        else attributes["classlabels_ints"] = classes == 2 ? std::vector<int64_t>{7, 9} : std::vector<int64_t>{1, 2, 3, 4};
        for (const DType t : {DType::kFloat, DType::kDouble, DType::kInt64, DType::kInt32})
          out.push_back({.inputs = {{t, {30, 5}, Fill::kSmallInts}}, .attributes = attributes, .outputs = 2});
        for (const char* transform : {"SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"}) {
          attributes["post_transform"] = std::string(transform);
          for (const Shape& shape : {Shape{5}, Shape{0, 5}, Shape{900, 5}})
            out.push_back({.inputs = {{DType::kFloat, shape}}, .attributes = attributes, .outputs = 2});
        }
      }
  for (const size_t classes : {1, 2, 3}) {
    std::vector<int64_t> labels{4, 5, 6};
    labels.resize(classes);
    out.push_back(
        {.inputs = {{DType::kFloat, {20, 5}}},
         .attributes = {{"coefficients", wave(5 * classes, 2)}, {"rho", std::vector<float>{.1F}}, {"classlabels_ints", labels}},
         .outputs = 2});
  }
  return out;
}
OCIOR_OPERATOR(SVMClassifier)

}  // namespace ocior::ops
