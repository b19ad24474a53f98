// Patch: the only way in which a pass changes a graph. It adds nodes and constants, redirects readers and removes what became
// unread, keeping use lists, graph outputs and inferred types right. Applied at once; a Patch is not reusable after apply().
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace ocior::graph {

class Patch {
 public:
  explicit Patch(Graph& graph) : graph_(graph) {}

  // A new node reading `inputs`; its output values are made and typed by the operator's own infer(). Fails when infer() does.
  Result<std::vector<ValueId>> add(std::shared_ptr<const Op> op, std::vector<ValueId> inputs, int outputs = 1,
                                   std::string name = "");
  ValueId constant(Tensor tensor, const std::string& name_hint);
  // All readers of `from` (graph outputs too) read `to` instead.
  void replace(ValueId from, ValueId to);
  // Changes one input of one node.
  void set_input(NodeId node, int index, ValueId value);
  // Marks nodes whose outputs nobody reads as dead, transitively; returns how many. Impure nodes go too when unread.
  int sweep();

 private:
  Graph& graph_;
};

}  // namespace ocior::graph
