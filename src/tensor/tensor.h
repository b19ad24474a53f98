// Tensor: dtype, shape, element strides, byte offset and a shared Buffer. A cheap handle; copies share the bytes.
// TensorView: the same without ownership, as kernels' drivers see it during a run. Thread-safe to read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ocior/dtype.h"
#include "ocior/status.h"
#include "ocior/value.h"

namespace ocior {

using Shape = std::vector<int64_t>;

// Product of the dimensions, or an error when one is negative or the product is above 2^58: below that, the bytes of any element
// type fit 63 bits.
Result<int64_t> checked_element_count(std::span<const int64_t> shape);
// Product without checks, for shapes that were checked before.
int64_t element_count(std::span<const int64_t> shape);
// Bytes of `count` dense elements (sub-byte types packed, rounded up); strings count sizeof(std::string).
size_t byte_count(DType dtype, int64_t count);
// "[2, 3]"
std::string to_string(std::span<const int64_t> shape);

// A piece of memory of some kind. `owner` frees it; null: the caller does. `ready` is what a device records when the bytes are
// valid.
struct Buffer {
  void* data = nullptr;
  size_t size = 0;
  MemoryInfo memory;
  std::shared_ptr<const void> owner;
  std::shared_ptr<void> ready;
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, Shape shape, std::shared_ptr<Buffer> buffer, size_t offset = 0, Shape strides = {})
      : dtype_(dtype), shape_(std::move(shape)), strides_(std::move(strides)), offset_(offset), buffer_(std::move(buffer)) {}

  // Dense, uninitialised (strings: empty), on the CPU.
  static Result<Tensor> allocate(DType dtype, Shape shape, Allocator* allocator = nullptr);
  // Dense over foreign bytes.
  static Tensor borrow(DType dtype, Shape shape, const void* data, size_t bytes, std::shared_ptr<const void> keep = nullptr,
                       MemoryInfo memory = {});
  template <class T>
  static Tensor of(Shape shape, std::initializer_list<T> values);
  static Tensor scalar_i64(int64_t value);

  bool defined() const { return buffer_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t rank() const { return static_cast<int64_t>(shape_.size()); }
  int64_t count() const { return element_count(shape_); }
  size_t bytes() const { return byte_count(dtype_, count()); }
  bool dense() const { return strides_.empty(); }
  const Shape& strides() const { return strides_; }
  const std::shared_ptr<Buffer>& buffer() const { return buffer_; }
  MemoryInfo memory() const { return buffer_ ? buffer_->memory : MemoryInfo{}; }

  void* data() { return static_cast<std::byte*>(buffer_->data) + offset_; }
  const void* data() const { return static_cast<const std::byte*>(buffer_->data) + offset_; }
  template <class T>
  T* as() {
    return static_cast<T*>(data());
  }
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data());
  }
  template <class T>
  std::span<const T> span() const {
    return {as<T>(), static_cast<size_t>(count())};
  }

  // The same bytes with another shape of the same element count.
  Tensor reshaped(Shape shape) const { return Tensor(dtype_, std::move(shape), buffer_, offset_); }
  // A dense tensor of its own with the same elements (gathers strides).
  Result<Tensor> clone() const;

 private:
  DType dtype_ = DType::kUndefined;
  Shape shape_;
  Shape strides_;  // elements; empty: dense row-major
  size_t offset_ = 0;
  std::shared_ptr<Buffer> buffer_;
};

// What a running step sees of a value: always dense.
struct TensorView {
  DType dtype = DType::kUndefined;
  std::span<const int64_t> shape;
  void* data = nullptr;

  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  int64_t count() const { return element_count(shape); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// Reads element i of a dense numeric tensor as double or int64 (floats truncate); float16, bfloat16, float8 and sub-byte types
// included.
double get_double(DType dtype, const void* data, int64_t i);
int64_t get_int(DType dtype, const void* data, int64_t i);
void set_double(DType dtype, void* data, int64_t i, double value);
void set_int(DType dtype, void* data, int64_t i, int64_t value);

float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);  // round to nearest even
float bfloat16_to_float(uint16_t bits);
uint16_t float_to_bfloat16(float value);  // round to nearest even

template <class T>
Tensor Tensor::of(Shape shape, std::initializer_list<T> values) {
  auto made = allocate(dtype_for<T>(), std::move(shape));
  Tensor t = std::move(made).value();
  size_t i = 0;
  for (const T& v : values) t.as<T>()[i++] = v;
  return t;
}

}  // namespace ocior
