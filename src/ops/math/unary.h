// Element-wise operators of one input, written once: an operator gives its formula (UnarySpec) and, where the kernel table has
// it, the float kernel. Thread-safe.
#pragma once

#include <cmath>
#include <optional>

#include "ops/loops.h"
#include "ops/operator.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {

// Parameters of a formula: two attributes.
struct UnaryParameters {
  double p = 0, q = 0;
};

template <class C>
using UnaryStrip = void (*)(const C* x, C* y, int64_t n, const UnaryParameters& parameters);

struct UnarySpec {
  std::string_view name;
  TypeSet types;
  UnaryStrip<double> real = nullptr;
  UnaryStrip<int64_t> integer = nullptr;   // null: the same value
  UnaryStrip<uint64_t> natural = nullptr;  // null: the same value
  std::optional<UnaryFn> kernel = std::nullopt;
  bool to_bool = false;
  std::optional<Dim> (*dims)(const Dim&) = nullptr;
};

template <class F, class C>
void unary_strip(const C* x, C* y, int64_t n, const UnaryParameters& parameters) {
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (requires { F::apply(x[i], parameters); }) y[i] = F::apply(x[i], parameters);
    else y[i] = F::apply(x[i]);
  }
}

// A formula on floats only.
template <class F>
constexpr UnarySpec real_spec(std::string_view name, std::optional<UnaryFn> kernel = std::nullopt) {
  return {.name = name, .types = kFloats, .real = &unary_strip<F, double>, .kernel = kernel};
}
// A formula on floats and signed integers; unsigned ones keep their value.
template <class F>
constexpr UnarySpec number_spec(std::string_view name, std::optional<UnaryFn> kernel = std::nullopt) {
  return {
      .name = name, .types = kNumbers, .real = &unary_strip<F, double>, .integer = &unary_strip<F, int64_t>, .kernel = kernel};
}

Status unary_infer(const UnarySpec& spec, ShapeContext& c);
Status unary_reference(const UnarySpec& spec, const UnaryParameters& parameters, RefContext& c);
Status unary_run(const UnarySpec& spec, const UnaryParameters& parameters, CpuContext& c);

// The operator struct: T gives `info`, `static constexpr UnarySpec spec` and, when it has attributes, `static UnaryParameters
// read(node)`.
template <class T>
struct Unary {
  UnaryParameters parameters;

  static T parse(const NodeReader& node) {
    T op;
    if (node.opset() < 6) node.ignore("consumed_inputs");
    if constexpr (requires { T::read(node); }) op.parameters = T::read(node);
    return op;
  }
  Status infer(ShapeContext& c) const { return unary_infer(T::spec, c); }
  Status reference(RefContext& c) const { return unary_reference(T::spec, parameters, c); }
  Status run(CpuContext& c) const { return unary_run(T::spec, parameters, c); }
};

// Samples of every shape and float type (and `more` types).
std::vector<Sample> unary_samples(Fill fill = Fill::kNormal, std::initializer_list<DType> more = {}, double tolerance = 1e-6);

}  // namespace ocior::ops
