// QGemm, MatMulIntegerToFloat and DynamicQuantizeMatMul of com.microsoft: products of 8-bit matrices with exact sums, scaled to
// floats or back to bytes.
#include "ops/microsoft/qlinear.h"

namespace ocior::ops {
namespace {

using quant::Lanes;
using quant::multiply_by_tiles;
using quant::multiply_plainly;
using quant::Operand;
using quant::PackedBytes;
using quant::Product;

double product_work(const BindContext& c, double k) { return 2.0 * static_cast<double>(c.out(0).count()) * k; }

// Of input i; none when it is omitted.
template <class C>
Operand operand(const C& c, int i) {
  return c.has(i) ? Operand(c.in(i)) : Operand();
}

// What becomes of a sum in column j of a matrix: times a scale, plus a bias, as y's type.
struct Floats {
  Product product;
  double a_scale = 1;
  Lanes b_scale;
  Operand bias;

  void store(DType t, void* y, int64_t matrix, int64_t row, int64_t column, int64_t sum) const {
    const auto scale = static_cast<float>(a_scale * b_scale.at(product.b_matrix(matrix), column));
    const double added = bias.data ? get_double(bias.dtype, bias.data, column) : 0;
    set_double(t, y, (matrix * product.m + row) * product.n + column, static_cast<float>(sum) * scale + added);
  }
  void store_tile(const KernelTable& kernels, DType t, void* y, int64_t matrix, int64_t row, int64_t rows, int64_t column,
                  int64_t columns, const int32_t* sums) const {
    float scales[quant::kColumns], added[quant::kColumns], half[quant::kColumns];
    const int64_t step = b_scale.single() ? 0 : 1;
    for (int64_t j = 0; j < (step ? columns : 1); ++j)
      scales[j] = static_cast<float>(a_scale * b_scale.at(product.b_matrix(matrix), column + j));
    if (bias.dtype == DType::kFloat) std::copy_n(static_cast<const float*>(bias.data) + column, columns, added);
    else
      for (int64_t j = 0; j < columns && bias.data; ++j)
        added[j] = static_cast<float>(get_double(bias.dtype, bias.data, column + j));
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = (matrix * product.m + row + r) * product.n + column;
      float* to = t == DType::kFloat ? static_cast<float*>(y) + at : half;
      kernels.scale_i32(sums + r * columns, scales, step, to, columns);
      if (bias.data) kernels.binary_f32(BinaryFn::kAdd, to, 1, added, 1, to, columns);
      for (int64_t j = 0; j < columns && to == half; ++j) set_double(t, y, at + j, half[j]);
    }
  }
  Status reference(Tensor& y) const {
    multiply_plainly<uint32_t>(product, [&](int64_t i, int64_t row, int64_t column, uint32_t sum) {
      store(y.dtype(), y.data(), i, row, column, static_cast<int32_t>(sum));
    });
    return {};
  }
  Status run(CpuContext& c, void* scratch) {
    product.join_rows();
    const TensorView& y = c.out(0);
    multiply_by_tiles(
        c, product,
        [&](int64_t i, int64_t row, int64_t rows, int64_t column, int64_t columns, const int32_t* sums) {
          store_tile(c.kernels(), y.dtype, y.data, i, row, rows, column, columns, sums);
        },
        scratch);
    return {};
  }
};

Status check_bias(const ShapeContext& c, int i, int b) {
  if (!ranked(c, b) || c.shape(b)->empty()) return {};
  return check_input(c, i, "bias", Dims{c.shape(b)->size() > 1 ? c.shape(b)->back() : Dim(1)});
}

SampleInput one(DType t, double value) { return {.dtype = t, .values = {value}}; }

struct Extents {
  Shape a, b, lanes;
};
std::vector<Extents> extents() {
  return {{{2, 3}, {3, 4}, {}},       {{5, 7}, {7, 3}, {3}},           {{2, 3, 4}, {4, 5}, {5}},
          {{2, 3, 4}, {2, 4, 5}, {}}, {{130, 300}, {300, 141}, {141}}, {{0, 4}, {4, 5}, {}},
          {{3, 0}, {0, 5}, {}},       {{1, 4, 6}, {6, 2}, {}}};
}

}  // namespace

