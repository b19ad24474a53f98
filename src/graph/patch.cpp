#include "graph/patch.h"

#include <algorithm>

#include "base/error.h"

namespace ocior::graph {

Result<std::vector<ValueId>> Patch::add(std::shared_ptr<const Op> op, std::vector<ValueId> inputs, int outputs, std::string name) {
  if (name.empty()) name = fmt::format("{}_{}", op->name(), graph_.node_count());
  std::vector<ValueId> out;
  for (int i = 0; i < outputs; ++i) out.push_back(graph_.add_value(fmt::format("{}/{}", name, i), {}));
  const NodeId id = graph_.add_node(std::move(name), std::move(op), std::move(inputs), out);
  if (Status s = infer_node(graph_, id); !s.ok()) {
    for (const ValueId v : graph_.node(id).inputs)
      if (v != kNone) std::erase_if(graph_.mutable_value(v).uses, [id](const Use& u) { return u.node == id; });
    graph_.nodes_[static_cast<size_t>(id)].dead = true;
    return s;
  }
  return out;
}

ValueId Patch::constant(Tensor tensor, const std::string& name_hint) {
  return graph_.add_constant(fmt::format("{}#{}", name_hint, graph_.value_count()), std::make_shared<const Tensor>(std::move(tensor)));
}

void Patch::replace(ValueId from, ValueId to) {
  if (from == to) return;
  ValueInfo& old = graph_.mutable_value(from);
  ValueInfo& fresh = graph_.mutable_value(to);
  // A value never loses what is known of its type: the new one inherits the old one's shape when its own is unknown.
  if (!fresh.type.shape && old.type.shape) fresh.type.shape = old.type.shape;
  for (const Use& use : old.uses) {
    if (use.node == kNone) graph_.outputs_[static_cast<size_t>(use.index)] = to;
    else graph_.nodes_[static_cast<size_t>(use.node)].inputs[static_cast<size_t>(use.index)] = to;
    fresh.uses.push_back(use);
  }
  old.uses.clear();
}

void Patch::set_input(NodeId node, int index, ValueId value) {
  ValueId& slot = graph_.nodes_[static_cast<size_t>(node)].inputs[static_cast<size_t>(index)];
  if (slot == value) return;
  if (slot != kNone) std::erase(graph_.mutable_value(slot).uses, Use{node, index});
  if (value != kNone) graph_.mutable_value(value).uses.push_back({node, index});
  slot = value;
}

int Patch::sweep() {
  std::vector<NodeId> work;
  for (NodeId i = 0; i < static_cast<NodeId>(graph_.node_count()); ++i) work.push_back(i);
  int removed = 0;
  while (!work.empty()) {
    const NodeId id = work.back();
    work.pop_back();
    Node& node = graph_.nodes_[static_cast<size_t>(id)];
    if (node.dead) continue;
    const bool read = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId v) { return v != kNone && !graph_.value(v).uses.empty(); });
    if (read) continue;
    node.dead = true;
    ++removed;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId v = node.inputs[i];
      if (v == kNone) continue;
      std::erase(graph_.mutable_value(v).uses, Use{id, static_cast<int>(i)});
      if (graph_.value(v).producer != kNone && graph_.value(v).uses.empty()) work.push_back(graph_.value(v).producer);
    }
  }
  return removed;
}

}  // namespace ocior::graph
