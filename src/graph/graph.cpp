#include "graph/graph.h"

#include <algorithm>
#include <deque>
#include "base/hash.h"

#include "base/error.h"

namespace ocior::graph {

std::string Type::text() const {
  switch (kind) {
    case Value::Kind::kTensor: return std::string(name_of(dtype)) + (shape ? to_string(*shape) : "[?]");
    case Value::Kind::kSequence: return "seq(" + (element ? element->text() : "?") + ")";
    case Value::Kind::kOptional: return "optional(" + (element ? element->text() : "?") + ")";
    case Value::Kind::kMap: return "map(" + std::string(name_of(dtype)) + "," + (element ? element->text() : "?") + ")";
    case Value::Kind::kNone: break;
  }
  return "?";
}

namespace {

constexpr int64_t kPrintedElements = 16;

std::string text_of(const Tensor& t) {
  std::string out = std::string(name_of(t.dtype())) + to_string(std::span<const int64_t>(t.shape()));
  if (t.dtype() == DType::kString) {
    if (t.count() <= kPrintedElements) return out + fmt::format("{{{}}}", fmt::join(t.span<std::string>(), ", "));
    std::string all;
    for (const auto& s : t.span<std::string>()) all += std::to_string(s.size()) + ":" + s;
    return out + fmt::format("#{:016x}", XXH3_64bits(all.data(), all.size()));
  }
  const bool is_complex = t.dtype() == DType::kComplex64 || t.dtype() == DType::kComplex128;
  if (t.count() > kPrintedElements || is_complex) return out + fmt::format("#{:016x}", XXH3_64bits(t.data(), t.bytes()));
  out += "{";
  for (int64_t i = 0; i < t.count(); ++i)
    out += (i ? ", " : "") + (is_floating(t.dtype()) ? fmt::format("{}", get_double(t.dtype(), t.data(), i))
                                                     : fmt::format("{}", get_int(t.dtype(), t.data(), i)));
  return out + "}";
}

struct AttributePrinter {
  std::string operator()(int64_t v) const { return std::to_string(v); }
  std::string operator()(float v) const { return fmt::format("{}f", v); }
  std::string operator()(const std::string& v) const { return "\"" + v + "\""; }
  std::string operator()(const std::vector<int64_t>& v) const { return fmt::format("[{}]", fmt::join(v, ", ")); }
  std::string operator()(const std::vector<float>& v) const { return fmt::format("[{}]f", fmt::join(v, ", ")); }
  std::string operator()(const std::vector<std::string>& v) const { return fmt::format("[\"{}\"]", fmt::join(v, "\", \"")); }
  std::string operator()(const Tensor& v) const { return text_of(v); }
  std::string operator()(const std::shared_ptr<Graph>& v) const {
    return fmt::format("graph@{}", static_cast<const void*>(v.get()));
  }
  std::string operator()(const Type& v) const { return v.text(); }
};

}  // namespace

std::string to_string(const Attributes& attributes) {
  std::string out;
  for (const auto& [name, value] : attributes)
    out += (out.empty() ? "" : ", ") + name + "=" + std::visit(AttributePrinter{}, value);
  return out;
}

ValueId Graph::add_value(std::string value_name, Type type) {
  ValueInfo v;
  v.name = std::move(value_name);
  v.type = std::move(type);
  values_.push_back(std::move(v));
  return static_cast<ValueId>(values_.size() - 1);
}

ValueId Graph::add_constant(std::string value_name, std::shared_ptr<const Tensor> tensor) {
  Dims dims(tensor->shape().begin(), tensor->shape().end());
  const ValueId id = add_value(std::move(value_name), Type::tensor(tensor->dtype(), std::move(dims)));
  values_[static_cast<size_t>(id)].constant = std::move(tensor);
  return id;
}

NodeId Graph::add_node(std::string node_name, std::shared_ptr<const Op> op, std::vector<ValueId> inputs,
                       std::vector<ValueId> outputs) {
  const auto id = static_cast<NodeId>(nodes_.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i] != kNone) mutable_value(inputs[i]).uses.push_back({id, static_cast<int>(i)});
  for (size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i] != kNone) {
      mutable_value(outputs[i]).producer = id;
      mutable_value(outputs[i]).producer_index = static_cast<int>(i);
    }
  nodes_.push_back({std::move(node_name), std::move(op), std::move(inputs), std::move(outputs), false});
  return id;
}

void Graph::add_output(ValueId id, std::string output_name) {
  mutable_value(id).uses.push_back({kNone, static_cast<int>(outputs_.size())});
  outputs_.push_back(id);
  output_names_.push_back(std::move(output_name));
}

