// Element types of tensors. The numbers are ONNX's TensorProto.DataType (onnx.proto, TensorProto).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ocior {

#pragma GCC visibility push(default)

enum class DType : int32_t {
  kUndefined = 0,
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kDouble = 11,
  kUint32 = 12,
  kUint64 = 13,
  kComplex64 = 14,
  kComplex128 = 15,
  kBFloat16 = 16,
  kFloat8E4M3FN = 17,
  kFloat8E4M3FNUZ = 18,
  kFloat8E5M2 = 19,
  kFloat8E5M2FNUZ = 20,
  kUint4 = 21,
  kInt4 = 22,
  kFloat4E2M1 = 23,
  kFloat8E8M0 = 24,
  kUint2 = 25,
  kInt2 = 26,
};

inline constexpr int kDTypeCount = 27;

// Bits of one element: 4 for int4, 2 for int2; 0 for strings and undefined.
constexpr int bits_of(DType t) {
  switch (t) {
    case DType::kUint2:
    case DType::kInt2: return 2;
    case DType::kUint4:
    case DType::kInt4:
    case DType::kFloat4E2M1: return 4;
    case DType::kUint8:
    case DType::kInt8:
    case DType::kBool:
    case DType::kFloat8E4M3FN:
    case DType::kFloat8E4M3FNUZ:
    case DType::kFloat8E5M2:
    case DType::kFloat8E5M2FNUZ:
    case DType::kFloat8E8M0: return 8;
    case DType::kUint16:
    case DType::kInt16:
    case DType::kFloat16:
    case DType::kBFloat16: return 16;
    case DType::kFloat:
    case DType::kInt32:
    case DType::kUint32: return 32;
    case DType::kInt64:
    case DType::kUint64:
    case DType::kDouble:
    case DType::kComplex64: return 64;
    case DType::kComplex128: return 128;
    case DType::kString:
    case DType::kUndefined: return 0;
  }
  return 0;
}

// ONNX's own words: "float", "int64", "bfloat16", …; "undefined" for anything else.
std::string_view name_of(DType t);

// The inverse of name_of; kUndefined for an unknown name.
DType dtype_of(std::string_view name);

constexpr bool is_floating(DType t) {
  return t == DType::kFloat || t == DType::kDouble || t == DType::kFloat16 || t == DType::kBFloat16 ||
         (t >= DType::kFloat8E4M3FN && t <= DType::kFloat8E5M2FNUZ) || t == DType::kFloat4E2M1 || t == DType::kFloat8E8M0;
}

#pragma GCC visibility pop

}  // namespace ocior
