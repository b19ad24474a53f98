// LinearRegressor and LinearClassifier: x times coefficients plus intercepts, row by row.
#include <algorithm>

#include "ops/ml/scores.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

// scores[t] = dot(x, coefficients[t]) + intercepts[t].
void linear_scores(const std::vector<float>& coefficients, const std::vector<float>& intercepts, int64_t targets,
                   int64_t features, const double* x, double* scores) {
  for (int64_t t = 0; t < targets; ++t) {
    const double bias = intercepts.empty() ? 0 : static_cast<double>(intercepts[static_cast<size_t>(t)]);
    scores[t] = ml::dot(x, coefficients.data() + t * features, features) + bias;
  }
}

std::vector<float> ramp(size_t n, float start) {
  std::vector<float> out(n);
  for (size_t i = 0; i < n; ++i) out[i] = start + 0.25F * static_cast<float>(i % 7) - 0.1F * static_cast<float>(i % 3);
  return out;
}

constexpr const char* kTransforms[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"};

}  // namespace

struct LinearRegressor {
  static constexpr OpInfo info{.name = "LinearRegressor", .domain = ml::kMl};
  std::vector<float> coefficients, intercepts;
  int64_t targets = 1, features = 0;
  ml::PostTransform transform = ml::PostTransform::kNone;

  static LinearRegressor parse(const NodeReader& node) {
    LinearRegressor op{node.numbers("coefficients"), node.numbers("intercepts"), node.integer("targets", 1), 0,
                       ml::parse_post_transform(node)};
    const auto count = static_cast<int64_t>(op.coefficients.size());
    if (op.targets < 1 || count == 0 || count % op.targets != 0) {
      node.fail("there are {} coefficients for {} targets; expected as many per target, and at least one", count, op.targets);
      op.targets = 1;
    }
    op.features = count / op.targets;
    // A lone intercept for several targets is how some exporters say that there is none; ONNX Runtime reads it so.
    if (static_cast<int64_t>(op.intercepts.size()) != op.targets) op.intercepts.clear();
    return op;
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, ml::kFeatures, info.name));
    OCIOR_ASSIGN(const ml::SymbolicMatrix m, ml::infer_matrix(c, info.name));
    OCIOR_RETURN_IF_ERROR(ml::check_features(m.columns, features, info.name));
    c.set(0, DType::kFloat, Dims{m.rows, targets});
    return {};
  }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const ml::Matrix m, ml::matrix_of(x.shape(), info.name));
    OCIOR_RETURN_IF_ERROR(ml::check_features(m.columns, features, info.name));
    std::vector<double> buffer(buffer_size());
    score(x.dtype(), x.data(), c.out(0).as<float>(), 0, m.rows, buffer.data());
    return {};
  }
  size_t scratch(const BindContext& c) const { return ml::row_scratch(c, buffer_size()); }
  double work(const BindContext& c) const { return 2.0 * static_cast<double>(c.out(0).count()) * static_cast<double>(features); }
  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &y = c.out(0);
    OCIOR_ASSIGN(const ml::Matrix m, ml::matrix_of(x.shape, info.name));
    OCIOR_RETURN_IF_ERROR(ml::check_features(m.columns, features, info.name));
    ml::for_rows(c, m.rows, static_cast<int64_t>(coefficients.size()), buffer_size(),
                 [&](int64_t begin, int64_t end, double* buffer) { score(x.dtype, x.data, y.as<float>(), begin, end, buffer); });
    return {};
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kInt64, DType::kInt32})
      for (const int64_t targets : {1, 3})
        for (const char* transform : kTransforms) {
          const Attributes attributes{{"coefficients", ramp(5 * static_cast<size_t>(targets), -.3F)},
                                      {"intercepts", ramp(static_cast<size_t>(targets), .1F)},
                                      {"targets", targets},
                                      {"post_transform", std::string(transform)}};
          for (const Shape& shape : {Shape{5}, Shape{0, 5}, Shape{4, 5}, Shape{3000, 5}})
            out.push_back({.inputs = {{t, shape}}, .attributes = attributes});
        }
    out.push_back({.inputs = {{DType::kFloat, {3, 4}}}, .attributes = {{"coefficients", ramp(4, 1)}}});
    out.push_back({.inputs = {{DType::kFloat, {1000, 100}}},
                   .attributes = {{"coefficients", ramp(300, 1)}, {"targets", int64_t{3}}},
                   .bench = true});
    return out;
  }

 private:
  size_t buffer_size() const { return static_cast<size_t>(features + targets); }
  void score(DType t, const void* x, float* y, int64_t begin, int64_t end, double* buffer) const {
    double* scores = buffer + features;
    for (int64_t row = begin; row < end; ++row) {
      linear_scores(coefficients, intercepts, targets, features, load<double>(t, x, row * features, features, buffer), scores);
      ml::transform(transform, {scores, static_cast<size_t>(targets)});
      for (int64_t k = 0; k < targets; ++k) y[row * targets + k] = static_cast<float>(scores[k]);
    }
  }
};
OCIOR_OPERATOR(LinearRegressor)