Result<std::vector<NodeId>> Graph::order() const {
  // Kahn's algorithm with the node number as priority would be a heap; a depth-first walk in node order is stable and linear.
  enum class Mark : uint8_t { kNew, kOpen, kDone };
  std::vector<Mark> marks(nodes_.size(), Mark::kNew);
  std::vector<NodeId> out;
  out.reserve(nodes_.size());
  struct Frame {
    NodeId node;
    size_t next;
  };
  std::vector<Frame> stack;
  for (NodeId start = 0; start < static_cast<NodeId>(nodes_.size()); ++start) {
    if (node(start).dead || marks[static_cast<size_t>(start)] != Mark::kNew) continue;
    stack.push_back({start, 0});
    marks[static_cast<size_t>(start)] = Mark::kOpen;
    while (!stack.empty()) {
      Frame& top = stack.back();
      const Node& n = node(top.node);
      if (top.next == n.inputs.size()) {
        marks[static_cast<size_t>(top.node)] = Mark::kDone;
        out.push_back(top.node);
        stack.pop_back();
        continue;
      }
      const ValueId input = n.inputs[top.next++];
      if (input == kNone) continue;
      const NodeId producer = value(input).producer;
      if (producer == kNone || marks[static_cast<size_t>(producer)] == Mark::kDone) continue;
      if (marks[static_cast<size_t>(producer)] == Mark::kOpen)
        return error(Code::kInvalidGraph, "the graph has a cycle through node '{}' ({}), which needs its own result '{}'",
                     node(producer).name, node(producer).op->name(), value(input).name);
      marks[static_cast<size_t>(producer)] = Mark::kOpen;
      stack.push_back({producer, 0});
    }
  }
  return out;
}

std::string print(const Graph& graph) {
  std::string out = "graph " + graph.name + "(\n";
  auto name = [&](ValueId id) { return id == kNone ? std::string("_") : "%" + graph.value(id).name; };
  for (const ValueId id : graph.inputs()) out += "  " + name(id) + ": " + graph.value(id).type.text() + "\n";
  out += ") {\n";
  const auto order = graph.order();
  if (!order.ok()) return out + "  " + order.status().message() + "\n}\n";
  for (const NodeId n : *order) {
    const Node& node = graph.node(n);
    out += "  ";
    for (size_t i = 0; i < node.outputs.size(); ++i) out += (i ? ", " : "") + name(node.outputs[i]);
    out += " = " + (node.op->domain().empty() ? "" : std::string(node.op->domain()) + ":") + std::string(node.op->name()) + "(";
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId in = node.inputs[i];
      const Tensor* constant = graph.constant(in);
      out += (i ? ", " : "") + (constant && constant->count() <= 4 ? text_of(*constant) : name(in));
    }
    out += ")";
    if (const std::string attributes = to_string(node.op->attributes()); !attributes.empty()) out += " {" + attributes + "}";
    out += "  // ";
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != kNone) out += (i ? ", " : "") + graph.value(node.outputs[i]).type.text();
    out += node.name.empty() ? "\n" : "  " + node.name + "\n";
  }
  out += "  return ";
  for (size_t i = 0; i < graph.outputs().size(); ++i)
    out += (i ? ", " : "") + graph.output_names()[i] + "=" + name(graph.outputs()[i]);
  return out + "\n}\n";
}

Status verify(const Graph& graph) {
  for (size_t i = 0; i < graph.node_count(); ++i) {
    const Node& n = graph.node(static_cast<NodeId>(i));
    if (n.dead) continue;
    for (size_t k = 0; k < n.inputs.size(); ++k) {
      if (n.inputs[k] == kNone) continue;
      const ValueInfo& v = graph.value(n.inputs[k]);
      const Use use{static_cast<NodeId>(i), static_cast<int>(k)};
      if (std::find(v.uses.begin(), v.uses.end(), use) == v.uses.end())
        return error(Code::kInvalidGraph, "node '{}' ({}) reads '{}', which does not list it as a use", n.name, n.op->name(),
                     v.name);
      if (v.producer != kNone && graph.node(v.producer).dead)
        return error(Code::kInvalidGraph, "node '{}' ({}) reads '{}' of a removed node", n.name, n.op->name(), v.name);
    }
    for (size_t k = 0; k < n.outputs.size(); ++k)
      if (n.outputs[k] != kNone && (graph.value(n.outputs[k]).producer != static_cast<NodeId>(i) ||
                                    graph.value(n.outputs[k]).producer_index != static_cast<int>(k)))
        return error(Code::kInvalidGraph, "'{}' does not know node '{}' ({}) as its producer", graph.value(n.outputs[k]).name,
                     n.name, n.op->name());
  }
  return graph.order().status();
}

}  // namespace ocior::graph