// y = (a - a_zero) * (b - b_zero) * a_scale * b_scale + bias.
struct MatMulIntegerToFloat {
  static constexpr OpInfo info{.name = "MatMulIntegerToFloat", .domain = kMicrosoft, .min_inputs = 4, .max_inputs = 7};
  enum Input { kA, kB, kAScale, kBScale, kAZero, kBZero, kBias };

  static MatMulIntegerToFloat parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    for (const int i : {kA, kB}) OCIOR_RETURN_IF_ERROR(check_type(c, i, qlinear::kBytes, info.name));
    if (c.has(kAZero)) OCIOR_RETURN_IF_ERROR(check_same_type(c, kA, kAZero, info.name));
    if (c.has(kBZero)) OCIOR_RETURN_IF_ERROR(check_same_type(c, kB, kBZero, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, kAScale, types(DType::kFloat, DType::kFloat16), info.name));
    for (const int i : {kBScale, kBias})
      if (c.has(i)) OCIOR_RETURN_IF_ERROR(check_same_type(c, kAScale, i, info.name));
    for (const int i : {kAScale, kAZero}) OCIOR_RETURN_IF_ERROR(qlinear::check_single(c, i, info.name));
    for (const int i : {kBScale, kBZero}) OCIOR_RETURN_IF_ERROR(quant::check_lanes(c, i, kB, false, info.name));
    OCIOR_RETURN_IF_ERROR(check_bias(c, kBias, kB));
    return quant::infer_product(c, kA, kB, c.dtype(kAScale), info.name);
  }

  Status reference(RefContext& c) const {
    if (c.out(0).count() == 0) return {};
    OCIOR_ASSIGN(const Floats f, split(c, c.out(0).shape()));
    return f.reference(c.out(0));
  }

  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const { return PackedBytes::make(c, kB); }
  size_t scratch(const BindContext& c) const { return quant::tile_scratch(c, kA, kB); }
  double work(const BindContext& c) const { return product_work(c, static_cast<double>(c.in(kA).shape.back())); }

  Status run(CpuContext& c) const {
    if (c.out(0).count() == 0) return {};
    OCIOR_ASSIGN(Floats f, split(c, c.out(0).shape));
    return f.run(c, c.scratch());
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const Extents& e : extents())
      for (const auto& [a, b] : {std::pair{DType::kUint8, DType::kInt8}, {DType::kInt8, DType::kUint8}}) {
        out.push_back({.inputs = {{a, e.a},
                                  {b, e.b},
                                  one(DType::kFloat, 0.1),
                                  {DType::kFloat, e.lanes, Fill::kPositive},
                                  one(a, 3),
                                  {b, e.lanes, Fill::kSmallInts},
                                  {DType::kFloat, {e.b.back()}}}});
        out.push_back({.inputs = {{a, e.a}, {b, e.b}, one(DType::kFloat, 0.1), one(DType::kFloat, 0.2)}});
      }
    out.push_back({.inputs = {{DType::kUint8, {3, 4}},
                              {DType::kInt8, {4, 5}},
                              one(DType::kFloat16, 0.1),
                              {DType::kFloat16, {5}, Fill::kPositive}}});
    out.push_back({.inputs = {{DType::kUint8, {128, 768}},
                              {.dtype = DType::kInt8, .shape = {768, 768}, .constant = true},
                              one(DType::kFloat, 0.1),
                              one(DType::kFloat, 0.1)},
                   .bench = true});
    return out;
  }

 private:
  template <class C>
  static Result<Floats> split(const C& c, std::span<const int64_t> y) {
    const Operand a = operand(c, kA), b = operand(c, kB), a_zero = operand(c, kAZero), b_zero = operand(c, kBZero);
    const Operand scale = operand(c, kAScale);
    if (element_count(scale.shape) != 1)
      return error(Code::kInvalidArgument, "{}: the scale of A has shape {}; expected a single value", info.name,
                   to_string(scale.shape));
    Floats out{.a_scale = get_double(scale.dtype, scale.data, 0), .bias = operand(c, kBias)};
    OCIOR_ASSIGN(out.product,
                 Product::make(a, b, a_zero.data ? &a_zero : nullptr, b_zero.data ? &b_zero : nullptr, y, info.name));
    OCIOR_ASSIGN(out.b_scale, Lanes::make(operand(c, kBScale), b.shape, false, info.name));
    return out;
  }
};
OCIOR_OPERATOR(MatMulIntegerToFloat)

