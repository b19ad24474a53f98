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
  p.matrices = element_count(p.batch), p.a_rows = element_count(p.a_batch) * p.m;
  if (a_zero) {
    OCIOR_ASSIGN(p.a_zero, Lanes::make(*a_zero, a.shape, true, op));
  }
  if (b_zero) {
    OCIOR_ASSIGN(p.b_zero, Lanes::make(*b_zero, b.shape, false, op));
  }
  return p;
}

void Product::join_rows() {
  const bool serves_all =
      element_count(b_batch) == 1 && element_count(a_batch) == matrices && (!a_zero.given() || a_zero.single());
  if (serves_all) m *= matrices, matrices = 1;
}

bool Lanes::zeros(int64_t matrix, int64_t first, int64_t n, int32_t centre, int32_t* to) const {
  if (!given() || lanes_ == 1) {
    const auto zero = static_cast<int32_t>(or_zero(matrix, 0)) - centre;
    std::fill_n(to, n, zero);
    return zero != 0;
  }
  const int64_t base = (own_.empty() ? 0 : batch_index(own_, all_, matrix) * lanes_) + first;
  int32_t any = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint8_t byte = static_cast<const uint8_t*>(values_.data)[base + i];
    to[i] = (values_.dtype == DType::kInt8 ? static_cast<int32_t>(static_cast<int8_t>(byte)) : byte) - centre;
    any |= to[i];
  }
  return any != 0;
}

namespace {

// Columns of one chunk of packing: well below 1 ms.
int64_t columns_per_chunk(const KernelTable& kernels, int64_t k) {
  constexpr int64_t kPackBytes = 1 << 18;
  const int64_t step = 4 * kernels.gemm_i8_panel();
  return step * std::max<int64_t>(1, kPackBytes / (step * std::max<int64_t>(1, k)));
}

}  // namespace

std::unique_ptr<Prepared> PackedBytes::make(PrepareContext& c, int i, bool transposed) {
  const Tensor* b = c.constant(i);
  if (!b || !b->dense() || b->rank() == 0 || (b->dtype() != DType::kInt8 && b->dtype() != DType::kUint8)) return nullptr;
  const Shape& shape = b->shape();
  const int64_t columns = shape.size() > 1 ? shape.back() : 1, rows = shape.size() > 1 ? shape[shape.size() - 2] : shape[0];
  if (b->count() != rows * columns || b->count() == 0) return nullptr;
  auto out = std::make_unique<PackedBytes>();
  out->kernels_ = &c.kernels(), out->plain_ = b->as<uint8_t>(), out->transposed_ = transposed, out->flip_ = flip_of(b->dtype());
  out->n_ = transposed ? rows : columns, out->k_ = transposed ? columns : rows;
  out->columns_ = columns_per_chunk(c.kernels(), out->k_);
  const std::string form =
      fmt::format("gemm_i8 {}x{}{}{}", out->k_, out->n_, transposed ? " transposed" : "", out->flip_ ? " u8" : "");
  out->packed_ = static_cast<const int8_t*>(c.pack(form, c.kernels().gemm_i8_b_bytes(out->n_, out->k_),
                                                   nn::chunks_of(out->n_, out->columns_), &PackedBytes::fill, out.get()));
  if (!out->packed_) return nullptr;
  c.release(i);
  return out;
}

void PackedBytes::fill(const void* context, void* destination, int64_t chunk) {
  const auto& f = *static_cast<const PackedBytes*>(context);
  const int64_t begin = chunk * f.columns_;
  f.kernels_->gemm_i8_pack_b(f.plain_, f.transposed_ ? f.k_ : f.n_, f.transposed_, f.flip_, f.n_, f.k_, begin,
                             std::min(f.n_, begin + f.columns_), static_cast<int8_t*>(destination));
}

