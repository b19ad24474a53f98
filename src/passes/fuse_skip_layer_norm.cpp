// LayerNormalization of a sum of two equal shapes, the sum read by nobody else: one pass over memory (ai.ocior:SkipLayerNorm).
#include "passes/pass.h"

namespace ocior::passes {

Status fuse_skip_layer_norm(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node node = r.graph.node(id);
    if (node.dead || node.op->name() != "LayerNormalization" || !node.op->domain().empty()) continue;
    const Node* sum = r.made_by(node.inputs[0], "Add");
    if (!sum) continue;
    const Dims* x = r.dims(node.inputs[0]);
    const int64_t axis = attribute(*node.op, "axis", -1);
    if (!x || (axis != -1 && axis != static_cast<int64_t>(x->size()) - 1) || node.outputs.size() > 1 ||
        r.dtype(node.inputs[0]) != DType::kFloat) {
      r.miss(node, "it is not over the last axis, has further outputs, or is not float");
      continue;
    }
    if (!r.single_use(node.inputs[0]) || !r.same_shape(sum->inputs[0], sum->inputs[1])) {
      r.miss(node, "the sum before it is read elsewhere, or its operands have different shapes");
      continue;
    }
    const auto epsilon = node.op->attributes().find("epsilon");
    graph::Attributes attributes;
    if (epsilon != node.op->attributes().end()) attributes["epsilon"] = epsilon->second;
    const ValueId beta = node.inputs.size() > 2 ? node.inputs[2] : kNone;
    const ValueId y =
        r.make("SkipLayerNorm", {sum->inputs[0], sum->inputs[1], node.inputs[1], beta}, std::move(attributes), ops::kOcior);
    if (y != kNone) r.replace(node.outputs[0], y);
  }
  return {};
}

}  // namespace ocior::passes
