// MatMulInteger and QLinearMatMul: products of 8-bit matrices with exact sums that wrap around in 32 bits
// (https://onnx.ai/onnx/operators/onnx__MatMulInteger.html).
#include <cmath>

#include "ops/quant/integer_product.h"

namespace ocior::ops {
namespace {

using quant::check_lanes;
using quant::infer_product;
using quant::Lanes;
using quant::multiply_by_tiles;
using quant::multiply_plainly;
using quant::Operand;
using quant::PackedBytes;
using quant::Product;
using quant::tile_scratch;

constexpr TypeSet kBytes = types(DType::kInt8, DType::kUint8);
constexpr TypeSet kFloat8 = types(DType::kFloat8E4M3FN, DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2, DType::kFloat8E5M2FNUZ);

double product_work(const BindContext& c, int a) {
  return 2.0 * static_cast<double>(c.out(0).count()) * static_cast<double>(c.in(a).shape.back());
}

// The shapes of two operands and of their zero points.
struct ProductShape {
  Shape a, b, a_zero, b_zero;
};
std::vector<ProductShape> product_shapes() {
  return {{{2, 3}, {3, 4}, {}, {}},
          {{1, 1}, {1, 1}, {1}, {1}},
          {{5, 7}, {7, 3}, {5}, {3}},
          {{130, 300}, {300, 141}, {}, {141}},
          {{3, 40000}, {40000, 2}, {}, {}},
          {{4}, {4}, {}, {}},
          {{4}, {4, 5}, {}, {5}},
          {{3, 4}, {4}, {3}, {}},
          {{2, 1, 3, 4}, {1, 3, 4, 5}, {2, 1, 3, 1}, {1, 3, 1, 5}},
          {{2, 3, 4}, {4, 5}, {2, 3, 1}, {1, 5}},
          {{2, 3, 4}, {2, 4, 5}, {1, 3, 1}, {2, 1, 1}},
          {{0, 4}, {4, 5}, {}, {}},
          {{3, 0}, {0, 5}, {}, {}}};
}

}  // namespace

struct MatMulInteger {
  static constexpr OpInfo info{.name = "MatMulInteger", .since = 10, .min_inputs = 2, .max_inputs = 4};

  static MatMulInteger parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    for (int i = 0; i < 4; ++i) OCIOR_RETURN_IF_ERROR(check_type(c, i, kBytes, info.name));
    for (const int i : {0, 1}) {
      if (!c.has(i + 2)) continue;
      OCIOR_RETURN_IF_ERROR(check_same_type(c, i, i + 2, info.name));
      OCIOR_RETURN_IF_ERROR(check_lanes(c, i + 2, i, i == 0, info.name));
    }
    return infer_product(c, 0, 1, DType::kInt32, info.name);
  }

  Status reference(RefContext& c) const {
    if (c.out(0).count() == 0) return {};
    OCIOR_ASSIGN(const Product p, product(c, c.out(0).shape()));
    auto* y = c.out(0).as<int32_t>();
    multiply_plainly<uint32_t>(p, [&](int64_t i, int64_t row, int64_t column, uint32_t sum) {
      y[(i * p.m + row) * p.n + column] = static_cast<int32_t>(sum);
    });
    return {};
  }

  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const { return PackedBytes::make(c, 1); }
  size_t scratch(const BindContext& c) const { return tile_scratch(c, 0, 1); }
  double work(const BindContext& c) const { return product_work(c, 0); }

