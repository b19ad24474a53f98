// Values: tensors (in any memory), sequences, maps and optionals, as they enter and leave a session.
// A Value is a cheap handle; copies share the data. Reading one Value from many threads is safe, writing to its data is the
// caller's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ocior/dtype.h"
#include "ocior/status.h"

namespace ocior {

class Tensor;     // src/tensor/tensor.h
struct ValueRep;  // src/tensor/value_rep.h

#pragma GCC visibility push(default)

enum class MemoryKind : int32_t { kCpu, kPinned, kDevice };

// Where bytes live: host memory, page-locked host memory, or device number `device` of a provider.
struct MemoryInfo {
  MemoryKind kind = MemoryKind::kCpu;
  int32_t device = 0;
  bool operator==(const MemoryInfo&) const = default;
};

// Source of memory for tensors. Implementations are thread-safe. allocate() gives 64-byte aligned memory or null.
class Allocator {
 public:
  virtual ~Allocator() = default;
  virtual void* allocate(size_t bytes) = 0;
  virtual void deallocate(void* pointer) = 0;
  virtual MemoryInfo memory() const = 0;
};

// The process's CPU allocator (64-byte aligned heap memory).
Allocator& cpu_allocator();

class Value {
 public:
  enum class Kind { kNone, kTensor, kSequence, kMap, kOptional };

  Value() = default;
  explicit Value(Tensor tensor);

  // An uninitialised dense tensor that owns its memory. Fails on negative dimensions, overflow, or when memory runs out.
  static Result<Value> tensor(DType dtype, std::span<const int64_t> shape, Allocator* allocator = nullptr);
  // A dense tensor over the caller's memory of `bytes` bytes, kept alive by `keep` (or by the caller, when null).
  static Result<Value> view(DType dtype, std::span<const int64_t> shape, void* data, size_t bytes,
                            std::shared_ptr<const void> keep = nullptr, MemoryInfo memory = {});
  // A tensor of UTF-8 strings, shape's product of them.
  static Result<Value> strings(std::span<const int64_t> shape, std::vector<std::string> values);
  // Values of one type in order. Whether the types agree is checked where the sequence is used.
  static Value sequence(std::vector<Value> elements);
  // An optional that holds `element`, or nothing when its kind is kNone.
  static Value optional(Value element);
  // A map: `keys` (integers or strings) and `values` are tensors with as many elements.
  static Result<Value> map(Value keys, Value values);
  // Convenience: a dense copy of `values`.
  template <class T>
  static Result<Value> of(std::span<const int64_t> shape, std::span<const T> values);

  Kind kind() const;
  bool is_tensor() const { return kind() == Kind::kTensor; }

  // Tensors only (asserted): element type, shape, number of elements, bytes, data (packed for sub-byte types), place.
  DType dtype() const;
  std::span<const int64_t> shape() const;
  int64_t element_count() const;
  size_t byte_size() const;
  void* data();
  const void* data() const;
  MemoryInfo memory() const;
  std::span<const std::string> string_data() const;
  template <class T>
  std::span<T> as() {
    return {static_cast<T*>(data()), static_cast<size_t>(element_count())};
  }
  template <class T>
  std::span<const T> as() const {
    return {static_cast<const T*>(data()), static_cast<size_t>(element_count())};
  }

  // kSequence: its elements; kOptional: one or none; kMap: keys and values. Empty for other kinds.
  std::span<const Value> elements() const;

  // The tensor inside (engine's own type); null for other kinds.
  const Tensor* get_tensor() const;

 private:
  std::shared_ptr<ValueRep> rep_;
};

template <class T>
constexpr DType dtype_for();
template <>
constexpr DType dtype_for<float>() {
  return DType::kFloat;
}
template <>
constexpr DType dtype_for<double>() {
  return DType::kDouble;
}
template <>
constexpr DType dtype_for<int8_t>() {
  return DType::kInt8;
}
template <>
constexpr DType dtype_for<uint8_t>() {
  return DType::kUint8;
}
template <>
constexpr DType dtype_for<int16_t>() {
  return DType::kInt16;
}
template <>
constexpr DType dtype_for<uint16_t>() {
  return DType::kUint16;
}
template <>
constexpr DType dtype_for<int32_t>() {
  return DType::kInt32;
}
template <>
constexpr DType dtype_for<uint32_t>() {
  return DType::kUint32;
}
template <>
constexpr DType dtype_for<int64_t>() {
  return DType::kInt64;
}
template <>
constexpr DType dtype_for<uint64_t>() {
  return DType::kUint64;
}
template <>
constexpr DType dtype_for<bool>() {
  return DType::kBool;
}

template <class T>
Result<Value> Value::of(std::span<const int64_t> shape, std::span<const T> values) {
  auto made = tensor(dtype_for<T>(), shape);
  if (!made.ok()) return made;
  if (made->element_count() != static_cast<int64_t>(values.size()))
    return Status(Code::kInvalidArgument, "Value::of: the shape has " + std::to_string(made->element_count()) + " elements but " +
                                              std::to_string(values.size()) + " values came");
  auto* out = static_cast<T*>(made->data());
  for (size_t i = 0; i < values.size(); ++i) out[i] = values[i];
  return made;
}

#pragma GCC visibility pop

}  // namespace ocior
