// Moving elements without looking at them, whatever their type: bytes, strings and packed sub-byte elements. Thread-safe for
// disjoint destinations; packed sub-byte destinations share bytes, so those are written by one thread.
#pragma once

#include <span>

#include "ops/operator.h"

namespace ocior::ops {

// Whether elements may be copied as bytes of element_size() each, by several threads.
inline bool moves_as_bytes(DType t) { return bits_of(t) >= 8; }

// destination[d + i] = source[s + i] for i in [0, n).
void copy_elements(DType dtype, void* destination, int64_t d, const void* source, int64_t s, int64_t n);
// destination[d + i] = source[s] for i in [0, n).
void fill_elements(DType dtype, void* destination, int64_t d, const void* source, int64_t s, int64_t n);

// Copies a box: destination offset + sum(i * destination stride) = source offset + sum(i * source stride), in elements. Strides
// may be negative or zero (source). Axes that advance alike are merged, contiguous runs are copied at once.
struct BoxCopy {
  static constexpr int kAxes = 64;
  DType dtype;
  void* destination;
  const void* source;
  int64_t d = 0, s = 0;
  int rank = 0;
  int64_t extent[kAxes], d_stride[kAxes], s_stride[kAxes];  // outermost first

  void axis(int64_t n, int64_t destination_stride, int64_t source_stride);  // adds an inner axis; rank < kAxes
  void run() const;                                                         // on this thread
  void run(CpuContext& c) const;  // over the team; dtype must move as bytes, else on this thread
 private:
  int64_t outer() const;
  void rows(int64_t begin, int64_t end) const;
};

}  // namespace ocior::ops
