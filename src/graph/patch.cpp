#include "graph/patch.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace ocior::graph {

Result<std::vector<ValueId>> Patch::add(std::shared_ptr<const Op> op, std::vector<ValueId> inputs, int outputs,
                                        std::string name) {
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
  return graph_.add_constant(fmt::format("{}#{}", name_hint, graph_.value_count()),
                             std::make_shared<const Tensor>(std::move(tensor)));
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
  std::vector<size_t> readers(graph_.value_count());
  for (size_t v = 0; v < readers.size(); ++v) readers[v] = graph_.values_[v].uses.size();
  std::vector<NodeId> work(graph_.node_count());
  std::iota(work.begin(), work.end(), 0);
  std::vector<ValueId> touched;
  int removed = 0;
  while (!work.empty()) {
    Node& node = graph_.nodes_[static_cast<size_t>(work.back())];
    work.pop_back();
    if (node.dead || std::any_of(node.outputs.begin(), node.outputs.end(),
                                 [&](ValueId v) { return v != kNone && readers[static_cast<size_t>(v)] > 0; }))
      continue;
    node.dead = true;
    ++removed;
    for (const ValueId v : node.inputs) {
      if (v == kNone) continue;
      touched.push_back(v);
      if (--readers[static_cast<size_t>(v)] == 0 && graph_.value(v).producer != kNone) work.push_back(graph_.value(v).producer);
    }
  }
  // Use lists are cleaned once per value: a value may have as many dying readers as the graph has nodes.
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  for (const ValueId v : touched)
    std::erase_if(graph_.mutable_value(v).uses, [&](const Use& u) { return u.node != kNone && graph_.node(u.node).dead; });
  return removed;
}

}  // namespace ocior::graph
