// What the operators of ai.onnx.ml share: inputs of shape [N, F] (or [F], one row), rows spread over threads, transforms of
// scores, class labels. Plain functions, thread-safe.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/nn/numeric.h"
#include "ops/operator.h"
#include "ops/shape_data.h"

namespace ocior::ops::ml {

inline constexpr std::string_view kMl = "ai.onnx.ml";
inline constexpr TypeSet kFeatures = types(DType::kFloat, DType::kDouble, DType::kInt64, DType::kInt32);

struct Matrix {
  int64_t rows = 1, columns = 0;
};
Result<Matrix> matrix_of(std::span<const int64_t> shape, std::string_view op);
struct SymbolicMatrix {
  Dim rows = 1, columns;
};
// Rows and columns of input 0; fresh dims when its rank is unknown.
Result<SymbolicMatrix> infer_matrix(ShapeContext& c, std::string_view op);
// An error when the number of features is not the model's.
Status check_features(const Dim& got, int64_t want, std::string_view op);

// Bytes that each worker has in for_rows(): `count` doubles.
inline size_t row_scratch(const BindContext& c, size_t count) {
  return static_cast<size_t>(c.workers()) * nn::align64(count * sizeof(double));
}
// Calls f(begin, end, buffer) for pieces of [0, rows), a row costing about `cost` elements; `buffer` holds `count` doubles.
template <class F>
void for_rows(CpuContext& c, int64_t rows, int64_t cost, size_t count, F&& f) {
  nn::parallel_rows(c, rows, cost, [&](int64_t begin, int64_t end, int worker) {
    auto* bytes = static_cast<std::byte*>(c.scratch()) + static_cast<size_t>(worker) * nn::align64(count * sizeof(double));
    f(begin, end, reinterpret_cast<double*>(bytes));
  });
}

// Sum of x[i] * w[i], in an order fixed by n.
double dot(const double* x, const float* w, int64_t n);

enum class PostTransform { kNone, kSoftmax, kLogistic, kSoftmaxZero, kProbit };  // numbered as TreeEnsemble's attribute
PostTransform parse_post_transform(const NodeReader& node);
// Transforms the scores of one row. A single score knows only PROBIT, as in ONNX Runtime.
void transform(PostTransform how, std::span<double> scores);
// One score of a binary classifier, scores[0], becomes two: {1 - s, s} where scores are `probabilities`, else {-s, s}. Only
// LOGISTIC and PROBIT transform them, as in ONNX Runtime.
void transform_pair(PostTransform how, bool probabilities, double* scores);

// The classes of a classifier, by number or by name.
struct Labels {
  std::vector<int64_t> numbers;
  std::vector<std::string> names;

  // Fails the node unless exactly one of the two attributes lists classes.
  static Labels parse(const NodeReader& node, std::string_view numbers, std::string_view names);
  int64_t count() const { return static_cast<int64_t>(names.empty() ? numbers.size() : names.size()); }
  DType dtype() const { return names.empty() ? DType::kInt64 : DType::kString; }
  // y[row] = label k.
  void put(void* y, int64_t row, int64_t k) const;
  // y[row] = 1 or 0, for a decision without labels of its own.
  void put_sign(void* y, int64_t row, bool positive) const;
  // y[row] = the second or first of two labels, else as put_sign().
  void put_binary(void* y, int64_t row, bool positive) const {
    if (count() == 2) put(y, row, positive);
    else put_sign(y, row, positive);
  }
};

}  // namespace ocior::ops::ml
