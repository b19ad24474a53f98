// The intermediate representation: nodes in SSA form over values. Read it freely; change it only through a Patch (patch.h).
// Not thread-safe while being changed; immutable graphs may be shared.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "graph/op.h"

namespace ocior::graph {

using ValueId = int32_t;
using NodeId = int32_t;
inline constexpr int32_t kNone = -1;

struct Use {
  NodeId node;  // kNone: a graph output
  int index;    // input number of the node, or output number of the graph
  bool operator==(const Use&) const = default;
};

struct ValueInfo {
  std::string name;
  Type type;
  std::shared_ptr<const Tensor> constant;  // initializers and folded values
  std::shared_ptr<const Dims> data;        // elements of a small integer value, when inference knows them at least symbolically
  bool overridable = false;                // an initializer that is also a graph input
  NodeId producer = kNone;
  int producer_index = 0;
  std::vector<Use> uses;
  bool is_constant() const { return constant != nullptr && !overridable; }
};

struct Node {
  std::string name;
  std::shared_ptr<const Op> op;
  std::vector<ValueId> inputs;   // kNone: omitted
  std::vector<ValueId> outputs;  // kNone: nobody asked
  bool dead = false;
};

class Graph {
 public:
  std::string name;

  // Reading.
  std::span<const ValueId> inputs() const { return inputs_; }  // in the model's order, overridable initializers included
  std::span<const ValueId> outputs() const { return outputs_; }
  std::span<const std::string> output_names() const { return output_names_; }  // of the file, whatever value a pass put there
  // Values of the outer graph that this subgraph reads. The node that owns subgraphs has them as extra inputs behind its own,
  // subgraph by subgraph in the order of Op::subgraphs().
  std::span<const ValueId> captures() const { return captures_; }
  const ValueInfo& value(ValueId id) const { return values_[static_cast<size_t>(id)]; }
  const Node& node(NodeId id) const { return nodes_[static_cast<size_t>(id)]; }
  size_t value_count() const { return values_.size(); }
  size_t node_count() const { return nodes_.size(); }  // dead ones included
  // Live nodes so that every producer comes before its readers; stable. Fails on a cycle and names it.
  Result<std::vector<NodeId>> order() const;
  const Tensor* constant(ValueId id) const { return id == kNone || value(id).overridable ? nullptr : value(id).constant.get(); }

  // Building (import and Patch only).
  ValueId add_value(std::string value_name, Type type);
  ValueId add_constant(std::string value_name, std::shared_ptr<const Tensor> tensor);
  NodeId add_node(std::string node_name, std::shared_ptr<const Op> op, std::vector<ValueId> inputs, std::vector<ValueId> outputs);
  void add_input(ValueId id) { inputs_.push_back(id); }
  void add_capture(ValueId id) { captures_.push_back(id); }
  void add_output(ValueId id, std::string output_name);
  ValueInfo& mutable_value(ValueId id) { return values_[static_cast<size_t>(id)]; }

 private:
  friend class Patch;
  std::vector<ValueInfo> values_;
  std::vector<Node> nodes_;
  std::vector<ValueId> inputs_, outputs_, captures_;
  std::vector<std::string> output_names_;
};

// Readable text: inputs, nodes in order with types and attributes, outputs.
std::string print(const Graph& graph);

// Checks the SSA form, the use lists and that every node's inputs exist; an error names node and value.
Status verify(const Graph& graph);

// Infers types and symbolic shapes of every value (stage 3); declared types of inputs are taken as given, declared output types
// are merged.
Status infer(Graph& graph);
// The same for one node, whose inputs' types are known. Errors name the node.
Status infer_node(Graph& graph, NodeId node);

}  // namespace ocior::graph
