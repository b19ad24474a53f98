// Pure operators on constants become constants. Large results that are no smaller than their inputs stay computed.
#include <algorithm>

#include "ops/evaluate.h"
#include "passes/pass.h"

namespace ocior::passes {
namespace {
constexpr size_t kMaxBytes = size_t{1} << 20;
}

Status fold_constants(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node& node = r.graph.node(id);
    const auto other_kind = [&](ValueId v) { return v != kNone && !r.graph.value(v).type.is_tensor(); };
    if (std::ranges::any_of(node.outputs, other_kind)) continue;  // constants are tensors
    if (!node.op->pure() || !node.op->subgraphs().empty() || node.op->domain() == ops::kOcior) continue;
    std::vector<const Tensor*> inputs;
    size_t in_bytes = 0;
    bool constant = true;
    for (const ValueId in : node.inputs) {
      inputs.push_back(in == kNone ? nullptr : r.constant(in));
      constant = constant && (in == kNone || inputs.back());
      if (inputs.back()) in_bytes += inputs.back()->bytes();
    }
    if (!constant) continue;
    if (node.op->name() == "Identity") {  // shared, not copied
      r.replace(node.outputs[0], node.inputs[0]);
      continue;
    }
    if (in_bytes > kMaxBytes) continue;
    auto values = ops::run_reference(*node.op, inputs, static_cast<int>(node.outputs.size()), kMaxBytes);
    if (!values.ok()) {
      r.miss(node, values.status().message());
      continue;
    }
    const std::vector<ValueId> outputs = node.outputs;
    for (size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i] != kNone) r.replace(outputs[i], r.make_constant(std::move((*values)[i]), r.graph.value(outputs[i]).name));
  }
  return {};
}

}  // namespace ocior::passes
