// Products of 8-bit matrices with exact sums that wrap around in 32 bits: the operands with their zero points, an obvious way for
// references, and a fast one over tiles for runs, whose constant right operands are packed once. Thread-safe.
#pragma once

#include "ops/nn/numeric.h"
#include "ops/quant/scale.h"

namespace ocior::ops::quant {

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
int64_t batch_index(std::span<const int64_t> own, std::span<const int64_t> all, int64_t index);

// Zero points or scales: one, one per row of a (shape [m] or [..., m, 1]), or one per column of b ([n] or [..., 1, n]).
class Lanes {
 public:
  // `matrix`: the operand's shape; `lanes`: its rows or columns.
  static Result<Lanes> make(const Operand& values, std::span<const int64_t> matrix, bool rows, std::string_view op);

  bool given() const { return values_.data != nullptr; }
  bool single() const { return lanes_ == 1 && own_.empty(); }
  // Of lane `lane` of matrix `matrix` of the operand.
  double at(int64_t matrix, int64_t lane) const {
    const int64_t base = own_.empty() ? 0 : batch_index(own_, all_, matrix) * lanes_;
    return get_double(values_.dtype, values_.data, base + (lanes_ == 1 ? 0 : lane));
  }
  double or_zero(int64_t matrix, int64_t lane) const { return given() ? at(matrix, lane) : 0; }
  // Of lanes [first, first + n) of matrix `matrix`, bytes: each less `centre`. Returns whether one is not 0.
  bool zeros(int64_t matrix, int64_t first, int64_t n, int32_t centre, int32_t* to) const;

 private:
  Operand values_;
  std::span<const int64_t> own_, all_;
  int64_t lanes_ = 1;
};

// One multiplication with its operands: batch of [m, k] * [k, n], 1-D operands promoted.
struct Product {
  Operand a, b;
  bool b_transposed = false;  // b's bytes are those of [n, k]; its shape is that of [k, n]
  Lanes a_zero, b_zero;
  std::span<const int64_t> a_batch, b_batch, batch;
  int64_t matrices = 1, m = 1, n = 1, k = 0;
  int64_t a_rows = 0;  // of all of a's matrices

  static Result<Product> make(const Operand& a, const Operand& b, const Operand* a_zero, const Operand* b_zero,
                              std::span<const int64_t> y, std::string_view op);
  int64_t a_matrix(int64_t i) const { return batch_index(a_batch, batch, i); }
  int64_t b_matrix(int64_t i) const { return batch_index(b_batch, batch, i); }
  // One matrix of all rows, where one right matrix and one zero point serve them all.
  void join_rows();
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
          const double z =
              get_double(p.b.dtype, p.b.data, b_matrix * p.k * p.n + (p.b_transposed ? column * p.k + t : t * p.n + column)) -
              b_zero;
          if constexpr (std::is_same_v<C, double>) sum += x * z;
          else sum += static_cast<uint32_t>(static_cast<int32_t>(x * z));
        }
        finish(i, row, column, sum);
      }
  }
}

// A constant right operand in the kernel's form.
class PackedBytes final : public Prepared {
 public:
  // Asks `c` to pack constant input `i`, one matrix of bytes of shape [k, n] (or [k], or [n, k] when transposed), and releases
  // its plain bytes. Null where it is something else.
  static std::unique_ptr<Prepared> make(PrepareContext& c, int i, bool transposed = false);
  const int8_t* data() const { return packed_; }

 private:
  static void fill(const void* context, void* destination, int64_t chunk);

  const KernelTable* kernels_ = nullptr;
  const uint8_t* plain_ = nullptr;
  bool transposed_ = false;
  uint8_t flip_ = 0;
  int64_t n_ = 0, k_ = 0, columns_ = 0;  // columns: of one chunk of packing
  const int8_t* packed_ = nullptr;
};

// What packing does to the bits of a right operand's bytes, and what it takes off their values thereby.
constexpr uint8_t flip_of(DType b) { return b == DType::kUint8 ? 0x80 : 0; }
constexpr int32_t centre_of(DType b) { return b == DType::kUint8 ? 128 : 0; }

inline constexpr int64_t kRows = 96, kColumns = 256;  // of the largest tile

// How products are cut into tiles, and where their operands lie in a run's scratch: every row of the left ones widened, and the
// right ones packed unless they are already.
struct Plan {
  int64_t rows = 0, columns = 0;  // of a tile, but for the last ones
  int64_t lda = 0;
  size_t b_bytes = 0, shared_bytes = 0, worker_bytes = 0;
  int16_t* a = nullptr;
  int32_t* a_sums = nullptr;
  int8_t* b = nullptr;  // null where it is packed
  std::byte* workers = nullptr;

  // `a_rows` rows of left operands and `b_matrices` right ones. A null `scratch` counts: total() bytes.
  Plan(const KernelTable& kernels, int64_t a_rows, int64_t b_matrices, int64_t m, int64_t n, int64_t k, bool packed,
       void* scratch);
  size_t total(int workers) const { return shared_bytes + worker_bytes * static_cast<size_t>(std::max(1, workers)); }
};

// Fills the plan's a, a_sums and b.
void pack_operands(CpuContext& c, const Product& p, const Plan& plan);
// The sums of rows [row, row + rows) and columns [column, column + columns) of matrix i, in the worker's memory. `packed`: null
// where the right operand is plain.
const int32_t* multiply_tile(const KernelTable& kernels, const Product& p, const Plan& plan, const PackedBytes* packed,
                             int worker, int64_t i, int64_t row, int64_t rows, int64_t column, int64_t columns);

// Scratch of multiply_by_tiles(): of operands in inputs a and b, and of one product [m, k] * [k, n].
size_t tile_scratch(const BindContext& c, int a, int b);
size_t tile_scratch(const BindContext& c, int64_t m, int64_t n, int64_t k);

// All tiles over the team, with the run's packed right operand if it has one: `finish(matrix, row, rows, column, columns, sums)`
// takes each. `scratch`: tile_scratch() bytes.
template <class F>
void multiply_by_tiles(CpuContext& c, const Product& p, F&& finish, void* scratch) {
  const auto* packed = static_cast<const PackedBytes*>(c.prepared());
  const Plan plan(c.kernels(), p.a_rows, element_count(p.b_batch), p.m, p.n, p.k, packed != nullptr, scratch);
  pack_operands(c, p, plan);
  const int64_t across = nn::chunks_of(p.n, plan.columns), down = nn::chunks_of(p.m, plan.rows);
  c.team().parallel_for(p.matrices * across * down, c.stop(), [&](int64_t task, int worker) {
    const int64_t i = task / (across * down), row = task % down * plan.rows, column = task / down % across * plan.columns;
    const int64_t rows = std::min(plan.rows, p.m - row), columns = std::min(plan.columns, p.n - column);
    finish(i, row, rows, column, columns, multiply_tile(c.kernels(), p, plan, packed, worker, i, row, rows, column, columns));
  });
}
// The same in the run's own scratch.
template <class F>
void multiply_by_tiles(CpuContext& c, const Product& p, F&& finish) {
  multiply_by_tiles(c, p, std::forward<F>(finish), c.scratch());
}

// infer(): output 0 as MatMul has it, for operands in inputs a and b.
Status infer_product(ShapeContext& c, int a, int b, DType dtype, std::string_view op);
// Checks the zero points or scales in input i of the operand in input `of`, once both shapes are numbers.
Status check_lanes(ShapeContext& c, int i, int of, bool rows, std::string_view op);

}  // namespace ocior::ops::quant