// The same with a float A, which is quantised as DynamicQuantizeLinear does it.
struct DynamicQuantizeMatMul {
  static constexpr OpInfo info{.name = "DynamicQuantizeMatMul", .domain = kMicrosoft, .min_inputs = 3, .max_inputs = 5};
  enum Input { kA, kB, kBScale, kBZero, kBias };

  static DynamicQuantizeMatMul parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    for (const int i : {kA, kBScale, kBias})
      if (c.has(i)) OCIOR_RETURN_IF_ERROR(check_type(c, i, type_bit(DType::kFloat), info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, kB, qlinear::kBytes, info.name));
    if (c.has(kBZero)) OCIOR_RETURN_IF_ERROR(check_same_type(c, kB, kBZero, info.name));
    for (const int i : {kBScale, kBZero}) OCIOR_RETURN_IF_ERROR(quant::check_lanes(c, i, kB, false, info.name));
    OCIOR_RETURN_IF_ERROR(check_bias(c, kBias, kB));
    return quant::infer_product(c, kA, kB, DType::kFloat, info.name);
  }

  Status reference(RefContext& c) const {
    if (c.out(0).count() == 0) return {};
    const Tensor& a = c.in(kA);
    std::vector<uint8_t> bytes(static_cast<size_t>(a.count()));
    const quant::Dynamic q = quant::Dynamic::of(quant::bounds(a.as<float>(), a.count()));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = q.quantize(a.as<float>()[i]);
    OCIOR_ASSIGN(const Floats f, split(c, c.out(0).shape(), a.shape(), bytes.data(), q));
    return f.reference(c.out(0));
  }

  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const { return PackedBytes::make(c, kB); }
  size_t scratch(const BindContext& c) const {
    return nn::align64(static_cast<size_t>(c.in(kA).count())) + quant::tile_scratch(c, kA, kB);
  }
  double work(const BindContext& c) const { return product_work(c, static_cast<double>(c.in(kA).shape.back())); }

  Status run(CpuContext& c) const {
    if (c.out(0).count() == 0) return {};
    const TensorView& a = c.in(kA);
    nn::Carver carver(c.scratch());
    auto* bytes = carver.take<uint8_t>(static_cast<size_t>(a.count()));
    quant::Bounds bounds;
    c.kernels().bounds_f32(a.as<float>(), a.count(), &bounds.lo, &bounds.hi);
    const quant::Dynamic q = quant::Dynamic::of(bounds);
    nn::parallel_rows(c, a.count(), 1, [&](int64_t begin, int64_t end, int) {
      c.kernels().quantize_f32(a.as<float>() + begin, q.scale, q.zero, false, bytes + begin, end - begin);
    });
    OCIOR_ASSIGN(Floats f, split(c, c.out(0).shape, a.shape, bytes, q));
    return f.run(c, carver.take(0));
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const Extents& e : extents())
      for (const DType b : {DType::kUint8, DType::kInt8}) {
        out.push_back({.inputs = {{DType::kFloat, e.a, Fill::kNormal},
                                  {b, e.b},
                                  {DType::kFloat, e.lanes, Fill::kPositive},
                                  {b, e.lanes, Fill::kSmallInts},
                                  {DType::kFloat, {e.b.back()}}}});
        out.push_back({.inputs = {{DType::kFloat, e.a, Fill::kPositive}, {b, e.b}, one(DType::kFloat, 0.1)}});
      }
    out.push_back({.inputs = {{.shape = {128, 768}},
                              {.dtype = DType::kInt8, .shape = {768, 768}, .constant = true},
                              one(DType::kFloat, 0.1)},
                   .bench = true});
    return out;
  }

 private:
  // The zero point of A must outlive what this returns: `q` does.
  template <class C>
  static Result<Floats> split(const C& c, std::span<const int64_t> y, std::span<const int64_t> a_shape, const uint8_t* bytes,
                              const quant::Dynamic& q) {
    const Operand b = operand(c, kB), b_zero = operand(c, kBZero);
    Operand a, a_zero;
    a.dtype = a_zero.dtype = DType::kUint8;
    a.shape = a_shape, a.data = bytes, a_zero.data = &q.zero;
    Floats out{.a_scale = static_cast<double>(q.scale), .bias = operand(c, kBias)};
    OCIOR_ASSIGN(out.product, Product::make(a, b, &a_zero, b_zero.data ? &b_zero : nullptr, y, info.name));
    OCIOR_ASSIGN(out.b_scale, Lanes::make(operand(c, kBScale), b.shape, false, info.name));
    return out;
  }
};
OCIOR_OPERATOR(DynamicQuantizeMatMul)

