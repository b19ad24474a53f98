// Comparisons whose answer is known without values: positions (a Range from 0 upwards) are never negative. Exporters write such
// conditions into attention masks. `And` with a condition that always holds is its other side.
#include "passes/conditions.h"

namespace ocior::passes {
namespace {

// Whether every element of v is >= 0.
bool never_negative(const Rewriter& r, ValueId v, int depth = 16) {
  if (v == kNone || depth == 0) return false;
  if (const auto c = r.splat(v)) return *c >= 0;
  const NodeId producer = r.graph.value(v).producer;
  if (producer == kNone) return false;
  const Node& node = r.graph.node(producer);
  const std::string_view op = node.op->name();
  if (!node.op->domain().empty()) return false;
  if (op == "Range") {
    const auto start = r.splat(node.inputs[0]), step = r.splat(node.inputs[2]);
    return start && step && *start >= 0 && *step > 0;
  }
  if (op == "Shape" || op == "Size") return true;
  if (op == "Unsqueeze" || op == "Squeeze" || op == "Reshape" || op == "Expand" || op == "Identity" || op == "Transpose" ||
      op == "Flatten")
    return never_negative(r, node.inputs[0], depth - 1);
  return false;
}

}  // namespace

bool always_true(const Rewriter& r, ValueId v, int depth) {
  if (v == kNone || depth == 0 || r.dtype(v) != DType::kBool) return false;
  if (const auto c = r.splat(v)) return *c != 0;
  const NodeId producer = r.graph.value(v).producer;
  if (producer == kNone) return false;
  const Node& node = r.graph.node(producer);
  const std::string_view op = node.op->name();
  if (!node.op->domain().empty()) return false;
  if (op == "GreaterOrEqual") {
    const auto right = r.splat(node.inputs[1]);
    return right && *right <= 0 && never_negative(r, node.inputs[0]);
  }
  // Half the depth for each side, so that a chain of doubled operands costs linear time.
  if (op == "And") return always_true(r, node.inputs[0], depth / 2) && always_true(r, node.inputs[1], depth / 2);
  if (op == "Or") return always_true(r, node.inputs[0], depth / 2) || always_true(r, node.inputs[1], depth / 2);
  if (op == "ConstantOfShape") {
    const auto it = node.op->attributes().find("value");
    const auto* t = it == node.op->attributes().end() ? nullptr : std::get_if<Tensor>(&it->second);
    return t && t->count() == 1 && get_int(t->dtype(), t->data(), 0) != 0;
  }
  if (op == "Unsqueeze" || op == "Squeeze" || op == "Reshape" || op == "Expand" || op == "Identity" || op == "Cast")
    return always_true(r, node.inputs[0], depth - 1);
  return false;
}

Status fold_comparisons(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node node = r.graph.node(id);
    if (node.dead || node.op->name() != "And" || !node.op->domain().empty()) continue;
    for (size_t i = 0; i < 2; ++i) {
      const ValueId other = node.inputs[1 - i], out = node.outputs[0];
      if (!always_true(r, node.inputs[i]) || !r.same_shape(other, out)) continue;
      r.replace(out, other);
      break;
    }
  }
  return {};
}

}  // namespace ocior::passes
