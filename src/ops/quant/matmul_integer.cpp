// MatMulInteger and QLinearMatMul: products of 8-bit matrices with exact sums that wrap around in 32 bits
// (https://onnx.ai/onnx/operators/onnx__MatMulInteger.html). The float kernel multiplies: centred operands are at most 255, so
// that sums of 256 products stay below 2^24, where float is exact in any order; such partial sums are added in 32-bit integers.
#include <cmath>

#include "ops/nn/numeric.h"
#include "ops/quant/scale.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

constexpr TypeSet kBytes = types(DType::kInt8, DType::kUint8);
constexpr TypeSet kFloat8 = types(DType::kFloat8E4M3FN, DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2, DType::kFloat8E5M2FNUZ);

// A tensor's type, shape and bytes, in a reference and in a run.
struct Operand {
  DType dtype = DType::kUndefined;
  std::span<const int64_t> shape;
  const void* data = nullptr;

  Operand() = default;
  explicit Operand(const Tensor& t) : dtype(t.dtype()), shape(t.shape()), data(t.data()) {}
  explicit Operand(const TensorView& t) : dtype(t.dtype), shape(t.shape), data(t.data) {}
};

// Number of the matrix of `own` batch axes that belongs to matrix `index` of the batch axes `all`.
int64_t batch_index(std::span<const int64_t> own, std::span<const int64_t> all, int64_t index) {
  int64_t at = 0, step = 1;
  for (size_t from_end = 1; from_end <= all.size(); ++from_end) {
    const int64_t dim = all[all.size() - from_end], mine = from_end <= own.size() ? own[own.size() - from_end] : 1;
    if (mine != 1) at += index % dim * step;
    index /= dim;
    step *= mine;
  }
  return at;
}

// Zero points or scales: one, one per row of a (shape [m] or [..., m, 1]), or one per column of b ([n] or [..., 1, n]).
class Lanes {
 public:
  // `matrix`: the operand's shape; `lanes`: its rows or columns.
  static Result<Lanes> make(const Operand& values, std::span<const int64_t> matrix, bool rows, std::string_view op) {
    Lanes out;
    out.values_ = values;
    const std::span<const int64_t> shape = values.shape;
    if (element_count(shape) == 1) return out;
    const bool is_matrix = matrix.size() > 1;
    const int64_t lanes = is_matrix ? matrix[matrix.size() - (rows ? 2 : 1)] : 1;
    bool fits = is_matrix && !shape.empty();
    if (shape.size() == 1) {
      fits = fits && shape[0] == lanes;
    } else if (fits) {
      const int64_t own = shape[shape.size() - (rows ? 2 : 1)], other = shape[shape.size() - (rows ? 1 : 2)];
      out.own_ = shape.first(shape.size() - 2), out.all_ = matrix.first(matrix.size() - 2);
      fits = other == 1 && (own == lanes || own == 1) && shape.size() <= matrix.size();
      for (size_t i = 1; i <= out.own_.size() && fits; ++i) {
        const int64_t mine = out.own_[out.own_.size() - i];
        fits = mine == 1 || mine == out.all_[out.all_.size() - i];
      }
    }
    if (!fits)
      return error(Code::kInvalidArgument,
                   "{}: zero points or scales of shape {} for an operand of shape {}; expected one, or one per {}", op,
                   to_string(shape), to_string(matrix), rows ? "row" : "column");
    out.lanes_ = shape.size() == 1 ? lanes : shape[shape.size() - (rows ? 2 : 1)];
    return out;
  }

  bool given() const { return values_.data != nullptr; }
  // Of lane `lane` of matrix `matrix` of the operand.
  double at(int64_t matrix, int64_t lane) const {
    const int64_t base = own_.empty() ? 0 : batch_index(own_, all_, matrix) * lanes_;
    return get_double(values_.dtype, values_.data, base + (lanes_ == 1 ? 0 : lane));
  }
  double or_zero(int64_t matrix, int64_t lane) const { return given() ? at(matrix, lane) : 0; }

 private:
  Operand values_;
  std::span<const int64_t> own_, all_;
  int64_t lanes_ = 1;
};

// One multiplication with its operands: batch of [m, k] * [k, n], 1-D operands promoted.
struct Product {
  Operand a, b;
  Lanes a_zero, b_zero;
  std::span<const int64_t> a_batch, b_batch, batch;
  int64_t matrices = 1, m = 1, n = 1, k = 0;

