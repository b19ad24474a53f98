// Stage 3: types and symbolic shapes, node by node in order.
#include <algorithm>

#include "base/error.h"
#include "graph/graph.h"

namespace ocior::graph {
namespace {

constexpr size_t kMaxData = 1024;  // elements of a value whose contents inference follows

class GraphShapeContext final : public ShapeContext {
 public:
  GraphShapeContext(Graph& graph, NodeId node)
      : graph_(graph), node_id_(node), node_(graph.node(node)), data_(node_.inputs.size()) {}

  int inputs() const override { return static_cast<int>(node_.inputs.size()); }
  int outputs() const override { return static_cast<int>(node_.outputs.size()); }
  bool has(int i) const override { return i < inputs() && input(i) != kNone; }
  const Type& in(int i) const override { return graph_.value(input(i)).type; }
  const Tensor* constant(int i) const override { return has(i) ? graph_.constant(input(i)) : nullptr; }

  const Dims* data(int i) const override {
    if (!has(i)) return nullptr;
    const ValueInfo& v = graph_.value(input(i));
    if (v.data) return v.data.get();
    const Tensor* t = constant(i);
    if (!t || (t->dtype() != DType::kInt64 && t->dtype() != DType::kInt32 && t->dtype() != DType::kBool) ||
        t->count() > static_cast<int64_t>(kMaxData))
      return nullptr;
    auto& slot = data_[static_cast<size_t>(i)];
    if (!slot) {
      slot = std::make_unique<Dims>();
      for (int64_t k = 0; k < t->count(); ++k) slot->push_back(get_int(t->dtype(), t->data(), k));
    }
    return slot.get();
  }

  void set(int i, Type type) override {  // outputs that the node does not name are ignored
    if (i >= outputs()) return;
    const ValueId id = node_.outputs[static_cast<size_t>(i)];
    if (id != kNone) graph_.mutable_value(id).type = std::move(type);
  }
  void set_data(int i, Dims elements) override {
    if (i >= outputs()) return;
    const ValueId id = node_.outputs[static_cast<size_t>(i)];
    if (id != kNone && elements.size() <= kMaxData)
      graph_.mutable_value(id).data = std::make_shared<const Dims>(std::move(elements));
  }
  Dim fresh(std::string_view hint) override {
    return Dim::symbol(fmt::format("{}_{}_{}", hint,
                                   node_.outputs.empty() || node_.outputs[0] == kNone ? node_id_ : node_.outputs[0], counter_++));
  }

 private:
  ValueId input(int i) const { return node_.inputs[static_cast<size_t>(i)]; }

  Graph& graph_;
  NodeId node_id_;
  const Node node_;  // a copy: infer of subgraphs may add values
  mutable std::vector<std::unique_ptr<Dims>> data_;
  int counter_ = 0;
};

// Dimensions that are all known are not negative, and their product can be counted.
Status check_count(const Type& type) {
  if (!type.is_tensor() || !type.shape) return {};
  Shape numbers;
  for (const Dim& d : *type.shape)
    if (d.known()) numbers.push_back(d.value());
  return numbers.size() == type.shape->size() ? checked_element_count(numbers).status() : Status();
}

}  // namespace

Status infer_node(Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  std::vector<Type> declared(node.outputs.size());
  for (size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNone) declared[i] = graph.value(node.outputs[i]).type;
  for (const ValueId in : node.inputs) {
    if (in == kNone) continue;
    const ValueInfo& v = graph.value(in);
    if (v.type.is_tensor() && v.type.dtype == DType::kUndefined)
      return error(Code::kInvalidGraph, "node '{}' ({}): the type of its input '{}' is unknown", node.name, node.op->name(),
                   v.name);
    if (!v.type.is_tensor() && !node.op->any_kind())
      return error(Code::kInvalidGraph, "node '{}' ({}): its input '{}' is {}; expected a tensor", node.name, node.op->name(),
                   v.name, v.type.text());
  }
  GraphShapeContext context(graph, id);
  OCIOR_RETURN_IF_ERROR(with_context(node.op->infer(context), fmt::format("node '{}' ({})", node.name, node.op->name())));
  for (size_t i = 0; i < node.outputs.size(); ++i) {  // where inference knows less than the file declares, the file wins
    if (node.outputs[i] == kNone) continue;
    Type& type = graph.mutable_value(node.outputs[i]).type;
    if (declared[i].kind != type.kind && (!declared[i].is_tensor() || declared[i].dtype != DType::kUndefined))
      return error(Code::kInvalidGraph, "node '{}' ({}) gives {} for '{}', but the model declares {}", node.name, node.op->name(),
                   type.text(), graph.value(node.outputs[i]).name, declared[i].text());
    if (declared[i].dtype != DType::kUndefined && type.is_tensor() && type.dtype != DType::kUndefined &&
        declared[i].dtype != type.dtype)
      return error(Code::kInvalidGraph, "node '{}' ({}) gives {} for '{}', but the model declares {}", node.name, node.op->name(),
                   name_of(type.dtype), graph.value(node.outputs[i]).name, name_of(declared[i].dtype));
    if (type.dtype == DType::kUndefined && type.is_tensor()) type.dtype = declared[i].dtype;
    if (type.is_tensor() && !type.shape && declared[i].shape) type.shape = declared[i].shape;
    OCIOR_RETURN_IF_ERROR(with_context(check_count(type), fmt::format("node '{}' ({})", node.name, node.op->name())));
  }
  return {};
}

Status infer(Graph& graph) {
  OCIOR_ASSIGN(const auto order, graph.order());
  for (const NodeId id : order) OCIOR_RETURN_IF_ERROR(infer_node(graph, id));
  return {};
}

}  // namespace ocior::graph
