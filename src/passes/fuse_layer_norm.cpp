// LayerNormalization (Ba et al. 2016) as it is written below opset 17: (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * gamma
// + beta.
#include "base/error.h"
#include "passes/pattern.h"

namespace ocior::passes {
namespace {

Pat mean(Pat x) { return op("ReduceMean", {std::move(x)}); }

Pat pattern() {
  const Pat centred = any("x") - mean(any("x"));
  const Pat square = op("Pow", {centred, splat(2)}) | centred * centred;
  const Pat deviation = op("Sqrt", {mean(square) + number("eps")});
  const Pat gamma = any("gamma"), beta = any("beta");
  // Written out, so that the factors of a product are one set whatever the brackets.
  return centred / deviation * gamma + beta | centred * op("Reciprocal", {deviation}) * gamma + beta |
         centred * op("Div", {splat(1), deviation}) * gamma + beta;
}

bool is_last_axis(const Rewriter& r, const Node& mean, size_t rank) {
  if (attribute(*mean.op, "keepdims", 1) != 1) return false;
  std::vector<int64_t> axes;
  if (mean.inputs.size() > 1 && mean.inputs[1] != kNone) {
    if (const auto v = r.ints(mean.inputs[1])) axes = *v;
  } else if (const auto it = mean.op->attributes().find("axes"); it != mean.op->attributes().end()) {
    if (const auto* v = std::get_if<std::vector<int64_t>>(&it->second)) axes = *v;
  }
  return axes.size() == 1 && (axes[0] == -1 || axes[0] == static_cast<int64_t>(rank) - 1);
}

std::string unless(const Rewriter& r, const Match& m) {
  const Dims *x = r.dims(m.at("x")), *gamma = r.dims(m.at("gamma")), *beta = r.dims(m.at("beta"));
  if (!x || x->empty() || !gamma || !beta) return "the rank of the input or of the scale is unknown";
  if (gamma->size() != 1 || beta->size() != 1 || !(gamma->back() == x->back()) || !(beta->back() == x->back()))
    return fmt::format("scale {} and bias {} are no vectors over the last axis of {}", to_string(*gamma), to_string(*beta),
                       to_string(*x));
  for (const NodeId id : m.interior)
    if (const Node& n = r.graph.node(id); n.op->name() == "ReduceMean" && !is_last_axis(r, n, x->size()))
      return "the mean is not over the last axis alone";
  if (r.dtype(m.at("x")) != DType::kFloat) return "only float is fused";
  return "";
}

ValueId replace(Rewriter& r, const Match& m) {
  return r.make("LayerNormalization", {m.at("x"), m.at("gamma"), m.at("beta")},
                {{"axis", int64_t{-1}}, {"epsilon", static_cast<float>(m.number("eps"))}});
}

}  // namespace

Status fuse_layer_norm(Rewriter& r) { return apply(r, {"Add", pattern, unless, replace, "Sqrt"}); }

}  // namespace ocior::passes
