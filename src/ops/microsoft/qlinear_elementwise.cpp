// QLinearAdd, QLinearMul, QLinearLeakyRelu, QLinearSigmoid, QLinearWhere and QLinearConcat of com.microsoft: elements of bytes,
// with one scale and zero point per tensor.
#include "ops/loops.h"
#include "ops/microsoft/qlinear.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

using qlinear::Affine;
using qlinear::Table;

// (a, b) -> y, of two tensors that broadcast.
struct Binary {
  enum Input { kA, kAScale, kAZero, kB, kBScale, kBZero, kYScale, kYZero };

  static Status infer(ShapeContext& c, std::string_view op) {
    OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, kA, kAScale, kAZero, op));
    OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, kB, kBScale, kBZero, op));
    OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, kA, kYScale, kYZero, op));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, kA, kB, op));
    c.set(0, c.dtype(kA), std::nullopt);
    if (!ranked(c, kA) || !ranked(c, kB)) return {};
    OCIOR_ASSIGN(Dims y, broadcast(c, *c.shape(kA), *c.shape(kB)));
    c.set(0, c.dtype(kA), std::move(y));
    return {};
  }

  Affine a, b, y;

  template <class C>
  static Result<Binary> read(const C& c, DType dtype, std::string_view op) {
    Binary out;
    OCIOR_ASSIGN(out.a, qlinear::read_affine(c, dtype, kAScale, kAZero, op));
    OCIOR_ASSIGN(out.b, qlinear::read_affine(c, dtype, kBScale, kBZero, op));
    OCIOR_ASSIGN(out.y, qlinear::read_affine(c, dtype, kYScale, kYZero, op));
    return out;
  }
};

// In steps of y's scale, without its zero point.
struct Added {
  float a_scale, b_scale;
  int32_t a_zero, b_zero;
  explicit Added(const Binary& q)
      : a_scale(q.a.scale / q.y.scale), b_scale(q.b.scale / q.y.scale), a_zero(q.a.zero), b_zero(q.b.zero) {}
  float operator()(int32_t a, int32_t b) const {
    return static_cast<float>(a - a_zero) * a_scale + static_cast<float>(b - b_zero) * b_scale;
  }
};
struct Multiplied {
  float scale;
  int32_t a_zero, b_zero;
  explicit Multiplied(const Binary& q) : scale(q.a.scale * q.b.scale / q.y.scale), a_zero(q.a.zero), b_zero(q.b.zero) {}
  float operator()(int32_t a, int32_t b) const { return static_cast<float>((a - a_zero) * (b - b_zero)) * scale; }
};

template <class F>
Status binary_reference(RefContext& c, std::string_view op) {
  const Tensor &a = c.in(Binary::kA), &b = c.in(Binary::kB);
  Tensor& y = c.out(0);
  OCIOR_ASSIGN(const Binary q, Binary::read(c, y.dtype(), op));
  const F f(q);
  const std::vector<int64_t> from_a = nn::broadcast_index(a.shape(), y.shape()),
                             from_b = nn::broadcast_index(b.shape(), y.shape());
  for (size_t i = 0; i < from_a.size(); ++i) {
    const float steps = f(static_cast<int32_t>(get_int(a.dtype(), a.data(), from_a[i])),
                          static_cast<int32_t>(get_int(b.dtype(), b.data(), from_b[i])));
    set_int(y.dtype(), y.data(), static_cast<int64_t>(i), q.y.byte_of_sum(steps));
  }
  return {};
}

// Affine::byte_of_sum() without branches.
template <class T>
T byte_of_sum(float steps, float zero) {
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: rounds halves to even
  constexpr float kLow = std::numeric_limits<T>::min(), kHigh = std::numeric_limits<T>::max();
  const float sum = steps + zero, above = sum > kLow ? sum : kLow, inside = above < kHigh ? above : kHigh;
  return static_cast<T>(static_cast<int32_t>(inside + kRounder - kRounder));
}

template <class T, class F>
void binary_strip(const F& f, const T* a, int64_t a_step, const T* b, int64_t b_step, T* y, int64_t n, float zero) {
  if (a_step != 0 && b_step != 0) {
    for (int64_t i = 0; i < n; ++i) y[i] = byte_of_sum<T>(f(a[i], b[i]), zero);
  } else if (a_step != 0) {
    for (int64_t i = 0; i < n; ++i) y[i] = byte_of_sum<T>(f(a[i], *b), zero);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = byte_of_sum<T>(f(*a, b[i * b_step]), zero);
  }
}

