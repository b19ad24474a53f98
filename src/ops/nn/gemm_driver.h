// How every matrix product of the CPU is driven: weights packed once at load, other right operands packed into scratch by each
// run, rows packed when the kernel asks for it, chunks spread over the run's workers. Internal to src/ops/nn; thread-safe.
#pragma once

#include <string>

#include "base/pool.h"
#include "ops/operator.h"

namespace ocior::ops::nn {

// The precision that a product with a constant right operand gets: `high` and `medium` where k >= 64 and m*n*k >= 2^18.
Precision product_precision(Precision wanted, int64_t m, int64_t n, int64_t k);
std::string_view name_of(Precision precision);

// A plain right operand: [k, n] with row stride ld, or [n, k] with row stride ld when transposed.
struct Plain {
  const float* data = nullptr;
  int64_t ld = 0;
  bool transposed = false;
};

// A constant right operand in the kernels' form. A small one whose row count is open may be there in two precisions.
class Weights final : public Prepared {
 public:
  // Asks `c` to pack input `i`, whose values are `plain`, and releases its plain bytes. m: rows of the product where known, else
  // -1.
  static std::unique_ptr<Prepared> make(PrepareContext& c, int i, const Plain& plain, int64_t m, int64_t n, int64_t k);
  // The same without releasing anything: for an input that holds several matrices.
  static std::unique_ptr<Weights> pack(PrepareContext& c, const Plain& plain, int64_t m, int64_t n, int64_t k);

  // What a product of m rows computes with: sets b and precision of `args`.
  void choose(GemmArgs& args) const;
  Precision precision(int64_t m) const;
  std::string describe() const;

 private:
  struct Form {
    const KernelTable* kernels = nullptr;
    Plain plain;
    int64_t n = 0, k = 0, columns = 0;  // columns: of one chunk of packing
    Precision precision = Precision::kHighest;
    const void* packed = nullptr;
  };
  static void fill(const void* form, void* packed, int64_t chunk);
  void add(PrepareContext& c, const Plain& plain, int64_t n, int64_t k, Precision precision);

  int64_t n_ = 0, k_ = 0;
  Precision wanted_ = Precision::kHighest;
  Form forms_[2];
  int form_count_ = 0;
};

// The weights a run was prepared with, or null.
inline const Weights* weights_of(const Prepared* prepared) { return static_cast<const Weights*>(prepared); }

// Scratch of products [m, k] * [k, n]: with packed weights, and `batch` ones with plain right operands.
size_t packed_scratch(const KernelTable& kernels, const Prepared* weights, int64_t m, int64_t n, int64_t k);
size_t plain_scratch(const KernelTable& kernels, int workers, int64_t batch, int64_t m, int64_t n, int64_t k);

// One product with the run's packed weights. Scratch: packed_scratch() bytes.
void multiply_packed(CpuContext& c, GemmArgs args, void* scratch);
// One product with `weights`. Scratch: packed_scratch() bytes.
void multiply_with(CpuContext& c, const Weights& weights, GemmArgs args, void* scratch);
// One product with a plain right operand, in `highest`. Scratch: plain_scratch() bytes of a batch of 1.
void multiply_plain(CpuContext& c, const GemmArgs& args, const Plain& plain, void* scratch);

// `batch` products with plain right operands, in `highest`. operands(i, args, plain) fills a, lda, c, ldc, the epilogue and the
// right operand of product i into args whose m, n, k are set. Scratch: plain_scratch() bytes.
class BatchOperands {
 public:
  virtual void get(int64_t i, GemmArgs& args, Plain& plain) const = 0;

 protected:
  ~BatchOperands() = default;
};
void multiply_plain(CpuContext& c, int64_t batch, int64_t m, int64_t n, int64_t k, const BatchOperands& operands, void* scratch);

// Rows of a product over all leading axes of its left operand when every one is a number, else -1.
int64_t known_rows(const Type& a);

// How `explain` words a product: "packed weights, high".
std::string describe_product(const Prepared* weights);

}  // namespace ocior::ops::nn
