// GELU (Hendrycks and Gimpel 2016), exact and tanh form, in whatever bracketing the exporter chose.
#include <numbers>

#include "passes/pattern.h"

namespace ocior::passes {
namespace {

// x/2 * (1 + erf(x / sqrt 2))
Pat exact() {
  const Pat x = any("x");
  const Pat scaled = x / std::numbers::sqrt2 | x * (1 / std::numbers::sqrt2);
  const Pat bracket = op("Erf", {scaled}) + 1.0;
  return x * bracket * 0.5 | (x / 2.0) * bracket;
}

// x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))
Pat with_tanh() {
  const Pat x = any("x");
  const Pat cube = op("Pow", {x, splat(3)}) * 0.044715 | x * x * x * 0.044715;
  const Pat inner = (x + cube) * 0.7978845608028654;
  const Pat factored = x * (x * x * 0.044715 + 1.0) * 0.7978845608028654;
  return x * (op("Tanh", {inner | factored}) + 1.0) * 0.5;
}

std::string only_floats(const Rewriter& r, const Match& m) {
  return r.dtype(m.at("x")) == DType::kFloat || r.dtype(m.at("x")) == DType::kFloat16 ? "" : "only float and float16 are fused";
}

ValueId make_exact(Rewriter& r, const Match& m) { return r.make("Gelu", {m.at("x")}, {{"approximate", std::string("none")}}); }
ValueId make_tanh(Rewriter& r, const Match& m) { return r.make("Gelu", {m.at("x")}, {{"approximate", std::string("tanh")}}); }

}  // namespace

Status fuse_gelu(Rewriter& r) {
  OCIOR_RETURN_IF_ERROR(apply(r, {"Mul", exact, only_floats, make_exact, "Erf"}));
  return apply(r, {"Mul", with_tanh, only_floats, make_tanh, "Tanh"});
}

}  // namespace ocior::passes
