#include "ops/move.h"

#include <cstring>

#include "ops/loops.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

unsigned packed(const void* data, int64_t i, int bits) {
  const int per_byte = 8 / bits;
  return static_cast<const uint8_t*>(data)[i / per_byte] >> (i % per_byte * bits) & ((1u << bits) - 1);
}

void set_packed(void* data, int64_t i, int bits, unsigned v) {
  const int per_byte = 8 / bits, shift = static_cast<int>(i % per_byte) * bits;
  uint8_t& byte = static_cast<uint8_t*>(data)[i / per_byte];
  byte = static_cast<uint8_t>((byte & ~(((1u << bits) - 1) << shift)) | v << shift);
}

template <class T>
void strided(std::byte* to, int64_t to_step, const std::byte* from, int64_t from_step, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(to + i * to_step * int64_t{sizeof(T)}, from + i * from_step * int64_t{sizeof(T)}, sizeof(T));
}

// n elements with any steps.
void copy_strided(DType dtype, void* to, int64_t d, int64_t d_step, const void* from, int64_t s, int64_t s_step, int64_t n) {
  const auto size = static_cast<int64_t>(element_size(dtype));
  auto* y = static_cast<std::byte*>(to) + d * size;
  const auto* x = static_cast<const std::byte*>(from) + s * size;
  if (moves_as_bytes(dtype)) {
    switch (size) {
      case 1: return strided<uint8_t>(y, d_step, x, s_step, n);
      case 2: return strided<uint16_t>(y, d_step, x, s_step, n);
      case 4: return strided<uint32_t>(y, d_step, x, s_step, n);
      case 8: return strided<uint64_t>(y, d_step, x, s_step, n);
      default: break;
    }
  }
  for (int64_t i = 0; i < n; ++i) copy_elements(dtype, to, d + i * d_step, from, s + i * s_step, 1);
}

}  // namespace

void copy_elements(DType dtype, void* destination, int64_t d, const void* source, int64_t s, int64_t n) {
  if (n <= 0) return;
  if (dtype == DType::kString) {
    for (int64_t i = 0; i < n; ++i)
      static_cast<std::string*>(destination)[d + i] = static_cast<const std::string*>(source)[s + i];
  } else if (const auto size = static_cast<int64_t>(element_size(dtype)); size > 0) {
    std::memcpy(static_cast<std::byte*>(destination) + d * size, static_cast<const std::byte*>(source) + s * size,
                static_cast<size_t>(n * size));
  } else {
    const int bits = bits_of(dtype);
    for (int64_t i = 0; i < n; ++i) set_packed(destination, d + i, bits, packed(source, s + i, bits));
  }
}

void fill_elements(DType dtype, void* destination, int64_t d, const void* source, int64_t s, int64_t n) {
  copy_strided(dtype, destination, d, 1, source, s, 0, n);
}

void BoxCopy::axis(int64_t n, int64_t destination_stride, int64_t source_stride) {
  if (n == 1) return;
  if (rank > 0 && d_stride[rank - 1] == destination_stride * n && s_stride[rank - 1] == source_stride * n) {
    extent[rank - 1] *= n;
    d_stride[rank - 1] = destination_stride;
    s_stride[rank - 1] = source_stride;
    return;
  }
  extent[rank] = n;
  d_stride[rank] = destination_stride;
  s_stride[rank++] = source_stride;
}

int64_t BoxCopy::outer() const {
  int64_t rows = 1;
  for (int a = 0; a + 1 < rank; ++a) rows *= extent[a];
  return rows;
}

void BoxCopy::rows(int64_t begin, int64_t end) const {
  int64_t index[kAxes], to = d, from = s, rest = begin;
  for (int a = rank - 2; a >= 0; --a) {
    index[a] = rest % extent[a];
    rest /= extent[a];
    to += index[a] * d_stride[a];
    from += index[a] * s_stride[a];
  }
  const int last = rank - 1;
  const bool run = d_stride[last] == 1 && s_stride[last] == 1;
  for (int64_t row = begin; row < end; ++row) {
    if (run) copy_elements(dtype, destination, to, source, from, extent[last]);
    else copy_strided(dtype, destination, to, d_stride[last], source, from, s_stride[last], extent[last]);
    for (int a = last - 1; a >= 0; --a) {
      to += d_stride[a], from += s_stride[a];
      if (++index[a] < extent[a]) break;
      index[a] = 0;
      to -= extent[a] * d_stride[a], from -= extent[a] * s_stride[a];
    }
  }
}

void BoxCopy::run() const {
  for (int a = 0; a < rank; ++a)
    if (extent[a] == 0) return;
  if (rank == 0) copy_elements(dtype, destination, d, source, s, 1);
  else rows(0, outer());
}

void BoxCopy::run(CpuContext& c) const {
  for (int a = 0; a < rank; ++a)
    if (extent[a] == 0) return;
  if (rank == 0 || !moves_as_bytes(dtype)) return run();
  const int64_t n = outer(), length = extent[rank - 1];
  if (n == 1 && length > kSerialWork) {  // one long run: cut it
    for_chunks(c, length, kChunk, [this](int64_t begin, int64_t end) {
      BoxCopy piece = *this;
      piece.d += begin * d_stride[rank - 1];
      piece.s += begin * s_stride[rank - 1];
      piece.extent[rank - 1] = end - begin;
      piece.rows(0, 1);
    });
    return;
  }
  for_items(c, n, length, [this](int64_t begin, int64_t end) { rows(begin, end); });
}

}  // namespace ocior::ops