template <class T, class F>
Status binary_run_as(CpuContext& c, const Binary& q) {
  const TensorView &a = c.in(Binary::kA), &b = c.in(Binary::kB), &y = c.out(0);
  BroadcastLoop loop;
  OCIOR_RETURN_IF_ERROR(loop.plan(y.shape, {a.shape, b.shape}));
  const F f(q);
  for_items(c, loop.total(), 1, [&](int64_t begin, int64_t end) {
    loop.strips(begin, end, kChunk, [&](int64_t at, const auto& from, int64_t n) {
      binary_strip<T>(f, a.as<const T>() + from[0], loop.step(0), b.as<const T>() + from[1], loop.step(1), y.as<T>() + at, n,
                      static_cast<float>(q.y.zero));
    });
  });
  return {};
}
template <class F>
Status binary_run(CpuContext& c, std::string_view op) {
  OCIOR_ASSIGN(const Binary q, Binary::read(c, c.out(0).dtype, op));
  return q.y.dtype == DType::kInt8 ? binary_run_as<int8_t, F>(c, q) : binary_run_as<uint8_t, F>(c, q);
}

SampleInput scale_of(double value) { return {.values = {value}}; }
SampleInput zero_of(DType t, double value) { return {.dtype = t, .values = {value}}; }

std::vector<Sample> binary_samples() {
  struct Shapes {
    Shape a, b;
  };
  std::vector<Sample> out;
  for (const Shapes& s : {Shapes{{2, 3, 67}, {2, 3, 67}},
                          {{2, 3, 5}, {5}},
                          {{3, 1}, {2, 3, 4}},
                          {{2, 1, 4}, {3, 1}},
                          {{}, {7}},
                          {{}, {}},
                          {{0, 3}, {3}},
                          {{3, 40001}, {1}},
                          {{1}, {600}}})
    for (const DType t : {DType::kInt8, DType::kUint8}) {
      for (const double scale : {0.013, 0.25})
        out.push_back({.inputs = {{t, s.a},
                                  scale_of(0.25),
                                  zero_of(t, 3),
                                  {t, s.b},
                                  scale_of(0.5),
                                  zero_of(t, 7),
                                  scale_of(scale),
                                  zero_of(t, 5)}});
      out.push_back(
          {.inputs = {{t, s.a}, scale_of(0.21), {.omitted = true}, {t, s.b}, scale_of(0.1), {.omitted = true}, scale_of(0.37)}});
    }
  out.push_back({.inputs = {{DType::kUint8, {1, 64, 112, 112}},
                            scale_of(0.02),
                            zero_of(DType::kUint8, 3),
                            {DType::kUint8, {1, 64, 112, 112}},
                            scale_of(0.03),
                            zero_of(DType::kUint8, 7),
                            scale_of(0.04),
                            zero_of(DType::kUint8, 5)},
                 .bench = true});
  return out;
}

// y = f(x), by a table. `f`: what operator() of F gives for a value.
enum UnaryInput { kX, kXScale, kXZero, kYScale, kYZero };

Status infer_table(ShapeContext& c, std::string_view op) {
  OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, kX, kXScale, kXZero, op));
  OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, kX, kYScale, kYZero, op));
  return infer_unary(c);
}

template <class F>
Status table_reference(RefContext& c, std::string_view op, F&& f) {
  OCIOR_ASSIGN(const Affine x, qlinear::read_affine(c, c.in(kX).dtype(), kXScale, kXZero, op));
  OCIOR_ASSIGN(const Affine y, qlinear::read_affine(c, c.in(kX).dtype(), kYScale, kYZero, op));
  qlinear::map_plainly(c, kX, [&](int64_t byte) { return y.byte(f(x.value(byte)) / y.scale); });
  return {};
}