// y = (alpha * a_scale * b_scale * (A' * B' + C)), as float or quantised by y's scale and zero point; C is int32 in the scale of
// the product.
struct QGemm {
  static constexpr OpInfo info{.name = "QGemm", .domain = kMicrosoft, .min_inputs = 6, .max_inputs = 9};
  enum Input { kA, kAScale, kAZero, kB, kBScale, kBZero, kC, kYScale, kYZero };

  float alpha = 1;
  bool trans_a = false, trans_b = false;

  static QGemm parse(const NodeReader& node) {
    return {node.number("alpha", 1), node.integer("transA", 0) != 0, node.integer("transB", 0) != 0};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, kA, kAScale, kAZero, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, kB, qlinear::kBytes, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, kBScale, type_bit(DType::kFloat), info.name));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, kB, kBZero, info.name));
    if (c.has(kYScale) != c.has(kYZero))
      return error(Code::kInvalidGraph, "QGemm: y_scale and y_zero_point come together or not at all");
    OCIOR_RETURN_IF_ERROR(check_type(c, kYScale, type_bit(DType::kFloat), info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, kYZero, qlinear::kBytes, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, kC, type_bit(DType::kInt32), info.name));
    for (const int i : {kYScale, kYZero}) OCIOR_RETURN_IF_ERROR(qlinear::check_single(c, i, info.name));
    const DType dtype = c.has(kYZero) ? c.dtype(kYZero) : DType::kFloat;
    c.set(0, dtype, std::nullopt);
    if (!ranked(c, kA) || !ranked(c, kB)) return {};
    const Dims &a = *c.shape(kA), &b = *c.shape(kB);
    if (a.size() != 2 || b.size() != 2 || !nn::may_equal(a[trans_a ? 0 : 1], b[trans_b ? 1 : 0]))
      return error(Code::kInvalidArgument, "QGemm: A {} and B {} do not fit; expected matrices with one inner dimension",
                   to_string(a), to_string(b));
    const Dims y{a[trans_a ? 1 : 0], b[trans_b ? 0 : 1]};
    OCIOR_RETURN_IF_ERROR(check_c(c, y));
    for (const int i : {kBScale, kBZero}) {
      const auto count = ranked(c, i) ? known_product(*c.shape(i)) : std::nullopt;
      if (count && *count != 1) OCIOR_RETURN_IF_ERROR(check_input(c, i, "scale or zero point of B", {y[1]}));
    }
    c.set(0, dtype, y);
    return {};
  }

  Status reference(RefContext& c) const {
    if (c.out(0).count() == 0) return {};
    const Tensor& a = c.in(kA);
    std::vector<uint8_t> memory(static_cast<size_t>(trans_a ? a.count() : 0));
    return visit(c, c.out(0).shape(), memory.data(), [&](const Parts& p) {
      multiply_plainly<uint32_t>(
          p.product, [&](int64_t, int64_t row, int64_t column, uint32_t sum) { p.store(c.out(0).data(), row, column, sum); });
    });
  }

  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const { return PackedBytes::make(c, kB, trans_b); }
  size_t scratch(const BindContext& c) const {
    if (c.out(0).count() == 0) return 0;
    const auto y = c.out(0).shape;
    return transposed_bytes(c.in(kA).count()) + quant::tile_scratch(c, y[0], y[1], c.in(kA).shape[trans_a ? 0 : 1]);
  }
  double work(const BindContext& c) const { return product_work(c, static_cast<double>(c.in(kA).shape[trans_a ? 0 : 1])); }

  Status run(CpuContext& c) const {
    const TensorView& y = c.out(0);
    if (y.count() == 0) return {};
    auto* memory = static_cast<uint8_t*>(c.scratch());
    return visit(c, y.shape, memory, [&](const Parts& p) {
      multiply_by_tiles(
          c, p.product,
          [&](int64_t, int64_t row, int64_t rows, int64_t column, int64_t columns, const int32_t* sums) {
            p.store_tile(c.kernels(), y.data, row, rows, column, columns, sums);
          },
          memory + transposed_bytes(c.in(kA).count()));
    });
  }

  static std::vector<Sample> samples();

 private:
  struct Parts {
    Product product;
    Operand b_scale, c;
    float factor = 1;  // alpha * a_scale
    bool quantises = false;
    qlinear::Affine y;

    // What C adds to a sum.
    uint32_t added(int64_t row, int64_t column) const {
      if (!c.data) return 0;
      const size_t rank = c.shape.size();
      const int64_t columns = rank > 0 ? c.shape[rank - 1] : 1, rows = rank > 1 ? c.shape[0] : 1;
      return static_cast<uint32_t>(
          static_cast<const int32_t*>(c.data)[(rows > 1 ? row * columns : 0) + (columns > 1 ? column : 0)]);
    }
    float scale(int64_t column) const {
      const float b = factor * static_cast<const float*>(b_scale.data)[element_count(b_scale.shape) > 1 ? column : 0];
      return quantises ? b / y.scale : b;
    }
    void store(void* to, int64_t row, int64_t column, uint32_t sum) const {
      const int64_t at = row * product.n + column;
      const float value = static_cast<float>(static_cast<int32_t>(sum + added(row, column))) * scale(column);
      if (!quantises) static_cast<float*>(to)[at] = value;
      else static_cast<uint8_t*>(to)[at] = static_cast<uint8_t>(y.byte(value));
    }
    void store_tile(const KernelTable& kernels, void* to, int64_t row, int64_t rows, int64_t column, int64_t columns,
                    const int32_t* sums) const {
      float scales[quant::kColumns];
      int32_t whole[quant::kColumns];
      for (int64_t j = 0; j < columns; ++j) scales[j] = scale(column + j);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = (row + r) * product.n + column;
        const int32_t* from = sums + r * columns;
        for (int64_t j = 0; j < columns && c.data; ++j)
          whole[j] = static_cast<int32_t>(static_cast<uint32_t>(from[j]) + added(row + r, column + j));
        if (c.data) from = whole;
        if (quantises)
          kernels.requantize(from, 0, scales, 1, y.zero, y.dtype == DType::kInt8, static_cast<uint8_t*>(to) + at, columns);
        else
          for (int64_t j = 0; j < columns; ++j) static_cast<float*>(to)[at + j] = static_cast<float>(from[j]) * scales[j];
      }
    }
  };

  // What a matrix is when it is not transposed; its shape lives here, so that this stays where it is. `memory`: null where the
  // bytes stay as they are.
  struct Upright {
    int64_t shape[2];
    Operand operand;

    Upright(const Operand& x, bool transposed, uint8_t* memory) : shape{x.shape[0], x.shape[1]}, operand(x) {
      if (!transposed) return;
      const auto* from = static_cast<const uint8_t*>(x.data);
      for (int64_t j = 0; j < shape[1] && memory; ++j)
        for (int64_t i = 0; i < shape[0]; ++i) memory[j * shape[0] + i] = from[i * shape[1] + j];
      if (memory) operand.data = memory;
      std::swap(shape[0], shape[1]);
    }
    Operand get() const {
      Operand out = operand;
      out.shape = shape;
      return out;
    }
  };

  // Calls f with what every sum needs. `memory`: transposed_bytes().
  template <class C, class F>
  Status visit(const C& c, std::span<const int64_t> y, uint8_t* memory, F&& f) const {
    const Upright a(operand(c, kA), trans_a, memory), b(operand(c, kB), trans_b, nullptr);
    const Operand a_zero = operand(c, kAZero), b_zero = operand(c, kBZero);
    OCIOR_ASSIGN(const qlinear::Affine a_affine, qlinear::read_affine(c, a.operand.dtype, kAScale, kAZero, info.name));
    Parts out{.b_scale = operand(c, kBScale), .c = operand(c, kC), .factor = alpha * a_affine.scale, .quantises = c.has(kYZero)};
    OCIOR_ASSIGN(out.y,
                 qlinear::read_affine(c, out.quantises ? operand(c, kYZero).dtype : DType::kUint8, kYScale, kYZero, info.name));
    OCIOR_ASSIGN(out.product, Product::make(a.get(), b.get(), &a_zero, &b_zero, y, info.name));
    out.product.b_transposed = trans_b;
    OCIOR_RETURN_IF_ERROR(Lanes::make(out.b_scale, b.get().shape, false, info.name).status());
    f(out);
    return {};
  }

  size_t transposed_bytes(int64_t a) const { return nn::align64(static_cast<size_t>(trans_a ? a : 0)); }

  Status check_c(const ShapeContext& c, const Dims& y) const {
    if (!c.has(kC) || !ranked(c, kC)) return {};
    const Dims& s = *c.shape(kC);
    bool fits = s.size() <= 2;
    for (size_t i = 1; i <= s.size() && fits; ++i)
      fits = nn::may_equal(s[s.size() - i], y[2 - i]) || nn::may_equal(s[s.size() - i], Dim(1));
    if (fits) return {};
    return error(Code::kInvalidArgument, "QGemm: C has shape {}, which does not broadcast to {}", to_string(s), to_string(y));
  }
};

