// Transpose of Transpose is one Transpose, or none.
#include <algorithm>

#include "passes/pass.h"

namespace ocior::passes {

Status merge_transposes(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node node = r.graph.node(id);
    if (node.dead || node.op->name() != "Transpose" || !node.op->domain().empty()) continue;
    const Node* inner = r.made_by(node.inputs[0], "Transpose");
    if (!inner || !r.dims(node.inputs[0])) continue;
    const size_t rank = r.dims(node.inputs[0])->size();
    const auto outer_perm = permutation(*node.op, rank), inner_perm = permutation(*inner->op, rank);
    std::vector<int64_t> perm(rank);
    for (size_t i = 0; i < rank; ++i) perm[i] = inner_perm[static_cast<size_t>(outer_perm[i])];
    const ValueId source = inner->inputs[0];
    if (std::is_sorted(perm.begin(), perm.end())) {
      r.replace(node.outputs[0], source);
    } else if (const ValueId fresh = r.make("Transpose", {source}, {{"perm", perm}}); fresh != kNone) {
      r.replace(node.outputs[0], fresh);
    }
  }
  return {};
}

}  // namespace ocior::passes
