// What a pass is, and the tools it works with. Passes run one at a time on one graph; none keeps state between runs.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "graph/patch.h"
#include "ops/operator.h"

namespace ocior::passes {

using graph::Graph;
using graph::kNone;
using graph::Node;
using graph::NodeId;
using graph::ValueId;

// Levels of SimplifyOptions: what a pass needs to run.
inline constexpr int kBasic = 1, kExtended = 2;

// A pass's hands: reading helpers, and changes through a Patch. Changed nodes are visible at once; unread ones die at the end of
// the pass.
class Rewriter {
 public:
  explicit Rewriter(Graph& graph) : graph(graph), patch_(graph) {}

  Graph& graph;

  // Live nodes in an order in which producers come first, as they were when the pass began.
  Result<std::vector<NodeId>> order() const { return graph.order(); }

  // The node that makes `v` when it is a live `op` of `domain`, else null.
  const Node* made_by(ValueId v, std::string_view op, std::string_view domain = "") const;
  // Exactly one reader (a node or the graph's output).
  bool single_use(ValueId v) const { return graph.value(v).uses.size() == 1; }
  // The value of every element of a float or integer constant of at most 1,024 equal elements.
  std::optional<double> splat(ValueId v) const;
  const Tensor* constant(ValueId v) const { return graph.constant(v); }
  // Symbolic shape, or null when the rank is unknown.
  const Dims* dims(ValueId v) const;
  DType dtype(ValueId v) const { return graph.value(v).type.dtype; }
  bool same_shape(ValueId a, ValueId b) const;
  std::optional<std::vector<int64_t>> ints(ValueId v) const;  // elements of a small integer constant

  // New operators of the newest opset. Null (kNone) and a note when the operator refuses the attributes or types.
  ValueId make(std::string_view op, std::vector<ValueId> inputs, graph::Attributes attributes = {}, std::string_view domain = "");
  ValueId make_constant(Tensor tensor, const std::string& hint) { return patch_.constant(std::move(tensor), hint); }
  // Readers of `from` read `to`; counts as one firing.
  void replace(ValueId from, ValueId to);
  void set_input(NodeId node, int index, ValueId v) { patch_.set_input(node, index, v); }
  int sweep() { return patch_.sweep(); }

  // Tells `ocior explain` why a pass did not fire at a node that looked like its root.
  void miss(const Node& node, std::string reason);

  int fired = 0;
  std::vector<std::string> misses;

 private:
  graph::Patch patch_;
};

struct Pass {
  std::string_view name;
  int level;
  Status (*run)(Rewriter& r);
};

// An integer attribute of an operator as it was imported.
int64_t attribute(const graph::Op& op, const std::string& name, int64_t otherwise);
// The permutation of a Transpose of rank `rank` (reversed when not given).
std::vector<int64_t> permutation(const graph::Op& op, size_t rank);

}  // namespace ocior::passes
