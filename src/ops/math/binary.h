// Element-wise operators of two inputs: parsing of the old broadcasting, inference, reference and run, written once. An operator
// gives its formula on doubles and integers (BinarySpec) and, where the kernel table has it, the float kernel. Thread-safe.
#pragma once

#include <optional>

#include "ops/loops.h"
#include "ops/operator.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {

// y[i] = f(a[i * step_a], b[i * step_b]).
template <class C>
using BinaryStrip = void (*)(const C* a, int64_t step_a, const C* b, int64_t step_b, C* y, int64_t n);

// The same from elements as they lie in memory to bool: what masks are made of.
template <class T>
using TestStrip = void (*)(const T* a, int64_t step_a, const T* b, int64_t step_b, uint8_t* y, int64_t n);
struct TestStrips {
  TestStrip<float> f32 = nullptr;
  TestStrip<int32_t> i32 = nullptr;
  TestStrip<int64_t> i64 = nullptr;
  TestStrip<uint8_t> u8 = nullptr;  // bool
};

struct BinarySpec {
  std::string_view name;
  TypeSet types;
  BinaryStrip<double> real = nullptr;
  BinaryStrip<int64_t> integer = nullptr;
  BinaryStrip<uint64_t> natural = nullptr;
  std::optional<BinaryFn> kernel = std::nullopt;                 // float inputs, float output
  bool to_bool = false;                                          // a comparison
  TestStrips tests = {};                                         // faster ways of a comparison
  bool divides = false;                                          // an integer 0 in input 1 is an error
  std::optional<Dim> (*dims)(const Dim&, const Dim&) = nullptr;  // on shape arithmetic
};

template <class F, class C, class Y = C>
void binary_strip(const C* a, int64_t step_a, const C* b, int64_t step_b, Y* y, int64_t n) {
  if (step_a && step_b)
    for (int64_t i = 0; i < n; ++i) y[i] = F::apply(a[i], b[i]);
  else if (step_a)
    for (int64_t i = 0; i < n; ++i) y[i] = F::apply(a[i], b[0]);
  else
    for (int64_t i = 0; i < n; ++i) y[i] = F::apply(a[0], b[i * step_b]);
}

// The spec of a formula F with `template <class C> static C apply(C a, C b)`.
template <class F>
constexpr BinarySpec binary_spec(std::string_view name, TypeSet types) {
  BinarySpec spec{.name = name, .types = types};
  spec.real = &binary_strip<F, double>;
  spec.integer = &binary_strip<F, int64_t>;
  spec.natural = &binary_strip<F, uint64_t>;
  return spec;
}

template <class F>
constexpr TestStrips test_strips() {
  return {&binary_strip<F, float, uint8_t>, &binary_strip<F, int32_t, uint8_t>, &binary_strip<F, int64_t, uint8_t>,
          &binary_strip<F, uint8_t>};
}

// How input 1's shape is aligned with input 0's: as NumPy does, or as opsets below 7 say.
struct OldBroadcast {
  bool old = false;        // opset < 7
  bool broadcast = false;  // else the shapes must be equal
  std::optional<int64_t> axis;

  static OldBroadcast parse(const NodeReader& node, int until = 7);
  // b's dims padded right with ones; `rank` is a's.
  Result<Dims> aligned(const Dims& a, const Dims& b) const;
  Result<FixedShape> aligned(std::span<const int64_t> a, std::span<const int64_t> b) const;
};

Status binary_infer(const BinarySpec& spec, const OldBroadcast& old, ShapeContext& c);
Status binary_reference(const BinarySpec& spec, const OldBroadcast& old, RefContext& c);
Status binary_run(const BinarySpec& spec, const OldBroadcast& old, CpuContext& c);

// The operator struct: T gives `info` and `static constexpr BinarySpec spec`.
template <class T>
struct Binary {
  OldBroadcast old;

  static T parse(const NodeReader& node) {
    T op;
    op.old = OldBroadcast::parse(node);
    return op;
  }
  Status infer(ShapeContext& c) const { return binary_infer(T::spec, old, c); }
  Status reference(RefContext& c) const { return binary_reference(T::spec, old, c); }
  Status run(CpuContext& c) const { return binary_run(T::spec, old, c); }
};

// Samples of broadcasting, empty and scalar shapes for `types`; `b` fills input 1.
std::vector<Sample> binary_samples(std::initializer_list<DType> dtypes, Fill a = Fill::kUniform, Fill b = Fill::kUniform);

}  // namespace ocior::ops
