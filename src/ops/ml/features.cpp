// Feature preparation of ai.onnx.ml, element by element or row by row: Binarizer, Scaler, Imputer, Normalizer, FeatureVectorizer,
// ArrayFeatureExtractor.
#include <algorithm>
#include <cmath>

#include "ops/loops.h"
#include "ops/ml/scores.h"
#include "ops/move.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {

// 1 where the input is above the threshold, else 0.
struct Binarizer {
  static constexpr OpInfo info{.name = "Binarizer", .domain = ml::kMl, .in_place = 1};
  float threshold = 0;

  static Binarizer parse(const NodeReader& node) { return {node.number("threshold", 0)}; }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, ml::kFeatures, info.name));
    return infer_unary(c);
  }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    compare(x.dtype(), x.data(), c.out(0).data(), 0, x.count());
    return {};
  }
  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &y = c.out(0);
    for_items(c, x.count(), 1, [&](int64_t begin, int64_t end) {
      if (x.dtype != DType::kFloat) return compare(x.dtype, x.data, y.data, begin, end);
      for (int64_t i = begin; i < end; ++i) y.as<float>()[i] = x.as<float>()[i] > threshold ? 1.0F : 0.0F;
    });
    return {};
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kInt64, DType::kInt32})
      for (const Shape& shape : {Shape{}, Shape{0}, Shape{7}, Shape{3, 4, 5}})
        out.push_back({.inputs = {{t, shape, Fill::kSmallInts}}, .attributes = {{"threshold", 0.5F}}});
    out.push_back({.inputs = {{DType::kFloat, {60}, Fill::kSpecials}}});
    for (const float threshold : {-1.5F, 3e38F, -3e38F, std::nanf("")})
      out.push_back({.inputs = {{DType::kInt64, {9}, Fill::kSmallInts}}, .attributes = {{"threshold", threshold}}});
    return out;
  }

 private:
  void compare(DType t, const void* x, void* y, int64_t begin, int64_t end) const {
    if (!is_floating(t)) {
      // x > threshold is x > floor(threshold) for integers, without rounding x.
      const double floor = std::floor(static_cast<double>(threshold));
      for (int64_t i = begin; i < end; ++i)
        set_int(t, y, i, floor < -0x1p63 || (floor < 0x1p63 && get_int(t, x, i) > static_cast<int64_t>(floor)));
      return;
    }
    for (int64_t i = begin; i < end; ++i) set_double(t, y, i, get_double(t, x, i) > static_cast<double>(threshold));
  }
};
OCIOR_OPERATOR(Binarizer)

namespace {

// One value per feature (the last axis), or one for all.
Status check_per_feature(std::string_view op, std::string_view what, size_t count, const Dims& shape) {
  if (count == 1 || (!shape.empty() && (!shape.back().known() || shape.back().value() == static_cast<int64_t>(count)))) return {};
  return error(Code::kInvalidArgument, "{}: {} has {} elements, but the input's shape is {}; expected 1 or one per feature", op,
               what, count, to_string(shape));
}
int64_t last_of(std::span<const int64_t> shape) { return shape.empty() ? 1 : shape.back(); }

std::vector<Sample> per_feature_samples(const std::vector<std::pair<DType, Attributes>>& one,
                                        const std::vector<std::pair<DType, Attributes>>& three) {
  std::vector<Sample> out;
  for (const auto& [t, attributes] : one)
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{5}, Shape{4, 3}, Shape{2, 3, 4}})
      out.push_back({.inputs = {{t, shape, Fill::kSmallInts}}, .attributes = attributes});
  for (const auto& [t, attributes] : three)
    for (const Shape& shape : {Shape{3}, Shape{0, 3}, Shape{5, 3}, Shape{2, 2, 3}, Shape{700, 3}})
      out.push_back({.inputs = {{t, shape, Fill::kSmallInts}}, .attributes = attributes});
  return out;
}

}  // namespace

// (x - offset) * scale, to float.
struct Scaler {
  static constexpr OpInfo info{.name = "Scaler", .domain = ml::kMl};
  std::vector<float> offset, scale;

