#include "ops/nn/gemm_driver.h"

#include "ops/nn/numeric.h"

namespace ocior::ops::nn {
namespace {

constexpr int64_t kPackElements = 1 << 17;        // of one chunk of packing: well below 1 ms
constexpr int64_t kLowerPrecisionK = 64;          // `high` and `medium` begin at this k ...
constexpr int64_t kLowerPrecisionWork = 1 << 18;  // ... and at this m * n * k

// a * b >= bound for non-negative a, b.
bool at_least(int64_t a, int64_t b, int64_t bound) {
  int64_t product;
  return __builtin_mul_overflow(a, b, &product) || product >= bound;
}

int64_t columns_per_chunk(const KernelTable& kernels, int64_t k, Precision precision) {
  const int64_t panel = kernels.gemm_panel(precision);
  return panel * std::max<int64_t>(1, kPackElements / (panel * std::max<int64_t>(1, k)));
}

void pack_columns(const KernelTable& kernels, const Plain& b, int64_t n, int64_t k, int64_t columns, Precision precision,
                  int64_t chunk, void* packed) {
  const int64_t begin = chunk * columns;
  kernels.gemm_pack_b(b.data, b.ld, b.transposed, n, k, begin, std::min(n, begin + columns), precision, packed);
}

// Every product of the batch on the calling thread, in its own scratch.
void multiply_alone(const KernelTable& kernels, const StopWord* stop, const GemmArgs& args, const Plain& plain, void* packed_b) {
  kernels.gemm_pack_b(plain.data, plain.ld, plain.transposed, args.n, args.k, 0, args.n, args.precision, packed_b);
  if (args.a_packed) kernels.gemm_pack_a(args, 0, args.m);
  const GemmGrid grid = kernels.gemm_grid(args.m, args.n, args.k, args.precision);
  for (int64_t j = 0; j < grid.n_chunks; ++j)
    for (int64_t i = 0; i < grid.m_chunks; ++i) {
      if (stop && stop->requested()) return;
      kernels.gemm_chunk(args, grid, i, j);
    }
}

// Products are small or many: a worker computes whole ones. Else all workers share each.
bool is_small(int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kSmall = 1 << 20;
  return !at_least(m * n, k, kSmall) && !at_least(n, k, kSmall);
}
bool one_worker_each(int workers, int64_t batch, int64_t m, int64_t n, int64_t k) {
  return workers > 1 && batch > 1 && (is_small(m, n, k) || batch >= 4 * workers);
}

}  // namespace

std::string_view name_of(Precision precision) {
  switch (precision) {
    case Precision::kHighest: return "highest";
    case Precision::kHigh: return "high";
    case Precision::kMedium: return "medium";
  }
  return "?";
}

Precision product_precision(Precision wanted, int64_t m, int64_t n, int64_t k) {
  int64_t rows;
  const bool large = __builtin_mul_overflow(m, n, &rows) || at_least(rows, k, kLowerPrecisionWork);
  return k >= kLowerPrecisionK && large ? wanted : Precision::kHighest;
}

void Weights::fill(const void* context, void* packed, int64_t chunk) {
  const Form& f = *static_cast<const Form*>(context);
  pack_columns(*f.kernels, f.plain, f.n, f.k, f.columns, f.precision, chunk, packed);
}

void Weights::add(PrepareContext& c, const Plain& plain, int64_t n, int64_t k, Precision precision) {
  const KernelTable& kernels = c.kernels();
  Form& f = forms_[form_count_++];
  f = {&kernels, plain, n, k, columns_per_chunk(kernels, k, precision), precision, nullptr};
  const std::string form = fmt::format("gemm_b {} {}x{}{}", name_of(precision), k, n, plain.transposed ? " transposed" : "");
  if (const size_t bytes = kernels.gemm_b_bytes(n, k, precision))
    f.packed = c.pack(form, bytes, chunks_of(n, f.columns), &Weights::fill, &f);
}

std::unique_ptr<Prepared> Weights::make(PrepareContext& c, int i, const Plain& plain, int64_t m, int64_t n, int64_t k) {
  auto weights = pack(c, plain, m, n, k);
  c.release(i);
  return weights;
}

std::unique_ptr<Weights> Weights::pack(PrepareContext& c, const Plain& plain, int64_t m, int64_t n, int64_t k) {
  auto weights = std::make_unique<Weights>();
  weights->n_ = n, weights->k_ = k, weights->wanted_ = c.precision();
  const Precision fewest = product_precision(c.precision(), m < 0 ? 1 : m, n, k);
  const Precision most = m < 0 ? product_precision(c.precision(), INT64_MAX, n, k) : fewest;
  weights->add(c, plain, n, k, fewest);
  if (most != fewest) weights->add(c, plain, n, k, most);
  return weights;
}

Precision Weights::precision(int64_t m) const {
  return form_count_ == 1 ? forms_[0].precision : product_precision(wanted_, m, n_, k_);
}

void Weights::choose(GemmArgs& args) const {
  args.precision = precision(args.m);
  for (int i = 0; i < form_count_; ++i)
    if (forms_[i].precision == args.precision) args.b = forms_[i].packed;
}

size_t packed_scratch(const KernelTable& kernels, const Prepared* weights, int64_t m, int64_t n, int64_t k) {
  return align64(kernels.gemm_a_bytes(m, n, k, weights_of(weights)->precision(m)));
}

size_t plain_scratch(const KernelTable& kernels, int workers, int64_t batch, int64_t m, int64_t n, int64_t k) {
  const Precision p = Precision::kHighest;
  const size_t one = align64(kernels.gemm_b_bytes(n, k, p)) + align64(kernels.gemm_a_bytes(m, n, k, p));
  // A run may have fewer workers than `workers`; whichever way it then goes, this is enough.
  const int64_t most = is_small(m, n, k) ? workers : std::min<int64_t>(workers, batch / 4);
  return one * static_cast<size_t>(std::max<int64_t>(1, most));
}

namespace {

// All workers share one product; args.b is packed.
void multiply(CpuContext& c, GemmArgs args, void* scratch) {
  const KernelTable& kernels = c.kernels();
  const GemmGrid grid = kernels.gemm_grid(args.m, args.n, args.k, args.precision);
  if (kernels.gemm_a_bytes(args.m, args.n, args.k, args.precision)) {
    args.a_packed = scratch;
    c.team().parallel_for(grid.m_chunks, c.stop(), [&](int64_t i, int) {
      kernels.gemm_pack_a(args, i * grid.m_step, std::min(args.m, (i + 1) * grid.m_step));
    });
  }
  // Column chunks outside: each worker streams its own part of the weights.
  c.team().parallel_for(grid.m_chunks * grid.n_chunks, c.stop(),
                        [&](int64_t i, int) { kernels.gemm_chunk(args, grid, i % grid.m_chunks, i / grid.m_chunks); });
}

class OneProduct final : public BatchOperands {
 public:
  OneProduct(const GemmArgs& args, const Plain& plain) : args_(args), plain_(plain) {}
  void get(int64_t, GemmArgs& args, Plain& plain) const override {
    args.a = args_.a, args.lda = args_.lda, args.c = args_.c, args.ldc = args_.ldc, args.epilogue = args_.epilogue;
    plain = plain_;
  }

