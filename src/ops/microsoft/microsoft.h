// The operator set that ONNX Runtime's optimizers write (docs/ContribOperators.md there).
#pragma once

#include "ops/nn/numeric.h"
#include "ops/operator.h"

namespace ocior::ops {

inline constexpr std::string_view kMicrosoft = "com.microsoft";

// Fails when input i is given: for inputs of a schema that no path here reads.
inline Status refuse_input(const ShapeContext& c, int i, std::string_view name) {
  if (!c.has(i)) return {};
  return error(Code::kNotImplemented, "input {} ({}) is not supported", i, name);
}

// Fails unless input i, when given, can have shape `want`.
inline Status check_input(const ShapeContext& c, int i, std::string_view name, const Dims& want) {
  if (!c.has(i) || !c.shape(i) || nn::may_equal(*c.shape(i), want)) return {};
  return error(Code::kInvalidArgument, "{} has shape {}; expected {}", name, to_string(*c.shape(i)), to_string(want));
}

}  // namespace ocior::ops