  static Scaler parse(const NodeReader& node) { return {node.numbers("offset", {0}), node.numbers("scale", {1})}; }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, ml::kFeatures, info.name));
    if (ranked(c, 0)) {
      OCIOR_RETURN_IF_ERROR(check_per_feature(info.name, "offset", offset.size(), *c.shape(0)));
      OCIOR_RETURN_IF_ERROR(check_per_feature(info.name, "scale", scale.size(), *c.shape(0)));
    }
    c.set(0, DType::kFloat, c.shape(0));
    return {};
  }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    apply(x.dtype(), x.data(), c.out(0).as<float>(), last_of(x.shape()), 0, x.count());
    return {};
  }
  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    for_items(c, x.count(), 1,
              [&](int64_t begin, int64_t end) { apply(x.dtype, x.data, c.out(0).as<float>(), last_of(x.shape), begin, end); });
    return {};
  }
  static std::vector<Sample> samples() {
    const Attributes one{{"offset", std::vector<float>{1.5F}}, {"scale", std::vector<float>{-2}}};
    const Attributes three{{"offset", std::vector<float>{1, 0, -3}}, {"scale", std::vector<float>{1, .5F, 2}}};
    const Attributes mixed{{"offset", std::vector<float>{1, 0, -3}}};
    std::vector<Sample> out =
        per_feature_samples({{DType::kFloat, one}, {DType::kDouble, one}, {DType::kInt64, one}, {DType::kInt32, one}},
                            {{DType::kFloat, three}, {DType::kDouble, three}, {DType::kInt32, three}, {DType::kFloat, mixed}});
    out.push_back({.inputs = {{DType::kFloat, {60}, Fill::kSpecials}}});
    return out;
  }

 private:
  void apply(DType t, const void* x, float* y, int64_t features, int64_t begin, int64_t end) const {
    double buffer[kStrip];
    const bool one_offset = offset.size() == 1, one_scale = scale.size() == 1;
    for (int64_t first = begin; first < end; first += kStrip) {
      const int64_t n = std::min(kStrip, end - first);
      const double* v = load<double>(t, x, first, n, buffer);
      int64_t feature = first % features;
      for (int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<size_t>(feature);
        y[first + i] = static_cast<float>((v[i] - static_cast<double>(offset[one_offset ? 0 : at])) *
                                          static_cast<double>(scale[one_scale ? 0 : at]));
        if (++feature == features) feature = 0;
      }
    }
  }
};
OCIOR_OPERATOR(Scaler)

// Elements equal to one value become another; NaN equals NaN here.
struct Imputer {
  static constexpr OpInfo info{.name = "Imputer", .domain = ml::kMl, .in_place = 1};
  std::vector<float> floats;
  std::vector<int64_t> ints;
  float replaced_float = 0;
  int64_t replaced_int = 0;

  static Imputer parse(const NodeReader& node) {
    Imputer op{node.numbers("imputed_value_floats"), node.integers("imputed_value_int64s"),
               node.number("replaced_value_float", 0), node.integer("replaced_value_int64", 0)};
    if (op.floats.empty() == op.ints.empty())
      node.fail("exactly one of imputed_value_floats and imputed_value_int64s must have values; got {} and {} of them",
                op.floats.size(), op.ints.size());
    return op;
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, ml::kFeatures, info.name));
    const DType t = c.dtype(0);
    if (t != DType::kUndefined && is_floating(t) == floats.empty())
      return error(Code::kInvalidGraph, "Imputer: the input is {}, but the imputed values are {}", name_of(t),
                   floats.empty() ? "integers" : "floats");
    for (const int64_t v : ints)
      if (t == DType::kInt32 && (v < INT32_MIN || v > INT32_MAX))
        return error(Code::kInvalidGraph, "Imputer: the imputed value {} does not fit the input's type int32", v);
    if (ranked(c, 0))
      OCIOR_RETURN_IF_ERROR(check_per_feature(info.name, "the list of imputed values", floats.size() + ints.size(), *c.shape(0)));
    return infer_unary(c);
  }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    replace(x.dtype(), x.data(), c.out(0).data(), last_of(x.shape()), 0, x.count());
    return {};
  }
  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    for_items(c, x.count(), 1,
              [&](int64_t begin, int64_t end) { replace(x.dtype, x.data, c.out(0).data, last_of(x.shape), begin, end); });
    return {};
  }
  static std::vector<Sample> samples() {
    const Attributes one{{"imputed_value_floats", std::vector<float>{1.5F}}, {"replaced_value_float", 2.0F}};
    const Attributes three{{"imputed_value_floats", std::vector<float>{7, 8, 9}}, {"replaced_value_float", -1.0F}};
    const Attributes one_int{{"imputed_value_int64s", std::vector<int64_t>{5}}, {"replaced_value_int64", int64_t{-1}}};
    const Attributes three_int{{"imputed_value_int64s", std::vector<int64_t>{7, 8, 9}}};
    std::vector<Sample> out =
        per_feature_samples({{DType::kFloat, one}, {DType::kDouble, one}, {DType::kInt64, one_int}, {DType::kInt32, one_int}},
                            {{DType::kFloat, three}, {DType::kDouble, three}, {DType::kInt64, three_int}});
    out.push_back({.inputs = {{DType::kFloat, {60}, Fill::kSpecials}},
                   .attributes = {{"imputed_value_floats", std::vector<float>{3}}, {"replaced_value_float", std::nanf("")}}});
    return out;
  }

 private:
  template <class T, class V>
  static void replace_as(const void* from, void* to, int64_t features, int64_t begin, int64_t end, V replaced,
                         const std::vector<V>& values) {
    const T* x = static_cast<const T*>(from);
    T* y = static_cast<T*>(to);
    for (int64_t i = begin; i < end; ++i) {
      const bool missing = x[i] == static_cast<std::common_type_t<T, V>>(replaced) || (replaced != replaced && x[i] != x[i]);
      y[i] = missing ? static_cast<T>(values[values.size() == 1 ? 0 : static_cast<size_t>(i % features)]) : x[i];
    }
  }
  void replace(DType t, const void* x, void* y, int64_t features, int64_t begin, int64_t end) const {
    switch (t) {
      case DType::kFloat: return replace_as<float>(x, y, features, begin, end, replaced_float, floats);
      case DType::kDouble: return replace_as<double>(x, y, features, begin, end, replaced_float, floats);
      case DType::kInt64: return replace_as<int64_t>(x, y, features, begin, end, replaced_int, ints);
      default: return replace_as<int32_t>(x, y, features, begin, end, replaced_int, ints);
    }
  }
};
OCIOR_OPERATOR(Imputer)