Plan::Plan(const KernelTable& kernels, int64_t a_rows, int64_t b_matrices, int64_t m, int64_t n, int64_t k, bool packed,
           void* scratch) {
  constexpr int64_t kWork = 1 << 26, kRowUnit = 12;  // multiply-adds of a tile: below 1 ms; a multiple of every kernel's rows
  const int64_t panel = kernels.gemm_i8_panel(), work = kWork / std::max<int64_t>(1, k);
  rows = std::min(m, std::clamp(work / kColumns / kRowUnit * kRowUnit, kRowUnit, kRows));
  columns = std::min((n + panel - 1) / panel * panel, std::clamp(work / kRowUnit / panel * panel, panel, kColumns));
  lda = (k + 1) / 2 * 2 + 32;  // rows of one place in all do not meet in L1
  b_bytes = packed ? 0 : nn::align64(kernels.gemm_i8_b_bytes(n, k));
  nn::Carver carver(scratch);
  a = carver.take<int16_t>(static_cast<size_t>(a_rows * lda));
  a_sums = carver.take<int32_t>(static_cast<size_t>(a_rows));
  b = carver.take<int8_t>(static_cast<size_t>(b_matrices) * b_bytes);
  shared_bytes = carver.used();
  workers = carver.take(0);
  nn::Carver worker;
  worker.take<int32_t>(static_cast<size_t>(columns)), worker.take<int32_t>(static_cast<size_t>(rows * columns));
  worker_bytes = worker.used();
}

void pack_operands(CpuContext& c, const Product& p, const Plan& plan) {
  const KernelTable& kernels = c.kernels();
  nn::parallel_rows(c, p.a_rows, p.k, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row)
      kernels.gemm_i8_pack_row(static_cast<const uint8_t*>(p.a.data) + row * p.k, p.a.dtype == DType::kInt8,
                               static_cast<int32_t>(p.a_zero.or_zero(row / p.m, row % p.m)), p.k, plan.a + row * plan.lda,
                               plan.a_sums + row);
  });
  if (plan.b_bytes == 0) return;
  const int64_t step = columns_per_chunk(kernels, p.k), each = nn::chunks_of(p.n, step);
  c.team().parallel_for(element_count(p.b_batch) * each, c.stop(), [&](int64_t task, int) {
    const int64_t matrix = task / each, begin = task % each * step;
    kernels.gemm_i8_pack_b(static_cast<const uint8_t*>(p.b.data) + matrix * p.k * p.n, p.b_transposed ? p.k : p.n, p.b_transposed,
                           flip_of(p.b.dtype), p.n, p.k, begin, std::min(p.n, begin + step),
                           plan.b + static_cast<size_t>(matrix) * plan.b_bytes);
  });
}

const int32_t* multiply_tile(const KernelTable& kernels, const Product& p, const Plan& plan, const PackedBytes* packed,
                             int worker, int64_t i, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  nn::Carver carver(plan.workers + static_cast<size_t>(worker) * plan.worker_bytes);
  auto* zeros = carver.take<int32_t>(static_cast<size_t>(plan.columns));
  auto* sums = carver.take<int32_t>(static_cast<size_t>(plan.rows * plan.columns));
  const int64_t b_matrix = p.b_matrix(i), from = p.a_matrix(i) * p.m + row;
  ByteGemmArgs args;
  args.a = plan.a + from * plan.lda, args.lda = plan.lda, args.a_sums = plan.a_sums + from;
  args.b = packed ? packed->data() : plan.b + static_cast<size_t>(b_matrix) * plan.b_bytes;
  args.b_zero = p.b_zero.zeros(b_matrix, column, columns, centre_of(p.b.dtype), zeros) ? zeros : nullptr;
  args.c = sums, args.ldc = columns;
  args.m = rows, args.k = p.k;
  kernels.gemm_i8(args, column, column + columns);
  return sums;
}

size_t tile_scratch(const BindContext& c, int64_t m, int64_t n, int64_t k) {
  return Plan(c.kernels(), m, 1, m, n, k, c.prepared() != nullptr, nullptr).total(c.workers());
}

size_t tile_scratch(const BindContext& c, int a, int b) {
  if (c.out(0).count() == 0) return 0;
  const std::span<const int64_t> x = c.in(a).shape, z = c.in(b).shape;
  const int64_t rows = element_count(x.first(x.size() - 1)), n = z.size() > 1 ? z.back() : 1;
  const int64_t matrices = z.size() > 2 ? element_count(z.first(z.size() - 2)) : 1;
  return Plan(c.kernels(), rows, matrices, rows, n, x.back(), c.prepared() != nullptr, nullptr).total(c.workers());
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