  Status run(CpuContext& c) const {
    if (c.out(0).count() == 0) return {};
    OCIOR_ASSIGN(Product p, product(c, c.out(0).shape));
    p.join_rows();
    auto* y = c.out(0).as<int32_t>();
    multiply_by_tiles(c, p, [&](int64_t i, int64_t row, int64_t rows, int64_t column, int64_t columns, const int32_t* sums) {
      for (int64_t r = 0; r < rows; ++r)
        std::copy(sums + r * columns, sums + (r + 1) * columns, y + (i * p.m + row + r) * p.n + column);
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const ProductShape& s : product_shapes()) {
      for (const auto& [a, b] :
           {std::pair{DType::kUint8, DType::kInt8}, {DType::kInt8, DType::kUint8}, {DType::kUint8, DType::kUint8}}) {
        out.push_back({.inputs = {{a, s.a}, {b, s.b}, {a, s.a_zero, Fill::kSmallInts}, {b, s.b_zero, Fill::kSmallInts}}});
        out.push_back({.inputs = {{a, s.a}, {b, s.b}, {.omitted = true}, {b, s.b_zero, Fill::kSmallInts}}});
      }
      out.push_back({.inputs = {{DType::kInt8, s.a}, {DType::kInt8, s.b}}, .opset = 10});
      out.push_back({.inputs = {{DType::kUint8, s.a}, {.dtype = DType::kUint8, .shape = s.b, .constant = true}}});
    }
    // The largest sums there are: beyond 16 bits at two terms, beyond 32 at 40000.
    for (const int64_t k : {2, 256, 257, 40000}) {
      const std::vector<double> most(static_cast<size_t>(k), 255), least(static_cast<size_t>(k), -128);
      out.push_back({.inputs = {{DType::kUint8, {1, k}, Fill::kZeros, most},
                                {DType::kInt8, {k, 1}, Fill::kZeros, least},
                                {DType::kUint8, {}, Fill::kZeros, {0}},
                                {DType::kInt8, {}, Fill::kZeros, {127}}}});
    }
    out.push_back({.inputs = {{DType::kUint8, {128, 768}}, {DType::kInt8, {768, 768}, Fill::kUniform, {}, true}}, .bench = true});
    out.push_back({.inputs = {{DType::kUint8, {1, 768}}, {DType::kInt8, {768, 768}, Fill::kUniform, {}, true}}, .bench = true});
    return out;
  }

 private:
  template <class C>
  static Result<Product> product(C& c, std::span<const int64_t> y) {
    const Operand a_zero = c.has(2) ? Operand(c.in(2)) : Operand(), b_zero = c.has(3) ? Operand(c.in(3)) : Operand();
    return Product::make(Operand(c.in(0)), Operand(c.in(1)), c.has(2) ? &a_zero : nullptr, c.has(3) ? &b_zero : nullptr, y,
                         info.name);
  }
};
OCIOR_OPERATOR(MatMulInteger)

// y = saturate(round(sum * (a scale * b scale / y scale)) + y zero point): the scales' quotient is rounded to their type, its
// product with the sum to float.
struct QLinearMatMul {
  static constexpr OpInfo info{.name = "QLinearMatMul", .since = 10, .min_inputs = 8, .max_inputs = 8};
  enum Input { kA, kAScale, kAZero, kB, kBScale, kBZero, kYScale, kYZero };

