#include "tensor/tensor.h"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "base/error.h"
#include "base/memory_budget.h"
#include "base/resources.h"

namespace ocior {

static_assert(std::endian::native == std::endian::little, "tensors are little-endian in memory and in files");

namespace {

constexpr size_t kAlignment = 64;

class CpuAllocator final : public Allocator {
 public:
  void* allocate(size_t bytes) override {
    if (bytes > available_memory()) return nullptr;
    return std::aligned_alloc(kAlignment, (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment);
  }
  void deallocate(void* pointer) override { std::free(pointer); }
  MemoryInfo memory() const override { return {}; }
};

}  // namespace

Allocator& cpu_allocator() {
  static CpuAllocator allocator;
  return allocator;
}

Result<int64_t> checked_element_count(std::span<const int64_t> shape) {
  int64_t count = 1;
  bool overflow = false, zero = false;
  for (const int64_t d : shape) {
    if (d < 0) return error(Code::kInvalidArgument, "shape {} has a negative dimension", to_string(shape));
    if (d == 0) zero = true;
    else overflow |= __builtin_mul_overflow(count, d, &count);
  }
  if (zero) return int64_t{0};
  if (overflow) return error(Code::kInvalidArgument, "shape {} has more elements than 63 bits can count", to_string(shape));
  if (count > int64_t{1} << 58) return error(Code::kInvalidArgument, "shape {} is larger than any memory", to_string(shape));
  return count;
}

int64_t element_count(std::span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t d : shape) {
    if (d == 0) return 0;
  }
  for (const int64_t d : shape) count *= d;  // checked before: fits when no dimension is 0
  return count;
}

size_t byte_count(DType dtype, int64_t count) {
  if (dtype == DType::kString) return static_cast<size_t>(count) * sizeof(std::string);
  const auto bits = static_cast<size_t>(bits_of(dtype));
  return bits < 8 ? (static_cast<size_t>(count) * bits + 7) / 8 : static_cast<size_t>(count) * (bits / 8);
}

std::string to_string(std::span<const int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

Result<Tensor> Tensor::allocate(DType dtype, Shape shape, Allocator* allocator) {
  OCIOR_ASSIGN(const int64_t count, checked_element_count(shape));
  auto buffer = std::make_shared<Buffer>();
  buffer->size = byte_count(dtype, count);
  const auto out_of_memory = [&] {
    return error(Code::kFail, "out of memory: {} bytes for a {} tensor of shape {}{}", buffer->size, name_of(dtype),
                 to_string(shape), MemoryBudget::explanation());
  };
  const auto budget = MemoryBudget::current();
  if (buffer->size > available_memory() || (budget && !budget->take(buffer->size))) return out_of_memory();
  const auto give_back = [budget, bytes = buffer->size] {
    if (budget) budget->give(bytes);
  };
  if (dtype == DType::kString) {
    auto* strings = new std::string[static_cast<size_t>(count)];
    buffer->data = strings;
    buffer->owner = std::shared_ptr<const void>(strings, [strings, give_back](const void*) {
      delete[] strings;
      give_back();
    });
    return Tensor(dtype, std::move(shape), std::move(buffer));
  }
  Allocator* from = allocator ? allocator : &cpu_allocator();
  buffer->memory = from->memory();
  buffer->data = from->allocate(buffer->size);
  if (!buffer->data) {
    give_back();
    return out_of_memory();
  }
  buffer->owner = std::shared_ptr<const void>(buffer->data, [from, give_back](const void* p) {
    from->deallocate(const_cast<void*>(p));
    give_back();
  });
  return Tensor(dtype, std::move(shape), std::move(buffer));
}

Tensor Tensor::borrow(DType dtype, Shape shape, const void* data, size_t bytes, std::shared_ptr<const void> keep,
                      MemoryInfo memory) {
  auto buffer = std::make_shared<Buffer>();
  buffer->data = const_cast<void*>(data);
  buffer->size = bytes;
  buffer->memory = memory;
  buffer->owner = std::move(keep);
  return Tensor(dtype, std::move(shape), std::move(buffer));
}

Tensor Tensor::scalar_i64(int64_t value) { return Tensor::of<int64_t>({}, {value}); }

Result<Tensor> Tensor::clone() const {
  OCIOR_ASSIGN(Tensor out, allocate(dtype_, shape_));
  const int64_t n = count();
  const size_t step = dtype_ == DType::kString ? sizeof(std::string) : static_cast<size_t>(bits_of(dtype_)) / 8;
  if (dtype_ == DType::kString) {
    if (!dense()) return error(Code::kNotImplemented, "a strided string tensor cannot be copied");
    for (int64_t i = 0; i < n; ++i) out.as<std::string>()[i] = as<std::string>()[i];
  } else if (dense()) {
    if (n > 0) std::memcpy(out.data(), data(), bytes());
  } else {
    if (step == 0) return error(Code::kNotImplemented, "a strided {} tensor cannot be copied", name_of(dtype_));
    Shape index(shape_.size(), 0);
    for (int64_t i = 0; i < n; ++i) {
      int64_t at = 0;
      for (size_t d = 0; d < index.size(); ++d) at += index[d] * strides_[d];
      std::memcpy(out.as<std::byte>() + static_cast<size_t>(i) * step, as<std::byte>() + at * static_cast<int64_t>(step), step);
      for (size_t d = index.size(); d-- > 0;) {
        if (++index[d] < shape_[d]) break;
        index[d] = 0;
      }
    }
  }
  return out;
}

float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  uint32_t exponent = (bits >> 10) & 0x1f, mantissa = bits & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13);
  if (exponent == 0) return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24f));
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // rounds to infinity
  if (magnitude < 0x38800000) {                                              // subnormal or zero
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24f;          // exact
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::nearbyint(scaled)));
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23);
  return static_cast<uint16_t>(sign | rounded >> 13);
}