template <class F>
Status table_run(CpuContext& c, std::string_view op, F&& f) {
  OCIOR_ASSIGN(const Affine x, qlinear::read_affine(c, c.in(kX).dtype, kXScale, kXZero, op));
  OCIOR_ASSIGN(const Affine y, qlinear::read_affine(c, c.in(kX).dtype, kYScale, kYZero, op));
  const Table table = qlinear::make_table(x.dtype, [&](int64_t byte) { return y.byte(f(x.value(byte)) / y.scale); });
  const auto* from = static_cast<const uint8_t*>(c.in(kX).data);
  auto* to = static_cast<uint8_t*>(c.out(0).data);
  for_items(c, c.in(kX).count(), 1,
            [&](int64_t begin, int64_t end) { qlinear::map_bytes(table, from + begin, to + begin, end - begin); });
  return {};
}

std::vector<Sample> table_samples() {
  std::vector<Sample> out;
  for (const DType t : {DType::kInt8, DType::kUint8}) {
    std::vector<double> all(256);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<double>(i) - (t == DType::kInt8 ? 128 : 0);
    out.push_back(
        {.inputs = {{.dtype = t, .shape = {256}, .values = all}, scale_of(0.05), zero_of(t, 3), scale_of(0.004), zero_of(t, 1)}});
    for (const Shape& shape : {Shape{}, Shape{0, 2}, Shape{2, 3, 5}, Shape{3, 40001}})
      out.push_back({.inputs = {{t, shape}, scale_of(0.25), {.omitted = true}, scale_of(0.125)}});
  }
  return out;
}

}  // namespace

struct QLinearAdd {
  static constexpr OpInfo info{.name = "QLinearAdd", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 8};
  static QLinearAdd parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const { return Binary::infer(c, info.name); }
  Status reference(RefContext& c) const { return binary_reference<Added>(c, info.name); }
  Status run(CpuContext& c) const { return binary_run<Added>(c, info.name); }
  static std::vector<Sample> samples() { return binary_samples(); }
};
OCIOR_OPERATOR(QLinearAdd)

struct QLinearMul {
  static constexpr OpInfo info{.name = "QLinearMul", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 8};
  static QLinearMul parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const { return Binary::infer(c, info.name); }
  Status reference(RefContext& c) const { return binary_reference<Multiplied>(c, info.name); }
  Status run(CpuContext& c) const { return binary_run<Multiplied>(c, info.name); }
  static std::vector<Sample> samples() { return binary_samples(); }
};
OCIOR_OPERATOR(QLinearMul)

struct QLinearLeakyRelu {
  static constexpr OpInfo info{.name = "QLinearLeakyRelu", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 5, .in_place = 1};
  float alpha = 0.01f;

  static QLinearLeakyRelu parse(const NodeReader& node) { return {node.number("alpha", 0.01f)}; }
  Status infer(ShapeContext& c) const { return infer_table(c, info.name); }
  Status reference(RefContext& c) const { return table_reference(c, info.name, *this); }
  Status run(CpuContext& c) const { return table_run(c, info.name, *this); }
  float operator()(float x) const { return x >= 0 ? x : alpha * x; }
  static std::vector<Sample> samples() {
    std::vector<Sample> out = table_samples();
    for (size_t i = 0; i < out.size(); i += 2) out[i].attributes = {{"alpha", 0.25f}};
    return out;
  }
};
OCIOR_OPERATOR(QLinearLeakyRelu)

struct QLinearSigmoid {
  static constexpr OpInfo info{.name = "QLinearSigmoid", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 5, .in_place = 1};
  static QLinearSigmoid parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const { return infer_table(c, info.name); }
  Status reference(RefContext& c) const { return table_reference(c, info.name, sigmoid); }
  Status run(CpuContext& c) const { return table_run(c, info.name, sigmoid); }
  static std::vector<Sample> samples() { return table_samples(); }

 private:
  static float sigmoid(float x) { return static_cast<float>(1 / (1 + std::exp(-static_cast<double>(x)))); }
};
OCIOR_OPERATOR(QLinearSigmoid)

// Elements of x where the condition holds, else of y, in z's scale.
struct QLinearWhere {
  static constexpr OpInfo info{.name = "QLinearWhere", .domain = kMicrosoft, .min_inputs = 9, .max_inputs = 9};
  enum Input { kCondition, kX, kXScale, kXZero, kY, kYScale, kYZero, kZScale, kZZero };

