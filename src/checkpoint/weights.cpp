#include "checkpoint/weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "checkpoint/json.h"

namespace ocior::checkpoint {
namespace {

float float_of_half(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, exponent = (bits >> 10) & 31, mantissa = bits & 0x3ff;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | (mantissa << 13));
  if (exponent == 0) return std::copysign(static_cast<float>(mantissa) * 0x1p-24f, std::bit_cast<float>(sign | 0x3f800000));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

template <class T>
T load_bits(const std::byte* at, bool big_endian) {
  std::byte bytes[sizeof(T)];
  std::memcpy(bytes, at, sizeof(T));
  if (big_endian) std::reverse(bytes, bytes + sizeof(T));
  return std::bit_cast<T>(bytes);
}

// A float, or a double for kDouble.
template <DType kType>
auto load(const std::byte* at, bool big_endian) {
  if constexpr (kType == DType::kFloat) return load_bits<float>(at, big_endian);
  if constexpr (kType == DType::kDouble) return load_bits<double>(at, big_endian);
  if constexpr (kType == DType::kFloat16) return float_of_half(load_bits<uint16_t>(at, big_endian));
  if constexpr (kType == DType::kBFloat16)
    return std::bit_cast<float>(static_cast<uint32_t>(load_bits<uint16_t>(at, big_endian)) << 16);
}

// A matrix to copy: rows and columns of the result, with the source's strides in elements. Vectors have one row.
struct Copy {
  const std::byte* source;
  int64_t rows, cols, row_stride, col_stride;
  bool big_endian;
};

template <class To>
To narrow(float value) {
  if constexpr (sizeof(To) == 2) return half_bits(value);
  else return value;
}
bool is_infinite(uint16_t half) { return (half & 0x7fff) == 0x7c00; }
bool is_infinite(float value) { return std::isinf(value); }

// Copies in square blocks, so that a transposition reads whole cache lines. Returns whether a finite value became infinite.
template <DType kFrom, class To>
bool copy_as(const Copy& c, std::byte* out) {
  constexpr int64_t kBlock = 32, kSize = bits_of(kFrom) / 8;
  bool overflow = false;
  for (int64_t r0 = 0; r0 < c.rows; r0 += kBlock) {
    for (int64_t c0 = 0; c0 < c.cols; c0 += kBlock) {
      for (int64_t r = r0; r < std::min(c.rows, r0 + kBlock); ++r) {
        for (int64_t k = c0; k < std::min(c.cols, c0 + kBlock); ++k) {
          const auto value = load<kFrom>(c.source + (r * c.row_stride + k * c.col_stride) * kSize, c.big_endian);
          const To stored = narrow<To>(static_cast<float>(value));
          overflow |= is_infinite(stored) && std::isfinite(value);
          std::memcpy(out + (r * c.cols + k) * static_cast<int64_t>(sizeof(To)), &stored, sizeof(To));
        }
      }
    }
  }
  return overflow;
}

template <DType kFrom>
bool copy_to(const Copy& c, DType to, std::byte* out) {
  return to == DType::kFloat16 ? copy_as<kFrom, uint16_t>(c, out) : copy_as<kFrom, float>(c, out);
}

bool copy_matrix(const Copy& c, DType from, DType to, std::byte* out) {
  switch (from) {
    case DType::kFloat: return copy_to<DType::kFloat>(c, to, out);
    case DType::kDouble: return copy_to<DType::kDouble>(c, to, out);
    case DType::kFloat16: return copy_to<DType::kFloat16>(c, to, out);
    default: return copy_to<DType::kBFloat16>(c, to, out);
  }
}

}  // namespace

uint16_t half_bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));  // NaN keeps its payload
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);                               // 65520 and above
  if (magnitude < 0x38800000) {                                      // below 2^-14: subnormal
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24f;  // exact
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::nearbyint(scaled)));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

Result<onnx::Tensor> to_initializer(const TensorEntry& entry, std::string name, DType dtype, bool transposed) {
  const std::string where = fmt::format("{}: tensor `{}`", entry.file, printable(entry.name));
  if (entry.dtype != DType::kFloat && entry.dtype != DType::kDouble && entry.dtype != DType::kFloat16 &&
      entry.dtype != DType::kBFloat16) {
    return error(Code::kNotImplemented, "{} has element type {}; weights must be float32, float16, bfloat16 or float64", where,
                 name_of(entry.dtype));
  }
  const size_t rank = entry.shape.size();
  if (rank < 1 || rank > 2) return error(Code::kInvalidArgument, "{} has {} dimensions; weights have one or two", where, rank);
  onnx::Tensor out{.name = std::move(name), .dtype = dtype, .dims = entry.shape};
  if (entry.dtype == dtype && !transposed && !entry.big_endian && entry.contiguous()) {
    out.raw = entry.data.first(static_cast<size_t>(entry.elements() * (bits_of(dtype) / 8)));
    return out;
  }
  Copy copy{entry.data.data(),    rank == 2 ? entry.shape[0] : 1,
            entry.shape.back(),   rank == 2 ? entry.strides[0] : 0,
            entry.strides.back(), entry.big_endian};
  if (transposed) {
    std::swap(copy.rows, copy.cols);
    std::swap(copy.row_stride, copy.col_stride);
    std::reverse(out.dims.begin(), out.dims.end());
  }
  auto owned = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(entry.elements() * (bits_of(dtype) / 8)));
  if (copy_matrix(copy, entry.dtype, dtype, owned->data())) {
    return error(Code::kInvalidArgument, "{} holds a number beyond {}'s range; convert to a wider dtype", where, name_of(dtype));
  }
  out.raw = *owned;
  out.owned = std::move(owned);
  if (entry.mapped) entry.mapped->release(entry.data.first(std::min(entry.data.size(), out.raw.size())));
  return out;
}

bool same_values(const TensorEntry& a, const TensorEntry& b) {
  if (a.dtype != b.dtype || a.shape != b.shape || a.big_endian != b.big_endian || a.shape.size() != 2) return false;
  if (a.data.data() == b.data.data() && a.strides == b.strides) return true;
  const int64_t size = bits_of(a.dtype) / 8;
  if (a.elements() == 0) return true;
  if (a.contiguous() && b.contiguous())
    return std::memcmp(a.data.data(), b.data.data(), static_cast<size_t>(a.elements() * size)) == 0;
  const auto at = [size](const TensorEntry& t, int64_t i, int64_t j) {
    return t.data.data() + (i * t.strides[0] + j * t.strides[1]) * size;
  };
  for (int64_t i = 0; i < a.shape[0]; ++i) {
    for (int64_t j = 0; j < a.shape[1]; ++j) {
      if (std::memcmp(at(a, i, j), at(b, i, j), static_cast<size_t>(size)) != 0) return false;
    }
  }
  return true;
}

}  // namespace ocior::checkpoint