// Each row divided by its largest element, by the sum of its magnitudes or by its length; unchanged where that is 0.
struct Normalizer {
  static constexpr OpInfo info{.name = "Normalizer", .domain = ml::kMl};
  enum class Norm { kMax, kL1, kL2 } norm = Norm::kMax;

  static Normalizer parse(const NodeReader& node) {
    const std::string name = node.text("norm", "MAX");
    if (name == "L1") return {Norm::kL1};
    if (name == "L2") return {Norm::kL2};
    if (name != "MAX") node.fail("norm is '{}'; expected MAX, L1 or L2", name);
    return {};
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, ml::kFeatures, info.name));
    OCIOR_RETURN_IF_ERROR(ml::infer_matrix(c, info.name).status());
    c.set(0, DType::kFloat, c.shape(0));
    return {};
  }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const ml::Matrix m, ml::matrix_of(x.shape(), info.name));
    normalize(x.dtype(), x.data(), c.out(0).as<float>(), m.columns, 0, m.rows);
    return {};
  }
  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_ASSIGN(const ml::Matrix m, ml::matrix_of(x.shape, info.name));
    for_items(c, m.rows, m.columns,
              [&](int64_t begin, int64_t end) { normalize(x.dtype, x.data, c.out(0).as<float>(), m.columns, begin, end); });
    return {};
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const char* norm : {"MAX", "L1", "L2"})
      for (const DType t : {DType::kFloat, DType::kDouble, DType::kInt64, DType::kInt32})
        for (const Shape& shape : {Shape{5}, Shape{0}, Shape{4, 3}, Shape{0, 3}, Shape{3, 0}, Shape{3, 1200}, Shape{700, 64}})
          out.push_back({.inputs = {{t, shape, Fill::kSmallInts}}, .attributes = {{"norm", std::string(norm)}}});
    out.push_back({.inputs = {{DType::kFloat, {3, 4}, Fill::kZeros}}, .attributes = {{"norm", std::string("L2")}}});
    return out;
  }

 private:
  void normalize(DType t, const void* x, float* y, int64_t columns, int64_t begin, int64_t end) const {
    double buffer[kStrip];
    for (int64_t row = begin; row < end; ++row) {
      double most = -HUGE_VAL, sum = 0, squares = 0;
      for_strips(t, x, row * columns, columns, buffer, [&](int64_t, double v) {
        most = std::max(most, v);
        sum += std::fabs(v);
        squares += v * v;
      });
      const double by = norm == Norm::kMax ? most : norm == Norm::kL1 ? sum : std::sqrt(squares);
      for_strips(t, x, row * columns, columns, buffer,
                 [&](int64_t i, double v) { y[i] = static_cast<float>(by == 0 ? v : v / by); });
    }
  }
  template <class F>
  static void for_strips(DType t, const void* x, int64_t first, int64_t count, double* buffer, F&& f) {
    for (int64_t at = 0; at < count; at += kStrip) {
      const int64_t n = std::min(kStrip, count - at);
      const double* v = load<double>(t, x, first + at, n, buffer);
      for (int64_t i = 0; i < n; ++i) f(first + at + i, v[i]);
    }
  }
};
OCIOR_OPERATOR(Normalizer)