std::vector<Sample> QGemm::samples() {
  std::vector<Sample> out;
  const auto add = [&](const Shape& a, const Shape& b, const Shape& lanes, const Shape& c, Attributes attributes) {
    for (const DType y : {DType::kUint8, DType::kInt8, DType::kFloat}) {
      const bool quantised = y != DType::kFloat;
      out.push_back({.inputs = {{DType::kUint8, a},
                                one(DType::kFloat, 0.1),
                                one(DType::kUint8, 3),
                                {DType::kInt8, b},
                                {DType::kFloat, lanes, Fill::kPositive},
                                {DType::kInt8, lanes, Fill::kSmallInts},
                                {.dtype = DType::kInt32, .shape = c, .omitted = c.size() > 2},
                                {.values = {2.5}, .omitted = !quantised},
                                {.dtype = quantised ? y : DType::kInt8, .values = {3}, .omitted = !quantised}},
                     .attributes = attributes});
    }
  };
  const Shape none{1, 1, 1};
  add({2, 3}, {3, 4}, {}, none, {});
  add({3, 2}, {4, 3}, {4}, {4}, {{"transA", int64_t{1}}, {"transB", int64_t{1}}});
  add({130, 300}, {141, 300}, {141}, {130, 1}, {{"transB", int64_t{1}}, {"alpha", 0.5f}});
  add({300, 130}, {300, 141}, {}, {130, 141}, {{"transA", int64_t{1}}});
  add({3, 0}, {0, 5}, {}, {1}, {});
  add({0, 3}, {3, 5}, {}, {}, {});
  return out;
}
OCIOR_OPERATOR(QGemm)

}  // namespace ocior::ops
