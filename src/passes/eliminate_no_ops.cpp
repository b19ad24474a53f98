// Operators that give back their input: same type, same elements.
#include <algorithm>

#include "passes/pass.h"

namespace ocior::passes {
namespace {

bool is_view(std::string_view op) {
  return op == "Identity" || op == "Reshape" || op == "Squeeze" || op == "Unsqueeze" || op == "Flatten" || op == "Expand" ||
         op == "Dropout";
}

bool is_identity_permutation(const Node& node, size_t rank) {
  const auto perm = permutation(*node.op, rank);
  return std::is_sorted(perm.begin(), perm.end());
}

// A Slice that keeps every extent and does not run backwards. In rank 0 a run must see that there are no bounds.
bool keeps_order(const Rewriter& r, const Node& node) {
  if (r.dims(node.inputs[0])->empty()) return false;
  if (node.inputs.size() < 5 || node.inputs[4] == kNone) return node.op->attributes().empty();
  const auto steps = r.ints(node.inputs[4]);
  return steps && std::all_of(steps->begin(), steps->end(), [](int64_t s) { return s == 1; });
}

// A Dropout that is known not to train.
bool drops_nothing(const Rewriter& r, const Node& node) {
  return node.inputs.size() < 3 || node.inputs[2] == kNone || r.splat(node.inputs[2]) == 0.0;
}

// The operand that a binary operator with a neutral constant gives back.
ValueId neutral(const Rewriter& r, const Node& node) {
  const std::string_view op = node.op->name();
  if (node.inputs.size() != 2) return kNone;
  const auto right = r.splat(node.inputs[1]), left = r.splat(node.inputs[0]);
  if (right && ((op == "Add" && *right == 0) || (op == "Sub" && *right == 0) || (op == "Mul" && *right == 1) ||
                (op == "Div" && *right == 1)))
    return node.inputs[0];
  if (left && ((op == "Add" && *left == 0) || (op == "Mul" && *left == 1))) return node.inputs[1];
  return kNone;
}

ValueId same_as(const Rewriter& r, const Node& node) {
  const std::string_view op = node.op->name();
  const ValueId out = node.outputs[0], in = node.inputs.empty() ? kNone : node.inputs[0];
  if (in == kNone) return kNone;
  if (op == "Identity") return in;
  if (const ValueId v = neutral(r, node); v != kNone) return r.same_shape(v, out) && r.dtype(v) == r.dtype(out) ? v : kNone;
  if (op == "Where") {
    const auto condition = r.splat(in);
    const ValueId chosen = !condition ? kNone : node.inputs[*condition != 0 ? 1 : 2];
    return chosen != kNone && r.same_shape(chosen, out) ? chosen : kNone;
  }
  if (op == "And" || op == "Or") {
    for (int i = 0; i < 2; ++i) {
      const auto c = r.splat(node.inputs[static_cast<size_t>(i)]);
      const ValueId other = node.inputs[static_cast<size_t>(1 - i)];
      if (c && (*c != 0) == (op == "And") && r.same_shape(other, out)) return other;
    }
    return kNone;
  }
  if (!r.same_shape(in, out) || r.dtype(in) != r.dtype(out)) return kNone;
  if (op == "Dropout" && !drops_nothing(r, node)) return kNone;
  if (is_view(op) || op == "Cast") return in;
  if (op == "Concat" && node.inputs.size() == 1) return in;
  if (op == "Transpose" && is_identity_permutation(node, r.dims(in)->size())) return in;
  if (op == "Slice" && keeps_order(r, node)) return in;
  return kNone;
}

}  // namespace

Status eliminate_no_ops(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node& node = r.graph.node(id);
    if (!node.op->domain().empty() || node.outputs.empty() || node.outputs[0] == kNone ||
        r.graph.value(node.outputs[0]).uses.empty())
      continue;
    if (node.outputs.size() > 1 && node.outputs[1] != kNone) continue;
    if (const ValueId v = same_as(r, node); v != kNone) r.replace(node.outputs[0], v);
  }
  return {};
}

}  // namespace ocior::passes