// The columns of all inputs side by side, each cut or filled with zeros to its width.
struct FeatureVectorizer {
  static constexpr OpInfo info{.name = "FeatureVectorizer", .domain = ml::kMl, .max_inputs = kUnbounded};
  std::vector<int64_t> widths;

  static FeatureVectorizer parse(const NodeReader& node) {
    FeatureVectorizer op{node.integers("inputdimensions")};
    if (!op.widths.empty() && static_cast<int>(op.widths.size()) != node.inputs())
      node.fail("inputdimensions lists {} widths for {} inputs", op.widths.size(), node.inputs());
    for (const int64_t w : op.widths)
      if (w < 0) node.fail("inputdimensions has {}; expected 0 or more", w);
    return op;
  }
  Status infer(ShapeContext& c) const {
    Dim rows = c.fresh("rows"), columns = 0;
    for (int i = 0; i < c.inputs(); ++i) {
      if (!c.has(i)) return error(Code::kInvalidGraph, "FeatureVectorizer: input {} is missing", i);
      OCIOR_RETURN_IF_ERROR(check_type(c, i, ml::kFeatures, info.name));
      Dim width = c.fresh("features");
      if (ranked(c, i)) {
        const Dims& shape = *c.shape(i);
        if (shape.empty() || shape.size() > 2)
          return error(Code::kInvalidArgument, "FeatureVectorizer: input {} has shape {}; expected [N, C] or [C]", i,
                       to_string(shape));
        width = shape.back();
        const Dim r = shape.size() == 1 ? Dim(1) : shape[0];
        if (rows.known() && r.known() && !(rows == r))
          return error(Code::kInvalidArgument, "FeatureVectorizer: input {} has {} rows; expected {}", i, r.value(),
                       rows.value());
        if (i == 0 || r.known()) rows = r;
      }
      columns = columns + (widths.empty() ? width : Dim(widths[static_cast<size_t>(i)]));
    }
    c.set(0, DType::kFloat, Dims{rows, columns});
    return {};
  }
  Status reference(RefContext& c) const {
    std::vector<TensorView> views;
    for (int i = 0; i < c.inputs(); ++i) views.push_back({c.in(i).dtype(), c.in(i).shape(), const_cast<void*>(c.in(i).data())});
    const auto in = [&](int i) { return views[static_cast<size_t>(i)]; };
    OCIOR_ASSIGN(const ml::Matrix m, size_of(c.inputs(), in));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, DType::kFloat, Shape{m.rows, m.columns}));
    join(c.inputs(), in, m, c.out(0).as<float>());
    return {};
  }
  Status run(CpuContext& c) const {
    const auto in = [&](int i) { return c.in(i); };
    OCIOR_ASSIGN(const ml::Matrix m, size_of(c.inputs(), in));
    const int64_t shape[] = {m.rows, m.columns};
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
    join(c.inputs(), in, m, c.out(0).as<float>());
    return {};
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kInt64, DType::kInt32}) {
      out.push_back({.inputs = {{t, {3, 2}}, {t, {3, 4}}, {t, {3, 0}}},
                     .attributes = {{"inputdimensions", std::vector<int64_t>{3, 2, 1}}}});
      out.push_back({.inputs = {{t, {4}}, {t, {1, 3}}}});
    }
    out.push_back({.inputs = {{DType::kFloat, {0, 2}}, {DType::kFloat, {0, 4}}}});
    return out;
  }

 private:
  int64_t width(int i, int64_t own) const { return widths.empty() ? own : widths[static_cast<size_t>(i)]; }
  template <class In>
  Result<ml::Matrix> size_of(int inputs, const In& in) const {
    ml::Matrix out;
    for (int i = 0; i < inputs; ++i) {
      OCIOR_ASSIGN(const ml::Matrix m, ml::matrix_of(in(i).shape, info.name));
      if (i && m.rows != out.rows)
        return error(Code::kInvalidArgument, "FeatureVectorizer: input {} has {} rows; expected {}", i, m.rows, out.rows);
      out.rows = m.rows;
      if (__builtin_add_overflow(out.columns, width(i, m.columns), &out.columns))
        return error(Code::kInvalidArgument, "FeatureVectorizer: the inputs have more columns together than 63 bits can count");
    }
    OCIOR_RETURN_IF_ERROR(checked_element_count(Shape{out.rows, out.columns}).status());
    return out;
  }
  template <class In>
  void join(int inputs, const In& in, const ml::Matrix& m, float* y) const {
    int64_t at = 0;
    for (int i = 0; i < inputs; ++i) {
      const TensorView x = in(i);
      const int64_t own = x.shape.back(), n = width(i, own), copied = std::min(n, own);
      for (int64_t row = 0; row < m.rows; ++row)
        for (int64_t k = 0; k < n; ++k)
          y[row * m.columns + at + k] = k < copied ? static_cast<float>(get_double(x.dtype, x.data, row * own + k)) : 0.0F;
      at += n;
    }
  }
};
OCIOR_OPERATOR(FeatureVectorizer)