  static Result<Product> make(const Operand& a, const Operand& b, const Operand* a_zero, const Operand* b_zero,
                              std::span<const int64_t> y, std::string_view op) {
    Product p;
    p.a = a, p.b = b;
    const size_t rank_a = a.shape.size(), rank_b = b.shape.size();
    p.k = a.shape.back();
    if (rank_a > 1) p.m = a.shape[rank_a - 2], p.a_batch = a.shape.first(rank_a - 2);
    if (rank_b > 1) p.n = b.shape.back(), p.b_batch = b.shape.first(rank_b - 2);
    p.batch = y.first(y.size() - (rank_a > 1) - (rank_b > 1));
    p.matrices = element_count(p.batch);
    if (a_zero) {
      OCIOR_ASSIGN(p.a_zero, Lanes::make(*a_zero, a.shape, true, op));
    }
    if (b_zero) {
      OCIOR_ASSIGN(p.b_zero, Lanes::make(*b_zero, b.shape, false, op));
    }
    return p;
  }
  int64_t a_matrix(int64_t i) const { return batch_index(a_batch, batch, i); }
  int64_t b_matrix(int64_t i) const { return batch_index(b_batch, batch, i); }
};

// Element by element: `finish(matrix, row, column, sum)` takes each sum, of C (uint32_t: wrapping; or double).
template <class C, class F>
void multiply_plainly(const Product& p, F&& finish) {
  for (int64_t i = 0; i < p.matrices; ++i) {
    const int64_t a_matrix = p.a_matrix(i), b_matrix = p.b_matrix(i);
    for (int64_t row = 0; row < p.m; ++row)
      for (int64_t column = 0; column < p.n; ++column) {
        C sum = 0;
        const double a_zero = p.a_zero.or_zero(a_matrix, row), b_zero = p.b_zero.or_zero(b_matrix, column);
        for (int64_t t = 0; t < p.k; ++t) {
          const double x = get_double(p.a.dtype, p.a.data, (a_matrix * p.m + row) * p.k + t) - a_zero;
          const double z = get_double(p.b.dtype, p.b.data, (b_matrix * p.k + t) * p.n + column) - b_zero;
          if constexpr (std::is_same_v<C, double>) sum += x * z;
          else sum += static_cast<uint32_t>(static_cast<int32_t>(x * z));
        }
        finish(i, row, column, sum);
      }
  }
}

constexpr int64_t kRows = 128, kColumns = 128, kDepth = 256;  // of a tile

// A worker's memory.
struct Tile {
  float *a, *b, *c;
  int32_t* sums;  // [kRows, kColumns], dense rows of the tile's own width
  std::byte *a_packed, *b_packed;

  static size_t a_packed_bytes(const KernelTable& kernels, int64_t m, int64_t n, int64_t k) {
    size_t most = 0;
    for (const int64_t rows : {std::min(m, kRows), m % kRows})
      for (const int64_t columns : {std::min(n, kColumns), n % kColumns})
        for (const int64_t depth : {std::min(k, kDepth), k % kDepth})
          most = std::max(most, kernels.gemm_a_bytes(rows, columns, depth, Precision::kHighest));
    return most;
  }
  static size_t b_packed_bytes(const KernelTable& kernels, int64_t n, int64_t k) {
    size_t most = 0;
    for (const int64_t columns : {std::min(n, kColumns), n % kColumns})
      for (const int64_t depth : {std::min(k, kDepth), k % kDepth})
        most = std::max(most, kernels.gemm_b_bytes(columns, depth, Precision::kHighest));
    return most;
  }
  static Tile carve(nn::Carver& carver, const KernelTable& kernels, int64_t m, int64_t n, int64_t k) {
    Tile t{};
    const auto rows = static_cast<size_t>(std::min(m, kRows)), columns = static_cast<size_t>(std::min(n, kColumns));
    const auto depth = static_cast<size_t>(std::min(k, kDepth));
    t.a = carver.take<float>(rows * depth);
    t.b = carver.take<float>(depth * columns);
    t.c = carver.take<float>(rows * columns);
    t.sums = carver.take<int32_t>(rows * columns);
    t.a_packed = carver.take(a_packed_bytes(kernels, m, n, k));
    t.b_packed = carver.take(b_packed_bytes(kernels, n, k));
    return t;
  }
};

