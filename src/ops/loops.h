// Loops over tensors: cutting work into chunks of fixed size for the run's workers, and walking broadcast operands in contiguous
// strips. What a chunk holds depends on sizes only, so results do not depend on the number of threads. Nothing here allocates.
#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>
#include <span>

#include "base/pool.h"
#include "ops/operator.h"

namespace ocior::ops {

inline constexpr int64_t kSerialWork = 32768;  // elements below which one thread is faster than several
inline constexpr int64_t kChunk = 16384;       // elements of a chunk of light work: far below 1 ms

// Calls f(begin, end) for pieces of [0, n) of `chunk` each, over the team when n is worth it.
template <class F>
void for_chunks(CpuContext& c, int64_t n, int64_t chunk, F&& f) {
  if (n <= 0) return;
  const int64_t pieces = (n + chunk - 1) / chunk;
  c.team().parallel_for(pieces, c.stop(), [&](int64_t i, int) { f(i * chunk, std::min(n, (i + 1) * chunk)); });
}

// The same for `n` items of `cost` elements each.
template <class F>
void for_items(CpuContext& c, int64_t n, int64_t cost, F&& f) {
  const int64_t chunk = std::max<int64_t>(1, kChunk / std::max<int64_t>(1, cost));
  if (n <= kSerialWork / std::max<int64_t>(1, cost)) {
    for (int64_t i = 0; i < n; i += chunk) {
      if (c.stop() && c.stop()->requested()) return;
      f(i, std::min(n, i + chunk));
    }
    return;
  }
  for_chunks(c, n, chunk, f);
}

// Walks an output and up to kOperands inputs that broadcast to it. Adjacent axes that advance alike are one; `inner` is the
// innermost run, along which the output advances by 1 and an input by step 0 or 1.
class BroadcastLoop {
 public:
  static constexpr int kOperands = 3;
  static constexpr int kAxes = 24;

  // Fails when more than kAxes axes remain. `aligned`: inputs' shapes, at most as long as `to`, aligned right.
  Status plan(std::span<const int64_t> to, std::initializer_list<std::span<const int64_t>> inputs) {
    operands_ = static_cast<int>(inputs.size());
    total_ = element_count(to);
    rank_ = 0;
    std::array<int64_t, kOperands> dense{};
    dense.fill(1);
    for (size_t from_end = 0; from_end < to.size() && total_ > 0;
         ++from_end) {  // innermost first; axis 0 of ours is the inner run
      const int64_t extent = to[to.size() - 1 - from_end];
      std::array<int64_t, kOperands> stride{};
      int k = 0;
      for (const std::span<const int64_t> shape : inputs) {
        const int64_t d = from_end < shape.size() ? shape[shape.size() - 1 - from_end] : 1;
        stride[static_cast<size_t>(k)] = d == 1 ? 0 : dense[static_cast<size_t>(k)];
        dense[static_cast<size_t>(k++)] *= d;
      }
      if (extent == 1) continue;
      if (!merges(stride)) {
        if (rank_ == kAxes) return error(Code::kNotImplemented, "shapes broadcast along more than {} alternating axes", kAxes);
        extent_[rank_] = extent;
        stride_[rank_++] = stride;
      } else {
        extent_[rank_ - 1] *= extent;
      }
    }
    if (rank_ == 0) extent_[0] = 1, stride_[0] = {}, rank_ = 1;
    return {};
  }

  int64_t total() const { return total_; }
  int64_t step(int input) const { return stride_[0][static_cast<size_t>(input)]; }

  // f(output offset, input offsets, n) for the strips of [begin, end), each at most `longest`.
  template <class F>
  void strips(int64_t begin, int64_t end, int64_t longest, F&& f) const {
    if (begin >= end) return;
    std::array<int64_t, kAxes> index{};
    std::array<int64_t, kOperands> offset{};
    int64_t rest = begin;
    for (int a = 0; a < rank_; ++a) {
      index[static_cast<size_t>(a)] = rest % extent_[a];
      rest /= extent_[a];
      for (int k = 0; k < operands_; ++k)
        offset[static_cast<size_t>(k)] += index[static_cast<size_t>(a)] * stride_[a][static_cast<size_t>(k)];
    }
    for (int64_t at = begin; at < end;) {
      const int64_t n = std::min({extent_[0] - index[0], end - at, longest});
      f(at, offset, n);
      at += n;
      advance(index, offset, n);
    }
  }

 private:
  bool merges(const std::array<int64_t, kOperands>& outer) const {
    if (rank_ == 0) return false;
    for (int k = 0; k < operands_; ++k)
      if (outer[static_cast<size_t>(k)] != stride_[rank_ - 1][static_cast<size_t>(k)] * extent_[rank_ - 1]) return false;
    return true;
  }

  void advance(std::array<int64_t, kAxes>& index, std::array<int64_t, kOperands>& offset, int64_t n) const {
    for (int k = 0; k < operands_; ++k) offset[static_cast<size_t>(k)] += n * stride_[0][static_cast<size_t>(k)];
    index[0] += n;
    for (int a = 0; a < rank_ && index[static_cast<size_t>(a)] == extent_[a]; ++a) {
      for (int k = 0; k < operands_; ++k) offset[static_cast<size_t>(k)] -= extent_[a] * stride_[a][static_cast<size_t>(k)];
      index[static_cast<size_t>(a)] = 0;
      if (a + 1 == rank_) return;
      ++index[static_cast<size_t>(a) + 1];
      for (int k = 0; k < operands_; ++k) offset[static_cast<size_t>(k)] += stride_[a + 1][static_cast<size_t>(k)];
    }
  }

  int operands_ = 0, rank_ = 0;
  int64_t total_ = 0;
  int64_t extent_[kAxes];
  std::array<int64_t, kOperands> stride_[kAxes];
};

}  // namespace ocior::ops