  static QLinearMatMul parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    for (const int i : {kA, kAZero, kB, kBZero, kYZero}) OCIOR_RETURN_IF_ERROR(check_type(c, i, kBytes | kFloat8, info.name));
    for (const int i : {kAScale, kBScale, kYScale}) {
      OCIOR_RETURN_IF_ERROR(check_type(c, i, quant::kScales, info.name));
      OCIOR_RETURN_IF_ERROR(check_same_type(c, kAScale, i, info.name));
    }
    OCIOR_RETURN_IF_ERROR(check_same_type(c, kA, kAZero, info.name));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, kB, kBZero, info.name));
    for (const int i : {kAScale, kAZero}) OCIOR_RETURN_IF_ERROR(check_lanes(c, i, kA, true, info.name));
    for (const int i : {kBScale, kBZero}) OCIOR_RETURN_IF_ERROR(check_lanes(c, i, kB, false, info.name));
    for (const int i : {kYScale, kYZero})
      if (const auto count = ranked(c, i) ? known_product(*c.shape(i)) : std::nullopt; count && *count != 1)
        return error(Code::kInvalidArgument, "QLinearMatMul: input {} has shape {}; expected a single value", i,
                     to_string(*c.shape(i)));
    return infer_product(c, kA, kB, c.dtype(kYZero), info.name);
  }

  Status reference(RefContext& c) const {
    Tensor& y = c.out(0);
    if (y.count() == 0) return {};
    OCIOR_ASSIGN(const Parts parts, split(c, y.shape()));
    const auto store_at = [&](int64_t i, int64_t row, int64_t column, double sum) {
      parts.store(y.dtype(), y.data(), (i * parts.product.m + row) * parts.product.n + column, sum,
                  parts.scale(parts.a_scale_at(i, row), parts.b_scale_at(i, column)));
    };
    if (parts.integers()) {
      multiply_plainly<uint32_t>(parts.product, [&](int64_t i, int64_t row, int64_t column, uint32_t sum) {
        store_at(i, row, column, static_cast<int32_t>(sum));
      });
    } else {
      multiply_plainly<double>(parts.product, store_at);
    }
    return {};
  }

  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const {
    if (!(kBytes & type_bit(c.in(kA).dtype))) return std::unique_ptr<Prepared>();
    return PackedBytes::make(c, kB);
  }
  size_t scratch(const BindContext& c) const { return tile_scratch(c, kA, kB); }
  double work(const BindContext& c) const { return product_work(c, kA); }

  Status run(CpuContext& c) const {
    const TensorView& y = c.out(0);
    if (y.count() == 0) return {};
    OCIOR_ASSIGN(Parts parts, split(c, y.shape));
    if (!parts.integers()) return run_by_reference(*this, c);
    if (parts.a_scale.single()) parts.product.join_rows();
    const Product& p = parts.product;
    multiply_by_tiles(c, p, [&](int64_t i, int64_t row, int64_t rows, int64_t column, int64_t columns, const int32_t* sums) {
      float scale[quant::kColumns];
      const int64_t step = parts.b_scale.single() ? 0 : 1;
      for (int64_t r = 0; r < rows; ++r) {
        if (r == 0 || !parts.a_scale.single()) {
          const double a_scale = parts.a_scale_at(i, row + r);
          for (int64_t j = 0; j < (step ? columns : 1); ++j) scale[j] = parts.scale(a_scale, parts.b_scale_at(i, column + j));
        }
        const int64_t at = (i * p.m + row + r) * p.n + column;
        if (kBytes & type_bit(y.dtype))
          c.kernels().requantize(sums + r * columns, 0, scale, step, static_cast<int32_t>(parts.y_zero), y.dtype == DType::kInt8,
                                 y.as<uint8_t>() + at, columns);
        else
          for (int64_t j = 0; j < columns; ++j) parts.store(y.dtype, y.data, at + j, sums[r * columns + j], scale[j * step]);
      }
    });
    return {};
  }

  static std::vector<Sample> samples();

 private:
  struct Parts {
    Product product;
    Lanes a_scale, b_scale;
    DType scale_type = DType::kFloat;
    double y_scale = 1, y_zero = 0;

    bool integers() const { return (kBytes & type_bit(product.a.dtype)) && (kBytes & type_bit(product.b.dtype)); }
    double a_scale_at(int64_t i, int64_t row) const { return a_scale.at(product.a_matrix(i), row); }
    double b_scale_at(int64_t i, int64_t column) const { return b_scale.at(product.b_matrix(i), column); }

    // Scales are of at most float's precision, and so is their rounded quotient.
    float scale(double a, double b) const {
      return static_cast<float>(quant::rounded(scale_type, quant::rounded(scale_type, a * b) / y_scale));
    }
    void store(DType t, void* y, int64_t at, double sum, float scale) const {
      const float v = static_cast<float>(sum) * scale;
      if (t == DType::kUint8 || t == DType::kInt8)
        set_double(t, y, at, quant::saturated(std::nearbyint(v) + y_zero, quant::range_of(t)));
      else set_double(t, y, at, v + y_zero);
    }
  };

  template <class C>
  static Result<Parts> split(C& c, std::span<const int64_t> y) {
    const Operand a(c.in(kA)), b(c.in(kB)), a_zero(c.in(kAZero)), b_zero(c.in(kBZero)), scale(c.in(kYScale)), zero(c.in(kYZero));
    Parts out;
    OCIOR_ASSIGN(out.product, Product::make(a, b, &a_zero, &b_zero, y, info.name));
    OCIOR_ASSIGN(out.a_scale, Lanes::make(Operand(c.in(kAScale)), a.shape, true, info.name));
    OCIOR_ASSIGN(out.b_scale, Lanes::make(Operand(c.in(kBScale)), b.shape, false, info.name));
    if (element_count(scale.shape) != 1 || element_count(zero.shape) != 1)
      return error(Code::kInvalidArgument,
                   "QLinearMatMul: scale and zero point of y have shapes {} and {}; expected single values",
                   to_string(scale.shape), to_string(zero.shape));
    out.scale_type = scale.dtype;
    out.y_scale = get_double(scale.dtype, scale.data, 0);
    out.y_zero = get_double(zero.dtype, zero.data, 0);
    return out;
  }
};

std::vector<Sample> QLinearMatMul::samples() {
  std::vector<Sample> out;
  const auto add = [&](const ProductShape& s, DType a, DType b, DType y, DType scale, int opset = 0) {
    out.push_back({.inputs = {{a, s.a},
                              {scale, s.a_zero, Fill::kPositive},
                              {a, s.a_zero, Fill::kSmallInts},
                              {b, s.b},
                              {scale, s.b_zero, Fill::kPositive},
                              {b, s.b_zero, Fill::kSmallInts},
                              {scale, {}, Fill::kZeros, {2.5}},
                              {y, {}, Fill::kZeros, {3}}},
                   .opset = opset});
  };
  for (const ProductShape& s : product_shapes())
    for (const auto& [a, b, y] :
         {std::tuple{DType::kUint8, DType::kInt8, DType::kUint8}, {DType::kInt8, DType::kInt8, DType::kInt8}})
      add(s, a, b, y, DType::kFloat);
  const ProductShape small{{2, 3, 4}, {4, 5}, {}, {5}};
  add(small, DType::kUint8, DType::kUint8, DType::kUint8, DType::kFloat, 10);
  for (const DType scale : {DType::kFloat16, DType::kBFloat16}) add(small, DType::kUint8, DType::kUint8, DType::kInt8, scale);
  for (const DType t : {DType::kFloat8E4M3FN, DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2, DType::kFloat8E5M2FNUZ})
    add(small, t, t, t, DType::kFloat);
  add({{128, 768}, {768, 768}, {}, {}}, DType::kUint8, DType::kInt8, DType::kUint8, DType::kFloat);
  out.back().bench = true;
  return out;
}
OCIOR_OPERATOR(QLinearMatMul)

}  // namespace ocior::ops