  static QLinearWhere parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, kCondition, kBools, info.name));
    OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, kX, kXScale, kXZero, info.name));
    OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, kY, kYScale, kYZero, info.name));
    OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, kX, kZScale, kZZero, info.name));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, kX, kY, info.name));
    c.set(0, c.dtype(kX), std::nullopt);
    if (!ranked(c, kCondition) || !ranked(c, kX) || !ranked(c, kY)) return {};
    OCIOR_ASSIGN(const Dims both, broadcast(c, *c.shape(kX), *c.shape(kY)));
    OCIOR_ASSIGN(Dims z, broadcast(c, *c.shape(kCondition), both));
    c.set(0, c.dtype(kX), std::move(z));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor &condition = c.in(kCondition), &x = c.in(kX), &y = c.in(kY);
    Tensor& z = c.out(0);
    OCIOR_ASSIGN(const Tables tables, read(c, z.dtype()));
    const auto index = [&](const Tensor& t) { return nn::broadcast_index(t.shape(), z.shape()); };
    const std::vector<int64_t> from = index(condition), from_x = index(x), from_y = index(y);
    for (size_t i = 0; i < from.size(); ++i)
      z.as<uint8_t>()[i] = static_cast<const uint8_t*>(condition.data())[from[i]]
                               ? tables.x[static_cast<const uint8_t*>(x.data())[from_x[i]]]
                               : tables.y[static_cast<const uint8_t*>(y.data())[from_y[i]]];
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView &condition = c.in(kCondition), &x = c.in(kX), &y = c.in(kY), &z = c.out(0);
    OCIOR_ASSIGN(const Tables tables, read(c, z.dtype));
    BroadcastLoop loop;
    OCIOR_RETURN_IF_ERROR(loop.plan(z.shape, {condition.shape, x.shape, y.shape}));
    const auto *chosen = static_cast<const uint8_t*>(condition.data), *xs = static_cast<const uint8_t*>(x.data),
               *ys = static_cast<const uint8_t*>(y.data);
    auto* zs = static_cast<uint8_t*>(z.data);
    for_items(c, loop.total(), 1, [&](int64_t begin, int64_t end) {
      loop.strips(begin, end, kChunk, [&](int64_t at, const auto& from, int64_t n) {
        for (int64_t i = 0; i < n; ++i)
          zs[at + i] = chosen[from[0] + i * loop.step(0)] ? tables.x[xs[from[1] + i * loop.step(1)]]
                                                          : tables.y[ys[from[2] + i * loop.step(2)]];
      });
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    struct Shapes {
      Shape condition, x, y;
    };
    for (const Shapes& s : {Shapes{{2, 3}, {2, 3}, {2, 3}}, {{3, 1}, {4}, {2, 1, 4}}, {{}, {5}, {}}, {{2, 0}, {1}, {1}}})
      for (const DType t : {DType::kInt8, DType::kUint8})
        out.push_back({.inputs = {{DType::kBool, s.condition, Fill::kBools},
                                  {t, s.x},
                                  scale_of(0.25),
                                  zero_of(t, 2),
                                  {t, s.y},
                                  scale_of(0.1),
                                  zero_of(t, 0),
                                  scale_of(0.25),
                                  zero_of(t, 2)}});
    return out;
  }

 private:
  struct Tables {
    Table x, y;
  };
  template <class C>
  static Result<Tables> read(const C& c, DType dtype) {
    OCIOR_ASSIGN(const Affine x, qlinear::read_affine(c, dtype, kXScale, kXZero, info.name));
    OCIOR_ASSIGN(const Affine y, qlinear::read_affine(c, dtype, kYScale, kYZero, info.name));
    OCIOR_ASSIGN(const Affine z, qlinear::read_affine(c, dtype, kZScale, kZZero, info.name));
    return Tables{qlinear::requantizing_table(x, z), qlinear::requantizing_table(y, z)};
  }
};
OCIOR_OPERATOR(QLinearWhere)

// Inputs: y's scale and zero point, then tensor, scale and zero point of each part.
struct QLinearConcat {
  static constexpr OpInfo info{.name = "QLinearConcat", .domain = kMicrosoft, .min_inputs = 5, .max_inputs = kUnbounded};
  int64_t axis = 0;

  static QLinearConcat parse(const NodeReader& node) {
    if (node.inputs() % 3 != 2)
      node.fail("{} inputs; expected a scale and a zero point, then tensor, scale and zero point of each part", node.inputs());
    return {node.required_integer("axis")};
  }