template <class T>
void centre_rows(const T* x, int64_t ld, const float* zero, float* y, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    const auto z = static_cast<int32_t>(zero[i]);
    for (int64_t j = 0; j < columns; ++j) y[i * columns + j] = static_cast<float>(static_cast<int32_t>(x[i * ld + j]) - z);
  }
}
template <class T>
void centre_columns(const T* x, int64_t ld, const float* zero, float* y, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) y[i * columns + j] = static_cast<float>(x[i * ld + j]) - zero[j];
}

// The sums of rows [row, row + rows) and columns [column, column + columns) of matrix i into t.sums.
void multiply_tile(const KernelTable& kernels, const Product& p, int64_t i, int64_t row, int64_t rows, int64_t column,
                   int64_t columns, const Tile& t) {
  const int64_t a_matrix = p.a_matrix(i), b_matrix = p.b_matrix(i);
  float a_zero[kRows], b_zero[kColumns];
  for (int64_t r = 0; r < rows; ++r) a_zero[r] = static_cast<float>(p.a_zero.or_zero(a_matrix, row + r));
  for (int64_t j = 0; j < columns; ++j) b_zero[j] = static_cast<float>(p.b_zero.or_zero(b_matrix, column + j));
  std::fill(t.sums, t.sums + rows * columns, 0);
  for (int64_t k = 0; k < p.k; k += kDepth) {
    const int64_t depth = std::min(kDepth, p.k - k);
    const int64_t a_at = (a_matrix * p.m + row) * p.k + k, b_at = (b_matrix * p.k + k) * p.n + column;
    if (p.a.dtype == DType::kInt8) centre_rows(static_cast<const int8_t*>(p.a.data) + a_at, p.k, a_zero, t.a, rows, depth);
    else centre_rows(static_cast<const uint8_t*>(p.a.data) + a_at, p.k, a_zero, t.a, rows, depth);
    if (p.b.dtype == DType::kInt8) centre_columns(static_cast<const int8_t*>(p.b.data) + b_at, p.n, b_zero, t.b, depth, columns);
    else centre_columns(static_cast<const uint8_t*>(p.b.data) + b_at, p.n, b_zero, t.b, depth, columns);
    GemmArgs args{.a = t.a, .lda = depth, .b = t.b_packed, .c = t.c, .ldc = columns, .m = rows, .n = columns, .k = depth};
    if (kernels.gemm_a_bytes(rows, columns, depth, args.precision)) args.a_packed = t.a_packed;
    kernels.gemm_pack_b(t.b, columns, false, columns, depth, 0, columns, args.precision, t.b_packed);
    if (args.a_packed) kernels.gemm_pack_a(args, 0, rows);
    const GemmGrid grid = kernels.gemm_grid(rows, columns, depth, args.precision);
    for (int64_t chunk = 0; chunk < grid.m_chunks * grid.n_chunks; ++chunk)
      kernels.gemm_chunk(args, grid, chunk % grid.m_chunks, chunk / grid.m_chunks);
    for (int64_t at = 0; at < rows * columns; ++at)
      t.sums[at] = static_cast<int32_t>(static_cast<uint32_t>(t.sums[at]) + static_cast<uint32_t>(static_cast<int32_t>(t.c[at])));
  }
}

size_t tile_scratch(const BindContext& c, int a, int b) {
  if (c.out(0).count() == 0) return 0;
  const std::span<const int64_t> x = c.in(a).shape, z = c.in(b).shape;
  nn::Carver carver;
  Tile::carve(carver, c.kernels(), x.size() > 1 ? x[x.size() - 2] : 1, z.size() > 1 ? z.back() : 1, x.back());
  return carver.used() * static_cast<size_t>(std::max(1, c.workers()));
}

// All tiles over the team: `finish(matrix, row, rows, column, columns, sums)` takes each.
template <class F>
void multiply_by_tiles(CpuContext& c, const Product& p, F&& finish) {
  const KernelTable& kernels = c.kernels();
  nn::Carver counter;
  Tile::carve(counter, kernels, p.m, p.n, p.k);
  const int64_t across = nn::chunks_of(p.n, kColumns), down = nn::chunks_of(p.m, kRows);
  c.team().parallel_for(p.matrices * across * down, c.stop(), [&](int64_t task, int worker) {
    nn::Carver carver(static_cast<std::byte*>(c.scratch()) + static_cast<size_t>(worker) * counter.used());
    const Tile tile = Tile::carve(carver, kernels, p.m, p.n, p.k);
    const int64_t i = task / (across * down), row = task / across % down * kRows, column = task % across * kColumns;
    const int64_t rows = std::min(kRows, p.m - row), columns = std::min(kColumns, p.n - column);
    multiply_tile(kernels, p, i, row, rows, column, columns, tile);
    finish(i, row, rows, column, columns, tile.sums);
  });
}

