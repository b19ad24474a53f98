// What infer() knows about values: elements of small integer tensors as dims or numbers, and what reference() and run() share
// about outputs whose shape depends on values. Plain functions, thread-safe.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "ops/operator.h"

namespace ocior::ops {

inline constexpr int64_t kMaxData = 1024;  // elements of a tensor that infer() follows
inline constexpr int kMaxRank = 64;        // of tensors whose shape is computed in a run

// Whether values of this type are followed as dims: int32, int64 and bool.
bool carries_data(DType dtype);
// Elements of a small integer tensor as dims.
std::optional<Dims> constant_data(const Tensor& t);
// Elements of input i as dims, or nothing.
std::optional<Dims> data_of(ShapeContext& c, int i);
// Elements of integer input i when all are numbers (constants of any size count), else nothing.
std::optional<std::vector<int64_t>> ints_of(ShapeContext& c, int i);
// Numbers, when all are.
std::optional<Shape> known_shape(const Dims& dims);
std::optional<int64_t> known_product(const Dims& dims);
// Whether the rank of input i is known, and it.
inline bool ranked(const ShapeContext& c, int i) { return c.shape(i).has_value(); }
inline int64_t rank(const ShapeContext& c, int i) { return static_cast<int64_t>(c.shape(i)->size()); }
// Number of elements of a 1-D input i, when known.
std::optional<int64_t> length_of(const ShapeContext& c, int i);
// `count` dims nothing is known of.
Dims fresh_dims(ShapeContext& c, int64_t count, std::string_view hint);
// Output 0's data from input 0's, when known (operators that only change the shape).
void pass_data(ShapeContext& c);
// Output 0's data as f(element...) of the inputs' data, broadcast over ranks 0 and 1, when all is known and f always answers.
using DataFunction = std::function<std::optional<Dim>(std::span<const Dim>)>;
void combine_data(ShapeContext& c, const DataFunction& f);

// Sets of element types, as bits.
using TypeSet = uint32_t;
constexpr TypeSet type_bit(DType t) { return TypeSet{1} << static_cast<int>(t); }
template <class... T>
constexpr TypeSet types(T... t) {
  return (type_bit(t) | ...);
}
inline constexpr TypeSet kFloats = types(DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16);
inline constexpr TypeSet kInts = types(DType::kInt8, DType::kInt16, DType::kInt32, DType::kInt64, DType::kUint8, DType::kUint16,
                                       DType::kUint32, DType::kUint64);
inline constexpr TypeSet kNumbers = kFloats | kInts;
inline constexpr TypeSet kBools = type_bit(DType::kBool);
inline constexpr TypeSet kStrings = type_bit(DType::kString);
inline constexpr TypeSet kIndices = types(DType::kInt32, DType::kInt64);
inline constexpr TypeSet kAnyType = ~TypeSet{0};

// Errors when input i is no tensor or its element type is not of the set. An omitted input passes.
Status check_type(const ShapeContext& c, int i, TypeSet allowed, std::string_view op);
// Errors when the element types of inputs i and j differ.
Status check_same_type(const ShapeContext& c, int i, int j, std::string_view op);

// Makes output i have `shape`: keeps it when it has, else allocates it. For outputs whose shape depends on values.
Status ensure_output(CpuContext& c, int i, std::span<const int64_t> shape);
Status ensure_output(RefContext& c, int i, DType dtype, std::span<const int64_t> shape);

// A shape without heap memory.
struct FixedShape {
  int64_t dims[kMaxRank];
  int64_t rank = 0;
  operator std::span<const int64_t>() const { return {dims, static_cast<size_t>(rank)}; }  // NOLINT: a shape
  int64_t& operator[](int64_t i) { return dims[i]; }
  int64_t operator[](int64_t i) const { return dims[i]; }
  void push(int64_t d) { dims[rank++] = d; }
};
Result<FixedShape> fixed_shape(std::span<const int64_t> shape);

// Elements of an integer tensor without heap memory, at most kMaxRank of them.
Result<FixedShape> fixed_ints(DType dtype, const void* data, int64_t count, std::string_view what);
inline Result<FixedShape> fixed_ints(const TensorView& t, std::string_view what) {
  return fixed_ints(t.dtype, t.data, t.count(), what);
}
inline Result<FixedShape> fixed_ints(const Tensor& t, std::string_view what) {
  return fixed_ints(t.dtype(), t.data(), t.count(), what);
}

}  // namespace ocior::ops