// Labels by the largest score or, with one score, by its sign.
struct LinearClassifier {
  static constexpr OpInfo info{.name = "LinearClassifier", .domain = ml::kMl, .max_outputs = 2};
  std::vector<float> coefficients, intercepts;
  ml::Labels labels;
  ml::PostTransform transform = ml::PostTransform::kNone;

  static LinearClassifier parse(const NodeReader& node) {
    LinearClassifier op{node.numbers("coefficients"), node.numbers("intercepts"),
                        ml::Labels::parse(node, "classlabels_ints", "classlabels_strings"), ml::parse_post_transform(node)};
    if (op.coefficients.empty()) node.fail("attribute 'coefficients' is required");
    node.ignore("multi_class");  // how the model was trained
    return op;
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, ml::kFeatures, info.name));
    OCIOR_ASSIGN(const ml::SymbolicMatrix m, ml::infer_matrix(c, info.name));
    if (m.columns.known()) OCIOR_RETURN_IF_ERROR(targets_for(m.columns.value()).status());
    c.set(0, labels.dtype(), Dims{m.rows});
    c.set(1, DType::kFloat, Dims{m.rows, labels.count()});
    return {};
  }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const ml::Matrix m, ml::matrix_of(x.shape(), info.name));
    OCIOR_ASSIGN(const int64_t targets, targets_for(m.columns));
    std::vector<double> buffer(buffer_size());
    classify(x.dtype(), x.data(), m.columns, targets, c.wants(0) ? c.out(0).data() : nullptr,
             c.wants(1) ? c.out(1).as<float>() : nullptr, 0, m.rows, buffer.data());
    return {};
  }
  size_t scratch(const BindContext& c) const { return ml::row_scratch(c, buffer_size()); }
  double work(const BindContext& c) const {
    return 2.0 * static_cast<double>(c.in(0).count()) * static_cast<double>(labels.count());
  }
  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_ASSIGN(const ml::Matrix m, ml::matrix_of(x.shape, info.name));
    OCIOR_ASSIGN(const int64_t targets, targets_for(m.columns));
    void* y = c.wants(0) ? c.out(0).data : nullptr;
    float* z = c.wants(1) ? c.out(1).as<float>() : nullptr;
    ml::for_rows(c, m.rows, static_cast<int64_t>(coefficients.size()), buffer_size(),
                 [&](int64_t begin, int64_t end, double* buffer) {
                   classify(x.dtype, x.data, m.columns, targets, y, z, begin, end, buffer);
                 });
    return {};
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const std::vector<std::string> names{"a", "b", "c"};
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kInt64, DType::kInt32})
      for (const char* transform : kTransforms)
        for (const size_t targets : {1, 2, 3}) {
          Attributes attributes{{"coefficients", ramp(5 * targets, -.3F)},
                                {"intercepts", ramp(targets, .1F)},
                                {"post_transform", std::string(transform)}};
          attributes["classlabels_ints"] = targets == 3 ? std::vector<int64_t>{5, 6, 7} : std::vector<int64_t>{5, 6};
          for (const Shape& shape : {Shape{5}, Shape{0, 5}, Shape{4, 5}, Shape{3000, 5}})
            out.push_back({.inputs = {{t, shape}}, .attributes = attributes, .outputs = 2});
        }
    for (const size_t targets : {1, 3}) {
      const std::vector<std::string> some(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(targets));
      out.push_back({.inputs = {{DType::kFloat, {4, 5}}},
                     .attributes = {{"coefficients", ramp(5 * targets, -.3F)}, {"classlabels_strings", some}},
                     .outputs = 2});
    }
    return out;
  }

 private:
  size_t buffer_size() const { return coefficients.size() + static_cast<size_t>(labels.count()) + 2; }
  // Rows of the coefficients when the input has so many features: one per class, or a single one for two classes.
  Result<int64_t> targets_for(int64_t features) const {
    const auto count = static_cast<int64_t>(coefficients.size()), biases = static_cast<int64_t>(intercepts.size());
    const int64_t targets = features > 0 && count % features == 0 ? count / features : 0;
    const bool fits = targets == labels.count() || (targets == 1 && labels.count() == 2);
    if (fits && (biases == 0 || biases == targets)) return targets;
    return error(
        Code::kInvalidArgument,
        "LinearClassifier: {} coefficients and {} intercepts do not fit {} features and {} classes; expected one of each "
        "feature and one intercept per class",
        count, biases, features, labels.count());
  }
  void classify(DType t, const void* x, int64_t features, int64_t targets, void* y, float* z, int64_t begin, int64_t end,
                double* buffer) const {
    double* scores = buffer + features;
    const int64_t columns = labels.count();
    for (int64_t row = begin; row < end; ++row) {
      linear_scores(coefficients, intercepts, targets, features, load<double>(t, x, row * features, features, buffer), scores);
      if (y) {
        if (targets == 1) labels.put_binary(y, row, scores[0] > 0);
        else labels.put(y, row, std::max_element(scores, scores + targets) - scores);
      }
      if (!z) continue;
      if (targets < columns) ml::transform_pair(transform, true, scores);
      else ml::transform(transform, {scores, static_cast<size_t>(columns)});
      for (int64_t k = 0; k < columns; ++k) z[row * columns + k] = static_cast<float>(scores[k]);
    }
  }
};
OCIOR_OPERATOR(LinearClassifier)

}  // namespace ocior::ops
