// What the references and drivers of the neural-network operators share: element access in double, flattened shapes, chunks of
// rows, pieces of scratch. Free functions; thread-safe.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "base/pool.h"
#include "ops/evaluate.h"
#include "ops/operator.h"

namespace ocior::ops::nn {

// All elements of a dense numeric tensor.
std::vector<double> doubles(const Tensor& t);
// Rounds `values` to t's dtype; values.size() is t's element count.
void store(Tensor& t, std::span<const double> values);

// Fails unless each given one of `inputs` has a float type and, where `alike`, that of input 0.
Status check_floats(const ShapeContext& c, std::initializer_list<int> inputs, bool alike = true);
// Fails unless inputs 0 and 1 (and 2, when given) are numbers of one type.
Status check_numbers(const ShapeContext& c);
// Whether dims can be equal: one is unknown, or they are.
inline bool may_equal(const Dim& a, const Dim& b) { return !a.known() || !b.known() || a == b; }
bool may_equal(const Dims& a, const Dims& b);

// For every element of `to` in order, the element of a tensor of shape `from` that broadcasts to it.
std::vector<int64_t> broadcast_index(std::span<const int64_t> from, std::span<const int64_t> to);

// Product of shape[begin, end).
inline int64_t extent(std::span<const int64_t> shape, int64_t begin, int64_t end) {
  return element_count(shape.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
}

inline constexpr int64_t kMostHeads = 1 << 20;   // of attention: keeps products of sizes in range
inline constexpr int64_t kMostKeys = INT32_MAX;  // of attention: the kernel counts them in 32 bits

// Elements of one chunk of row-wise work: tens of microseconds, and the same on every machine.
inline constexpr int64_t kChunkElements = 16384;
inline int64_t rows_per_chunk(int64_t n) { return std::max<int64_t>(1, kChunkElements / std::max<int64_t>(1, n)); }
inline int64_t chunks_of(int64_t total, int64_t step) { return total / step + (total % step != 0); }

// Calls fn(begin, end, worker) over [0, rows) in chunks of about kChunkElements elements, n of them in a row.
template <class F>
void parallel_rows(CpuContext& c, int64_t rows, int64_t n, F&& fn) {
  const int64_t step = rows_per_chunk(n);
  c.team().parallel_for(chunks_of(rows, step), c.stop(),
                        [&](int64_t chunk, int worker) { fn(chunk * step, std::min(rows, (chunk + 1) * step), worker); });
}

constexpr size_t align64(size_t bytes) { return (bytes + 63) & ~size_t{63}; }

// Hands out 64-byte aligned pieces of one scratch block; with a null base it only counts.
class Carver {
 public:
  explicit Carver(void* base = nullptr) : base_(static_cast<std::byte*>(base)) {}
  template <class T = std::byte>
  T* take(size_t count) {
    std::byte* piece = base_ ? base_ + used_ : nullptr;
    used_ += align64(count * sizeof(T));
    return reinterpret_cast<T*>(piece);
  }
  size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

}  // namespace ocior::ops::nn