float bfloat16_to_float(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

uint16_t float_to_bfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

namespace {

// The small float formats: exponent bits, mantissa bits, bias, and what the top codes mean (onnx.proto,
// docs/onnx/technical/float8).
struct SmallFloat {
  int exponent_bits, mantissa_bits, bias;
  bool has_inf, unsigned_zero_is_nan;  // fnuz: the only NaN is 0x80, there is no -0
  bool has_nan;
};

constexpr SmallFloat small_float(DType t) {
  switch (t) {
    case DType::kFloat8E4M3FN: return {4, 3, 7, false, false, true};
    case DType::kFloat8E4M3FNUZ: return {4, 3, 8, false, true, true};
    case DType::kFloat8E5M2: return {5, 2, 15, true, false, true};
    case DType::kFloat8E5M2FNUZ: return {5, 2, 16, false, true, true};
    default: return {2, 1, 1, false, false, false};  // float4e2m1
  }
}

double small_to_double(DType t, unsigned code) {
  const SmallFloat f = small_float(t);
  const int bits = 1 + f.exponent_bits + f.mantissa_bits;
  const bool negative = code >> (bits - 1) & 1;
  const unsigned exponent = code >> f.mantissa_bits & ((1u << f.exponent_bits) - 1),
                 mantissa = code & ((1u << f.mantissa_bits) - 1);
  const unsigned top = (1u << f.exponent_bits) - 1, full = (1u << f.mantissa_bits) - 1;
  if (f.unsigned_zero_is_nan && code == 1u << (bits - 1)) return std::numeric_limits<double>::quiet_NaN();
  double v;
  if (f.has_inf && exponent == top)
    v = mantissa ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  else if (f.has_nan && !f.has_inf && !f.unsigned_zero_is_nan && exponent == top && mantissa == full)
    v = std::numeric_limits<double>::quiet_NaN();
  else if (exponent == 0) v = std::ldexp(mantissa, 1 - f.bias - f.mantissa_bits);
  else v = std::ldexp(mantissa + (1u << f.mantissa_bits), static_cast<int>(exponent) - f.bias - f.mantissa_bits);
  return negative ? -v : v;
}

// Nearest even with saturation to the largest finite value (ONNX Cast with saturate = 1).
unsigned double_to_small(DType t, double value) {
  const SmallFloat f = small_float(t);
  const unsigned sign_bit = 1u << (f.exponent_bits + f.mantissa_bits);
  const unsigned top = (1u << f.exponent_bits) - 1, full = (1u << f.mantissa_bits) - 1;
  const unsigned largest = f.has_inf ? ((top - 1) << f.mantissa_bits | full)
                                     : (f.has_nan && !f.unsigned_zero_is_nan ? (top << f.mantissa_bits | (full - 1))
                                                                             : (top << f.mantissa_bits | full));
  const unsigned sign = std::signbit(value) ? sign_bit : 0;
  if (std::isnan(value)) {
    if (f.unsigned_zero_is_nan) return sign_bit;
    return f.has_nan ? (sign | top << f.mantissa_bits | full) : largest;
  }
  const double magnitude = std::fabs(value);
  if (magnitude > small_to_double(t, largest)) return sign | largest;
  int e;
  std::frexp(magnitude, &e);
  const int exponent = magnitude == 0 ? 1 - f.bias : std::max(e - 1, 1 - f.bias);
  const double units = std::nearbyint(std::ldexp(magnitude, f.mantissa_bits - exponent));  // ties to even
  const auto code = static_cast<unsigned>((exponent + f.bias - 1) << f.mantissa_bits) + static_cast<unsigned>(units);
  if (code == 0 && f.unsigned_zero_is_nan) return 0;
  return sign | std::min(code, largest);
}

template <class To, class From>
To saturate_cast(From value) {
  if constexpr (std::is_floating_point_v<From>) {
    if (!(value == value)) return 0;
    if (value <= static_cast<From>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    if (value >= static_cast<From>(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
  }
  return static_cast<To>(value);
}

// `value` as float rounded to odd: cut off, the last bit set when anything was lost. Rounding that once more to a type with at
// least two bits less is as good as rounding `value` itself (Boldo and Melquiond 2008).
float to_odd(double value) {
  float f = static_cast<float>(value);
  if (static_cast<double>(f) == value || !std::isfinite(value)) return f;
  if (std::fabs(static_cast<double>(f)) > std::fabs(value)) f = std::nextafter(f, 0.0f);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(f) | 1);
}

template <class T>
T read(const void* data, int64_t i) {
  T v;
  std::memcpy(&v, static_cast<const std::byte*>(data) + static_cast<size_t>(i) * sizeof(T), sizeof(T));
  return v;
}

template <class T>
void write(void* data, int64_t i, T v) {
  std::memcpy(static_cast<std::byte*>(data) + static_cast<size_t>(i) * sizeof(T), &v, sizeof(T));
}

unsigned read_packed(const void* data, int64_t i, int bits) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  const int per_byte = 8 / bits;
  return bytes[i / per_byte] >> (i % per_byte * bits) & ((1u << bits) - 1);
}

void write_packed(void* data, int64_t i, int bits, unsigned v) {
  auto* bytes = static_cast<uint8_t*>(data);
  const int per_byte = 8 / bits;
  const int shift = static_cast<int>(i % per_byte) * bits;
  const unsigned mask = ((1u << bits) - 1) << shift;
  bytes[i / per_byte] = static_cast<uint8_t>((bytes[i / per_byte] & ~mask) | ((v << shift) & mask));
}

int sign_extend(unsigned v, int bits) { return static_cast<int>(v << (32 - bits)) >> (32 - bits); }

}  // namespace

int64_t get_int(DType dtype, const void* data, int64_t i) {
  switch (dtype) {
    case DType::kInt64: return read<int64_t>(data, i);
    case DType::kUint64: return static_cast<int64_t>(read<uint64_t>(data, i));
    case DType::kInt32: return read<int32_t>(data, i);
    case DType::kUint32: return read<uint32_t>(data, i);
    case DType::kInt16: return read<int16_t>(data, i);
    case DType::kUint16: return read<uint16_t>(data, i);
    case DType::kInt8: return read<int8_t>(data, i);
    case DType::kUint8: return read<uint8_t>(data, i);
    case DType::kBool: return read<uint8_t>(data, i) != 0;
    case DType::kInt4: return sign_extend(read_packed(data, i, 4), 4);
    case DType::kUint4: return read_packed(data, i, 4);
    case DType::kInt2: return sign_extend(read_packed(data, i, 2), 2);
    case DType::kUint2: return read_packed(data, i, 2);
    default: return saturate_cast<int64_t>(get_double(dtype, data, i));
  }
}

double get_double(DType dtype, const void* data, int64_t i) {
  switch (dtype) {
    case DType::kFloat: return read<float>(data, i);
    case DType::kDouble: return read<double>(data, i);
    case DType::kFloat16: return half_to_float(read<uint16_t>(data, i));
    case DType::kBFloat16: return bfloat16_to_float(read<uint16_t>(data, i));
    case DType::kFloat8E4M3FN:
    case DType::kFloat8E4M3FNUZ:
    case DType::kFloat8E5M2:
    case DType::kFloat8E5M2FNUZ: return small_to_double(dtype, read<uint8_t>(data, i));
    case DType::kFloat4E2M1: return small_to_double(dtype, read_packed(data, i, 4));
    case DType::kFloat8E8M0: {
      const uint8_t e = read<uint8_t>(data, i);
      return e == 0xff ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, e - 127);
    }
    case DType::kUint64: return static_cast<double>(read<uint64_t>(data, i));
    case DType::kString:
    case DType::kUndefined:
    case DType::kComplex64:
    case DType::kComplex128: return 0;
    default: return static_cast<double>(get_int(dtype, data, i));
  }
}

void set_int(DType dtype, void* data, int64_t i, int64_t value) {
  switch (dtype) {
    case DType::kInt64:
    case DType::kUint64: return write(data, i, value);
    case DType::kInt32:
    case DType::kUint32: return write(data, i, static_cast<int32_t>(value));
    case DType::kInt16:
    case DType::kUint16: return write(data, i, static_cast<int16_t>(value));
    case DType::kInt8:
    case DType::kUint8: return write(data, i, static_cast<int8_t>(value));
    case DType::kBool: return write(data, i, static_cast<uint8_t>(value != 0));
    case DType::kInt4:
    case DType::kUint4: return write_packed(data, i, 4, static_cast<unsigned>(value));
    case DType::kInt2:
    case DType::kUint2: return write_packed(data, i, 2, static_cast<unsigned>(value));
    default: return set_double(dtype, data, i, static_cast<double>(value));
  }
}

void set_double(DType dtype, void* data, int64_t i, double value) {
  switch (dtype) {
    case DType::kFloat: return write(data, i, static_cast<float>(value));
    case DType::kDouble: return write(data, i, value);
    case DType::kFloat16: return write(data, i, float_to_half(to_odd(value)));
    case DType::kBFloat16: return write(data, i, float_to_bfloat16(to_odd(value)));
    case DType::kFloat8E4M3FN:
    case DType::kFloat8E4M3FNUZ:
    case DType::kFloat8E5M2:
    case DType::kFloat8E5M2FNUZ: return write(data, i, static_cast<uint8_t>(double_to_small(dtype, value)));
    case DType::kFloat4E2M1: return write_packed(data, i, 4, double_to_small(dtype, value));
    case DType::kFloat8E8M0: {
      if (!(value > 0) || std::isinf(value)) return write(data, i, static_cast<uint8_t>(value == 0 ? 0 : 0xff));
      const double e = std::nearbyint(std::log2(value)) + 127;
      return write(data, i, static_cast<uint8_t>(std::min(std::max(e, 0.0), 254.0)));
    }
    case DType::kString:
    case DType::kUndefined:
    case DType::kComplex64:
    case DType::kComplex128: return;
    case DType::kUint64: return write(data, i, saturate_cast<uint64_t>(value));
    default: return set_int(dtype, data, i, saturate_cast<int64_t>(value));
  }
}

}  // namespace ocior
