// Einsum of floats as a list of matrix products, sums and copies, from shapes alone. Internal to Einsum.
#pragma once

#include <span>

#include "ops/math/einsum_plan.h"
#include "ops/nn/gemm_driver.h"
#include "ops/nn/numeric.h"
#include "tensor/tensor.h"

namespace ocior::ops::einsum {

// A tensor by labels: the element at label indexes i stands at the sum of
// stride * i. Labels of extent 1 are left out.
struct View {
  int source = -1;    // an operand, or -1: memory of the run
  size_t offset = 0;  // there, in elements
  Labels labels;      // outermost first
  std::vector<int64_t> strides;

  int64_t stride(int label) const {
    const auto at = std::ranges::find(labels, label);
    return at == labels.end() ? 0 : strides[static_cast<size_t>(at - labels.begin())];
  }
};

// Axes that are walked together; neighbours that advance alike in both operands
// are one.
struct Walk {
  std::vector<int64_t> extent, a, b;

  void axis(int64_t n, int64_t a_stride, int64_t b_stride) {
    if (!extent.empty() && a.back() == a_stride * n && b.back() == b_stride * n) {
      extent.back() *= n, a.back() = a_stride, b.back() = b_stride;
    } else {
      extent.push_back(n), a.push_back(a_stride), b.push_back(b_stride);
    }
  }
  int64_t count() const { return element_count(extent); }
  std::pair<int64_t, int64_t> at(int64_t i) const {
    std::pair<int64_t, int64_t> out{0, 0};
    for (size_t k = extent.size(); k-- > 0;) {
      const int64_t index = k ? i % extent[k] : i;
      if (k) i /= extent[k];
      out.first += index * a[k], out.second += index * b[k];
    }
    return out;
  }
  // The one stride of operand a when its axes are one; `otherwise` when there
  // are none.
  std::optional<int64_t> single(int64_t otherwise) const {
    if (extent.empty()) return otherwise;
    return extent.size() == 1 ? std::optional(a[0]) : std::nullopt;
  }
  // Sum over all of f(offset in a, offset in b).
  template <class F>
  double sum(int64_t x, int64_t y, size_t from, F&& f) const {
    if (from == extent.size()) return f(x, y);
    double total = 0;
    for (int64_t i = 0; i < extent[from]; ++i) total += sum(x + i * a[from], y + i * b[from], from + 1, f);
    return total;
  }
};

// What a run does, from the shapes alone.
struct Program {
  enum class Kind { kSum, kDots, kProducts };
  struct Operation {
    Kind kind;
    View a, b;                           // as they are read: originals or copies
    std::optional<View> copy_a, copy_b;  // what is copied into them before
    Walk outer, inner;                   // sums and dots: over the result, over what is summed;
                                         // products: over the batch
    int64_t batch = 1, m = 1, n = 1, k = 1, lda = 0;
    nn::Plain plain;    // without data
    size_t result = 0;  // offset in the memory, where not the output
    bool to_output = false;
  };
  std::vector<int64_t> extent;
  std::vector<Operation> operations;
  std::optional<View> last;  // copied to the output at the end
  size_t elements = 0;       // memory of the run
  size_t products = 0;       // bytes of what multiply_plain() asks for, after it
  double work = 0;           // floating-point operations
  bool empty = false;        // the output has no elements, or sums over nothing: it is zero

  size_t bytes() const { return nn::align64(elements * sizeof(float)) + products; }
};

// `extent` is that of every label. Errors: a result on the way is too large for any memory.
Result<Program> compile(const Axes& axes, const std::vector<std::span<const int64_t>>& shapes, std::vector<int64_t> extent,
                        const KernelTable& kernels, int workers);

}  // namespace ocior::ops::einsum
