#include "ops/typed.h"

#include <limits>

#include "tensor/tensor.h"

namespace ocior::ops {
namespace {

template <class To, class From>
To convert(From v) {
  if constexpr (std::is_same_v<From, double> && std::is_integral_v<To>) {
    using L = std::numeric_limits<To>;
    if (!(v == v)) return 0;
    if (v <= static_cast<double>(L::min())) return L::min();
    if (v >= static_cast<double>(L::max())) return L::max();
  }
  return static_cast<To>(v);
}

template <class T, class C>
const C* load_as(const void* data, int64_t first, int64_t n, C* buffer) {
  const T* x = static_cast<const T*>(data) + first;
  if constexpr (std::is_same_v<T, C>) {
    return x;
  } else {
    for (int64_t i = 0; i < n; ++i)
      buffer[i] = convert<C>(static_cast<std::conditional_t<std::is_floating_point_v<T>, double, T>>(x[i]));
    return buffer;
  }
}

template <class T, class C>
void store_as(void* data, int64_t first, int64_t n, const C* values) {
  T* y = static_cast<T*>(data) + first;
  for (int64_t i = 0; i < n; ++i) y[i] = convert<T>(values[i]);
}

template <class C>
C get(DType dtype, const void* data, int64_t i) {
  if constexpr (std::is_same_v<C, double>) return get_double(dtype, data, i);
  else return static_cast<C>(get_int(dtype, data, i));
}

}  // namespace

template <class C>
const C* load(DType dtype, const void* data, int64_t first, int64_t n, C* buffer) {
  switch (dtype) {
    case DType::kFloat: return load_as<float>(data, first, n, buffer);
    case DType::kDouble: return load_as<double>(data, first, n, buffer);
    case DType::kInt8: return load_as<int8_t>(data, first, n, buffer);
    case DType::kInt16: return load_as<int16_t>(data, first, n, buffer);
    case DType::kInt32: return load_as<int32_t>(data, first, n, buffer);
    case DType::kInt64: return load_as<int64_t>(data, first, n, buffer);
    case DType::kUint8: return load_as<uint8_t>(data, first, n, buffer);
    case DType::kUint16: return load_as<uint16_t>(data, first, n, buffer);
    case DType::kUint32: return load_as<uint32_t>(data, first, n, buffer);
    case DType::kUint64: return load_as<uint64_t>(data, first, n, buffer);
    case DType::kBool: {
      const auto* x = static_cast<const uint8_t*>(data) + first;
      for (int64_t i = 0; i < n; ++i) buffer[i] = x[i] != 0;
      return buffer;
    }
    default: break;
  }
  for (int64_t i = 0; i < n; ++i) buffer[i] = get<C>(dtype, data, first + i);
  return buffer;
}

template <class C>
void store(DType dtype, void* data, int64_t first, int64_t n, const C* values) {
  switch (dtype) {
    case DType::kFloat: return store_as<float>(data, first, n, values);
    case DType::kDouble: return store_as<double>(data, first, n, values);
    case DType::kInt8: return store_as<int8_t>(data, first, n, values);
    case DType::kInt16: return store_as<int16_t>(data, first, n, values);
    case DType::kInt32: return store_as<int32_t>(data, first, n, values);
    case DType::kInt64: return store_as<int64_t>(data, first, n, values);
    case DType::kUint8: return store_as<uint8_t>(data, first, n, values);
    case DType::kUint16: return store_as<uint16_t>(data, first, n, values);
    case DType::kUint32: return store_as<uint32_t>(data, first, n, values);
    case DType::kUint64: return store_as<uint64_t>(data, first, n, values);
    case DType::kBool: {
      auto* y = static_cast<uint8_t*>(data) + first;
      for (int64_t i = 0; i < n; ++i) y[i] = values[i] != 0;
      return;
    }
    default: break;
  }
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<C, int64_t>) set_int(dtype, data, first + i, values[i]);
    else set_double(dtype, data, first + i, static_cast<double>(values[i]));
  }
}

template const double* load(DType, const void*, int64_t, int64_t, double*);
template const int64_t* load(DType, const void*, int64_t, int64_t, int64_t*);
template const uint64_t* load(DType, const void*, int64_t, int64_t, uint64_t*);
template void store(DType, void*, int64_t, int64_t, const double*);
template void store(DType, void*, int64_t, int64_t, const int64_t*);
template void store(DType, void*, int64_t, int64_t, const uint64_t*);

}  // namespace ocior::ops