// The listed places of the last axis.
struct ArrayFeatureExtractor {
  static constexpr OpInfo info{.name = "ArrayFeatureExtractor", .domain = ml::kMl, .min_inputs = 2, .max_inputs = 2};

  static ArrayFeatureExtractor parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, ml::kFeatures | kStrings, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, type_bit(DType::kInt64), info.name));
    if (!ranked(c, 0)) return c.set(0, c.dtype(0), std::nullopt), Status();
    Dims out = *c.shape(0);
    if (out.empty())
      return error(Code::kInvalidArgument, "ArrayFeatureExtractor: the input is a scalar; expected rank 1 or more");
    Dim count = 1;
    if (ranked(c, 1))
      for (const Dim& d : *c.shape(1)) count = count * d;
    else count = c.fresh("count");
    out.back() = count;
    if (out.size() == 1) out.insert(out.begin(), 1);
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }
  Status reference(RefContext& c) const {
    const Tensor &x = c.in(0), &picks = c.in(1);
    OCIOR_ASSIGN(const FixedShape shape, output_shape(x.shape(), picks.count()));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), shape));
    return pick(x.dtype(), x.data(), x.shape().back(), picks.as<int64_t>(), shape, c.out(0).data());
  }
  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &picks = c.in(1);
    OCIOR_ASSIGN(const FixedShape shape, output_shape(x.shape, picks.count()));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
    return pick(x.dtype, x.data, x.shape.back(), picks.as<int64_t>(), shape, c.out(0).data);
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kInt64, DType::kInt32, DType::kString}) {
      out.push_back({.inputs = {{t, {3, 4}}, {DType::kInt64, {3}, Fill::kZeros, {3, 0, 3}}}});
      out.push_back({.inputs = {{t, {4}}, {DType::kInt64, {1, 2}, Fill::kZeros, {1, 2}}}});
      out.push_back({.inputs = {{t, {2, 3, 4}}, {DType::kInt64, {}, Fill::kZeros, {2}}}});
    }
    out.push_back({.inputs = {{DType::kFloat, {3, 4}}, {DType::kInt64, {0}}}});
    out.push_back({.inputs = {{DType::kFloat, {0, 4}}, {DType::kInt64, {2}, Fill::kZeros, {0, 1}}}});
    return out;
  }

 private:
  static Result<FixedShape> output_shape(std::span<const int64_t> x, int64_t picks) {
    if (x.empty() || x.size() >= kMaxRank)
      return error(Code::kInvalidArgument, "ArrayFeatureExtractor: the input has rank {}; expected 1 to {}", x.size(),
                   kMaxRank - 1);
    FixedShape out;
    if (x.size() == 1) out.push(1);
    for (size_t i = 0; i + 1 < x.size(); ++i) out.push(x[i]);
    out.push(picks);
    OCIOR_RETURN_IF_ERROR(checked_element_count(out).status());
    return out;
  }
  static Status pick(DType t, const void* x, int64_t length, const int64_t* picks, const FixedShape& shape, void* y) {
    const int64_t count = shape[shape.rank - 1];
    for (int64_t k = 0; k < count; ++k)
      if (picks[k] < 0 || picks[k] >= length)
        return error(Code::kInvalidArgument, "ArrayFeatureExtractor: index {} is {}; expected 0 to {}", k, picks[k], length - 1);
    const int64_t rows = count == 0 ? 0 : element_count(shape) / count;
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t k = 0; k < count; ++k) copy_elements(t, y, row * count + k, x, row * length + picks[k], 1);
    return {};
  }
};
OCIOR_OPERATOR(ArrayFeatureExtractor)

}  // namespace ocior::ops