 private:
  const GemmArgs& args_;
  const Plain& plain_;
};

}  // namespace

void multiply_packed(CpuContext& c, GemmArgs args, void* scratch) { multiply_with(c, *weights_of(c.prepared()), args, scratch); }

void multiply_with(CpuContext& c, const Weights& weights, GemmArgs args, void* scratch) {
  if (args.m == 0 || args.n == 0) return;
  weights.choose(args);
  multiply(c, args, scratch);
}

void multiply_plain(CpuContext& c, const GemmArgs& args, const Plain& plain, void* scratch) {
  multiply_plain(c, 1, args.m, args.n, args.k, OneProduct(args, plain), scratch);
}

void multiply_plain(CpuContext& c, int64_t batch, int64_t m, int64_t n, int64_t k, const BatchOperands& operands, void* scratch) {
  if (batch == 0 || m == 0 || n == 0) return;
  const KernelTable& kernels = c.kernels();
  const Precision p = Precision::kHighest;
  const size_t b_bytes = align64(kernels.gemm_b_bytes(n, k, p)), a_bytes = align64(kernels.gemm_a_bytes(m, n, k, p));
  const auto product = [&](int64_t i, std::byte* piece, Plain& plain) {
    GemmArgs args;
    args.m = m, args.n = n, args.k = k, args.precision = p;
    args.b = piece;
    args.a_packed = a_bytes ? piece + b_bytes : nullptr;
    operands.get(i, args, plain);
    return args;
  };
  auto* base = static_cast<std::byte*>(scratch);
  if (one_worker_each(c.team().size(), batch, m, n, k)) {
    c.team().parallel_for(batch, c.stop(), [&](int64_t i, int worker) {
      std::byte* piece = base + static_cast<size_t>(worker) * (a_bytes + b_bytes);
      Plain plain;
      const GemmArgs args = product(i, piece, plain);
      multiply_alone(kernels, c.stop(), args, plain, piece);
    });
    return;
  }
  const int64_t columns = columns_per_chunk(kernels, k, p);
  for (int64_t i = 0; i < batch && !(c.stop() && c.stop()->requested()); ++i) {
    Plain plain;
    const GemmArgs args = product(i, base, plain);
    c.team().parallel_for(chunks_of(n, columns), c.stop(),
                          [&](int64_t chunk, int) { pack_columns(kernels, plain, n, k, columns, p, chunk, base); });
    multiply(c, args, base + b_bytes);
  }
}

int64_t known_rows(const Type& a) {
  if (!a.shape) return -1;
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < a.shape->size(); ++i)
    if (!(*a.shape)[i].known() || __builtin_mul_overflow(rows, (*a.shape)[i].value(), &rows)) return -1;
  return rows;
}

std::string Weights::describe() const {
  if (form_count_ == 1) return fmt::format("packed weights, {}", name_of(forms_[0].precision));
  return fmt::format("packed weights, {} from {} multiply-adds on, else {}", name_of(forms_[1].precision), kLowerPrecisionWork,
                     name_of(forms_[0].precision));
}

std::string describe_product(const Prepared* weights) {
  return weights ? weights_of(weights)->describe() : "right operand packed by each run, highest";
}

}  // namespace ocior::ops::nn
