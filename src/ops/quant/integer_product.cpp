// The float kernel multiplies: centred operands are at most 255, so that sums of 256 products stay below 2^24, where float is
// exact in any order; such partial sums are added in 32-bit integers.
#include "ops/quant/integer_product.h"

#include "ops/shapes.h"

namespace ocior::ops::quant {

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

Result<Lanes> Lanes::make(const Operand& values, std::span<const int64_t> matrix, bool rows, std::string_view op) {
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

Result<Product> Product::make(const Operand& a, const Operand& b, const Operand* a_zero, const Operand* b_zero,
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
namespace {

constexpr int64_t kFewRows = 4;

constexpr int32_t wrapped(uint32_t bits) { return static_cast<int32_t>(bits); }

size_t a_packed_bytes(const KernelTable& kernels, int64_t m, int64_t n, int64_t k) {
  size_t most = 0;
  for (const int64_t rows : {std::min(m, kRows), m % kRows})
    for (const int64_t columns : {std::min(n, kColumns), n % kColumns})
      for (const int64_t depth : {std::min(k, kDepth), k % kDepth})
        most = std::max(most, kernels.gemm_a_bytes(rows, columns, depth, Precision::kHighest));
  return most;
}
size_t b_packed_bytes(const KernelTable& kernels, int64_t n, int64_t k) {
  size_t most = 0;
  for (const int64_t columns : {std::min(n, kColumns), n % kColumns})
    for (const int64_t depth : {std::min(k, kDepth), k % kDepth})
      most = std::max(most, kernels.gemm_b_bytes(columns, depth, Precision::kHighest));
  return most;
}

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

// Rows [row, row + rows) of a tile, few of them: turning b into floats would cost more than the products. `x`: a row's block.
template <class B>
void add_products(const int16_t* x, const B* b, int64_t ld, int64_t depth, int64_t columns, int32_t* sums) {
  int32_t part[kColumns] = {};  // no sum of a block wraps
  int64_t t = 0;
  for (; t + 4 <= depth; t += 4) {
    const B *b0 = b + t * ld, *b1 = b0 + ld, *b2 = b1 + ld, *b3 = b2 + ld;
    const int16_t x0 = x[t], x1 = x[t + 1], x2 = x[t + 2], x3 = x[t + 3];
    for (int64_t j = 0; j < columns; ++j)
      part[j] += x0 * static_cast<int16_t>(b0[j]) + x1 * static_cast<int16_t>(b1[j]) + x2 * static_cast<int16_t>(b2[j]) +
                 x3 * static_cast<int16_t>(b3[j]);
  }
  for (; t < depth; ++t)
    for (int64_t j = 0; j < columns; ++j) part[j] += x[t] * static_cast<int16_t>(b[t * ld + j]);
  for (int64_t j = 0; j < columns; ++j) sums[j] = wrapped(static_cast<uint32_t>(sums[j]) + static_cast<uint32_t>(part[j]));
}

// b's zero points are taken off at the end: they count as often as the sum of a's row says.
template <class A, class B>
void multiply_rows(const Product& p, const A* a, const B* b, const float* a_zero, const float* b_zero, int64_t rows,
                   int64_t columns, int32_t* sums) {
  for (int64_t k = 0; k < p.k; k += kDepth) {
    const int64_t depth = std::min(kDepth, p.k - k);
    for (int64_t r = 0; r < rows; ++r) {
      int16_t x[kDepth];
      int32_t total = 0;
      const auto zero = static_cast<int32_t>(a_zero[r]);
      for (int64_t t = 0; t < depth; ++t) {
        x[t] = static_cast<int16_t>(a[r * p.k + k + t] - zero);
        total += x[t];
      }
      add_products(x, b + k * p.n, p.n, depth, columns, sums + r * columns);
      for (int64_t j = 0; j < columns; ++j)
        sums[r * columns + j] = wrapped(static_cast<uint32_t>(sums[r * columns + j]) -
                                        static_cast<uint32_t>(total) * static_cast<uint32_t>(static_cast<int32_t>(b_zero[j])));
    }
  }
}

// Calls f with the operand's bytes as int8_t or uint8_t.
template <class F>
void visit_bytes(const Operand& o, int64_t at, F&& f) {
  if (o.dtype == DType::kInt8) f(static_cast<const int8_t*>(o.data) + at);
  else f(static_cast<const uint8_t*>(o.data) + at);
}

}  // namespace

Tile Tile::carve(nn::Carver& carver, const KernelTable& kernels, int64_t m, int64_t n, int64_t k) {
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

void multiply_tile(const KernelTable& kernels, const Product& p, int64_t i, int64_t row, int64_t rows, int64_t column,
                   int64_t columns, const Tile& t) {
  const int64_t a_matrix = p.a_matrix(i), b_matrix = p.b_matrix(i);
  float a_zero[kRows], b_zero[kColumns];
  for (int64_t r = 0; r < rows; ++r) a_zero[r] = static_cast<float>(p.a_zero.or_zero(a_matrix, row + r));
  for (int64_t j = 0; j < columns; ++j) b_zero[j] = static_cast<float>(p.b_zero.or_zero(b_matrix, column + j));
  std::fill(t.sums, t.sums + rows * columns, 0);
  if (rows <= kFewRows) {
    visit_bytes(p.a, (a_matrix * p.m + row) * p.k, [&](const auto* a) {
      visit_bytes(p.b, b_matrix * p.k * p.n + column,
                  [&](const auto* b) { multiply_rows(p, a, b, a_zero, b_zero, rows, columns, t.sums); });
    });
    return;
  }
  for (int64_t k = 0; k < p.k; k += kDepth) {
    const int64_t depth = std::min(kDepth, p.k - k);
    const int64_t a_at = (a_matrix * p.m + row) * p.k + k, b_at = (b_matrix * p.k + k) * p.n + column;
    visit_bytes(p.a, a_at, [&](const auto* a) { centre_rows(a, p.k, a_zero, t.a, rows, depth); });
    visit_bytes(p.b, b_at, [&](const auto* b) { centre_columns(b, p.n, b_zero, t.b, depth, columns); });
    GemmArgs args{.a = t.a, .lda = depth, .b = t.b_packed, .c = t.c, .ldc = columns, .m = rows, .n = columns, .k = depth};
    if (kernels.gemm_a_bytes(rows, columns, depth, args.precision)) args.a_packed = t.a_packed;
    kernels.gemm_pack_b(t.b, columns, false, columns, depth, 0, columns, args.precision, t.b_packed);
    if (args.a_packed) kernels.gemm_pack_a(args, 0, rows);
    const GemmGrid grid = kernels.gemm_grid(rows, columns, depth, args.precision);
    for (int64_t chunk = 0; chunk < grid.m_chunks * grid.n_chunks; ++chunk)
      kernels.gemm_chunk(args, grid, chunk % grid.m_chunks, chunk / grid.m_chunks);
    for (int64_t at = 0; at < rows * columns; ++at)
      t.sums[at] = wrapped(static_cast<uint32_t>(t.sums[at]) + static_cast<uint32_t>(static_cast<int32_t>(t.c[at])));
  }
}

size_t tile_scratch(const BindContext& c, int a, int b) {
  if (c.out(0).count() == 0) return 0;
  const std::span<const int64_t> x = c.in(a).shape, z = c.in(b).shape;
  nn::Carver carver;
  Tile::carve(carver, c.kernels(), x.size() > 1 ? x[x.size() - 2] : 1, z.size() > 1 ? z.back() : 1, x.back());
  return carver.used() * static_cast<size_t>(std::max(1, c.workers()));
}

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

Status check_lanes(ShapeContext& c, int i, int of, bool rows, std::string_view op) {
  if (!c.has(i) || !ranked(c, i) || !ranked(c, of)) return {};
  const auto shape = known_shape(*c.shape(i)), matrix = known_shape(*c.shape(of));
  if (!shape || !matrix) return {};
  Operand values;
  values.shape = *shape;
  return Lanes::make(values, *matrix, rows, op).status();
}

}  // namespace ocior::ops::quant