  Status infer(ShapeContext& c) const {
    const DType dtype = c.dtype(1);
    std::optional<Dims> out;
    Dim length = 0;
    for (int i = 2; i < c.inputs(); i += 3) {
      OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, i, i + 1, i + 2, info.name));
      OCIOR_RETURN_IF_ERROR(check_same_type(c, 1, i, info.name));
    }
    OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, 2, 0, 1, info.name));
    c.set(0, dtype, std::nullopt);
    for (int i = 2; i < c.inputs(); i += 3) {
      if (!ranked(c, i)) return {};
      const Dims& x = *c.shape(i);
      OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, rank(c, i)));
      length = length + x[static_cast<size_t>(a)];
      if (!out) out = x;
      Dims expected = *out;
      if (expected.size() == x.size()) expected[static_cast<size_t>(a)] = x[static_cast<size_t>(a)];
      OCIOR_RETURN_IF_ERROR(check_input(c, i, fmt::format("QLinearConcat: input {}", i), expected));
      for (size_t k = 0; k < x.size(); ++k)
        if (x[k].known() || !(*out)[k].known()) (*out)[k] = x[k];
      (*out)[static_cast<size_t>(a)] = length;
    }
    c.set(0, dtype, std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    Tensor& y = c.out(0);
    return parts(c, y.shape(), y.dtype(), [&](const quant::Operand& x, const Affine& from, const Affine& to, const Rows& rows) {
      for (int64_t o = 0; o < rows.outer; ++o)
        for (int64_t i = 0; i < rows.part; ++i) {
          const int64_t byte = get_int(x.dtype, x.data, o * rows.part + i);
          set_int(y.dtype(), y.data(), o * rows.row + rows.at + i, from == to ? byte : to.byte(from.value(byte) / to.scale));
        }
    });
  }

  Status run(CpuContext& c) const {
    auto* y = static_cast<uint8_t*>(c.out(0).data);
    return parts(c, c.out(0).shape, c.out(0).dtype,
                 [&](const quant::Operand& x, const Affine& from, const Affine& to, const Rows& rows) {
                   const Table table = qlinear::requantizing_table(from, to);
                   const auto* bytes = static_cast<const uint8_t*>(x.data);
                   for_items(c, rows.outer * rows.part, 1, [&](int64_t begin, int64_t end) {
                     while (begin < end) {
                       const int64_t o = begin / rows.part, i = begin % rows.part, n = std::min(rows.part - i, end - begin);
                       qlinear::map_bytes(table, bytes + begin, y + o * rows.row + rows.at + i, n);
                       begin += n;
                     }
                   });
                 });
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kInt8, DType::kUint8})
      for (const int64_t axis : {1, -2}) {
        out.push_back({.inputs = {scale_of(0.25),
                                  zero_of(t, 3),
                                  {t, {2, 3, 4}},
                                  scale_of(0.25),
                                  zero_of(t, 3),
                                  {t, {2, 1, 4}},
                                  scale_of(0.1),
                                  zero_of(t, 1),
                                  {t, {2, 0, 4}},
                                  scale_of(0.1),
                                  zero_of(t, 1)},
                       .attributes = {{"axis", axis}}});
        out.push_back({.inputs = {scale_of(0.25), zero_of(t, 3), {t, {30, 3, 400}}, scale_of(0.3), zero_of(t, 2)},
                       .attributes = {{"axis", axis}}});
      }
    return out;
  }

 private:
  // A part's elements are `outer` pieces of `part`, each at `at` of a row of y.
  struct Rows {
    int64_t outer, row, part, at;
  };
  template <class C, class F>
  Status parts(C& c, std::span<const int64_t> y, DType dtype, F&& f) const {
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, static_cast<int64_t>(y.size())));
    OCIOR_ASSIGN(const Affine to, qlinear::read_affine(c, dtype, 0, 1, info.name));
    const int64_t outer = element_count(y.first(static_cast<size_t>(a))), row = outer ? element_count(y) / outer : 0;
    int64_t at = 0;
    for (int i = 2; i < c.inputs(); i += 3) {
      const quant::Operand x(c.in(i));
      OCIOR_ASSIGN(const Affine from, qlinear::read_affine(c, dtype, i + 1, i + 2, info.name));
      const int64_t part = outer ? element_count(x.shape) / outer : 0;
      f(x, from, to, Rows{outer, row, part, at});
      at += part;
    }
    return {};
  }
};
OCIOR_OPERATOR(QLinearConcat)

}  // namespace ocior::ops