// The output's shape, as MatMul has it.
Status infer_product(ShapeContext& c, int ia, int ib, DType dtype, std::string_view op) {
  c.set(0, dtype, std::nullopt);
  if (!ranked(c, ia) || !ranked(c, ib)) return {};
  const Dims &a = *c.shape(ia), &b = *c.shape(ib);
  if (a.empty() || b.empty())
    return error(Code::kInvalidGraph, "{} needs operands of rank 1 or more, got {} and {}", op, to_string(a), to_string(b));
  const Dim ka = a.back(), kb = b.size() > 1 ? b[b.size() - 2] : b[0];
  if (!nn::may_equal(ka, kb))
    return error(Code::kInvalidArgument, "{} of {} and {}: the inner dimensions {} and {} differ", op, to_string(a), to_string(b),
                 ka.text(), kb.text());
  OCIOR_ASSIGN(Dims out, broadcast(c, Dims(a.begin(), a.end() - std::min<ptrdiff_t>(2, std::ssize(a))),
                                   Dims(b.begin(), b.end() - std::min<ptrdiff_t>(2, std::ssize(b)))));
  if (a.size() > 1) out.push_back(a[a.size() - 2]);
  if (b.size() > 1) out.push_back(b.back());
  c.set(0, dtype, std::move(out));
  return {};
}

// Zero points or scales in input i of the operand in input `of`, once both shapes are numbers.
Status check_lanes(ShapeContext& c, int i, int of, bool rows, std::string_view op) {
  if (!c.has(i) || !ranked(c, i) || !ranked(c, of)) return {};
  const auto shape = known_shape(*c.shape(i)), matrix = known_shape(*c.shape(of));
  if (!shape || !matrix) return {};
  Operand values;
  values.shape = *shape;
  return Lanes::make(values, *matrix, rows, op).status();
}

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

  size_t scratch(const BindContext& c) const { return tile_scratch(c, 0, 1); }
  double work(const BindContext& c) const { return product_work(c, 0); }

  Status run(CpuContext& c) const {
    if (c.out(0).count() == 0) return {};
    OCIOR_ASSIGN(const Product p, product(c, c.out(0).shape));
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
      parts.store(y.dtype(), y.data(), (i * parts.product.m + row) * parts.product.n + column, sum, parts.a_scale_at(i, row),
                  parts.b_scale_at(i, column));
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

  size_t scratch(const BindContext& c) const { return tile_scratch(c, kA, kB); }
  double work(const BindContext& c) const { return product_work(c, kA); }

  Status run(CpuContext& c) const {
    const TensorView& y = c.out(0);
    if (y.count() == 0) return {};
    OCIOR_ASSIGN(const Parts parts, split(c, y.shape));
    if (!parts.integers()) return run_by_reference(*this, c);
    const Product& p = parts.product;
    multiply_by_tiles(c, p, [&](int64_t i, int64_t row, int64_t rows, int64_t column, int64_t columns, const int32_t* sums) {
      double b_scale[kColumns];
      for (int64_t j = 0; j < columns; ++j) b_scale[j] = parts.b_scale_at(i, column + j);
      for (int64_t r = 0; r < rows; ++r) {
        const double a_scale = parts.a_scale_at(i, row + r);
        for (int64_t j = 0; j < columns; ++j)
          parts.store(y.dtype, y.data, (i * p.m + row + r) * p.n + column + j, sums[r * columns + j], a_scale, b_scale[j]);
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

    void store(DType t, void* y, int64_t at, double sum, double a, double b) const {
      const double scale = quant::rounded(scale_type, quant::rounded(scale_type, a * b) / y_scale);
      const double v = static_cast<float>(static_cast<float>(sum) * scale);
      if (t == DType::kUint8)
        static_cast<uint8_t*>(y)[at] = static_cast<uint8_t>(quant::saturated(std::nearbyint(v) + y_zero, {0, 255}));
      else if (t == DType::kInt8)
        static_cast<int8_t*>(y)[at] = static_cast<int8_t>(quant::saturated(std::nearbyint(v) + y_zero, {-128, 127}));
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
