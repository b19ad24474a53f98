// Element types in strips: floats are computed in double, uint64 in uint64_t, every other integer and bool in int64_t. load() and
// store() convert between those and a tensor's own type, so that operators are written for three types. Stateless, thread-safe.
#pragma once

#include <cstdint>
#include <type_traits>

#include "ocior/dtype.h"

namespace ocior::ops {

enum class Kind { kReal, kSigned, kUnsigned };

constexpr Kind kind_of(DType t) { return is_floating(t) ? Kind::kReal : t == DType::kUint64 ? Kind::kUnsigned : Kind::kSigned; }

inline constexpr int64_t kStrip = 512;  // elements of a strip on the stack

// Elements [first, first + n) of a dense numeric or bool tensor as C; `buffer` holds n and is returned unless the tensor's own
// bytes do.
template <class C>
const C* load(DType dtype, const void* data, int64_t first, int64_t n, C* buffer);

// Converts n values to dtype. Floats to integers: truncated, saturated, NaN gives 0. Integers to integers: low bits. To bool: not
// zero.
template <class C>
void store(DType dtype, void* data, int64_t first, int64_t n, const C* values);

extern template const double* load(DType, const void*, int64_t, int64_t, double*);
extern template const int64_t* load(DType, const void*, int64_t, int64_t, int64_t*);
extern template const uint64_t* load(DType, const void*, int64_t, int64_t, uint64_t*);
extern template void store(DType, void*, int64_t, int64_t, const double*);
extern template void store(DType, void*, int64_t, int64_t, const int64_t*);
extern template void store(DType, void*, int64_t, int64_t, const uint64_t*);

// Calls f with a value of the type that `kind` computes in.
template <class F>
decltype(auto) visit_kind(Kind kind, F&& f) {
  switch (kind) {
    case Kind::kReal: return f(double{});
    case Kind::kSigned: return f(int64_t{});
    case Kind::kUnsigned: break;
  }
  return f(uint64_t{});
}

}  // namespace ocior::ops
