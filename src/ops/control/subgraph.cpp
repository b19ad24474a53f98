#include "ops/control/subgraph.h"

#include <algorithm>

#include "base/stop.h"
#include "ops/evaluate.h"
#include "ops/move.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

bool is_known(const Type& type) {
  return type.is_tensor() ? type.dtype != DType::kUndefined : type.element && is_known(*type.element);
}

// The subgraph's outputs by the references of its nodes, in order. `inputs` are those of the graph, then its captures.
Result<std::vector<Value>> evaluate(const graph::Graph& graph, std::span<const Value> inputs) {
  std::vector<Value> values(graph.value_count());
  for (size_t i = 0; i < values.size(); ++i)
    if (const Tensor* t = graph.constant(static_cast<graph::ValueId>(i))) values[i] = Value(*t);
  const size_t of_graph = graph.inputs().size();
  for (size_t i = 0; i < inputs.size(); ++i)
    values[static_cast<size_t>(i < of_graph ? graph.inputs()[i] : graph.captures()[i - of_graph])] = inputs[i];
  OCIOR_ASSIGN(const std::vector<graph::NodeId> order, graph.order());
  for (const graph::NodeId id : order) {
    const graph::Node& node = graph.node(id);
    std::vector<Value> in;
    for (const graph::ValueId v : node.inputs) in.push_back(v == graph::kNone ? Value() : values[static_cast<size_t>(v)]);
    auto outputs = run_reference(*node.op, in, static_cast<int>(node.outputs.size()));
    if (!outputs.ok()) return with_context(outputs.status(), fmt::format("node '{}' ({})", node.name, node.op->name()));
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != graph::kNone) values[static_cast<size_t>(node.outputs[i])] = std::move((*outputs)[i]);
  }
  std::vector<Value> out;
  for (const graph::ValueId id : graph.outputs()) {
    const Value& v = values[static_cast<size_t>(id)];
    if (graph.value(id).producer != graph::kNone) {
      out.push_back(v);
      continue;
    }
    OCIOR_ASSIGN(Value owned, own(v));  // an input's bytes may be borrowed
    out.push_back(std::move(owned));
  }
  return out;
}

struct Extents {
  int64_t outer = 1, inner = 1;
};

Extents around(std::span<const int64_t> shape, int64_t axis) {
  Extents e;
  for (int64_t i = 0; i < std::ssize(shape); ++i)
    if (i != axis) (i < axis ? e.outer : e.inner) *= shape[static_cast<size_t>(i)];
  return e;
}

}  // namespace

Type without_element_shapes(const Type& type) {
  if (!type.element) return type;
  Type element = without_element_shapes(*type.element);
  element.shape.reset();
  return {type.kind, type.dtype, std::nullopt, std::make_shared<const Type>(std::move(element))};
}

Result<Type> merge_types(ShapeContext& c, const Type& a, const Type& b) {
  if (a.kind != b.kind || a.dtype != b.dtype || !a.element != !b.element)
    return error(Code::kInvalidGraph, "it is {} here and {} there", a.text(), b.text());
  if (a.element) {
    OCIOR_RETURN_IF_ERROR(merge_types(c, *a.element, *b.element).status());
    return without_element_shapes(a);
  }
  if (!a.shape || !b.shape || a.shape->size() != b.shape->size()) return Type::tensor(a.dtype);
  Dims dims = *a.shape;
  for (size_t i = 0; i < dims.size(); ++i)
    if (!(dims[i] == (*b.shape)[i])) dims[i] = c.fresh("either");
  return Type::tensor(a.dtype, std::move(dims));
}

Status check_tensor(const ShapeContext& c, int i, DType dtype, std::string_view what) {
  if (!c.has(i)) return error(Code::kInvalidGraph, "{} is missing; expected a tensor of {}", what, name_of(dtype));
  if (c.in(i).is_tensor() && c.dtype(i) == dtype) return {};
  return error(Code::kInvalidGraph, "{} is {}; expected a tensor of {}", what, c.in(i).text(), name_of(dtype));
}

int capture_count(std::span<const std::shared_ptr<graph::Graph>> subgraphs) {
  size_t n = 0;
  for (const auto& g : subgraphs) n += g->captures().size();
  return static_cast<int>(n);
}

Result<int> own_inputs(const ShapeContext& c, std::span<const std::shared_ptr<graph::Graph>> subgraphs) {
  const int own = c.inputs() - capture_count(subgraphs);
  if (own >= 0) return own;
  return error(Code::kInvalidGraph, "its subgraphs capture {} values, but the node has {} inputs", capture_count(subgraphs),
               c.inputs());
}

Status infer_body(ShapeContext& c, graph::Graph& body, std::span<const Type> inputs, int first_capture) {
  for (size_t i = 0; i < body.node_count(); ++i)
    for (const graph::ValueId id : body.node(static_cast<graph::NodeId>(i)).outputs) {
      if (id == graph::kNone) continue;
      body.mutable_value(id).type.shape.reset();
      body.mutable_value(id).data.reset();
    }
  for (size_t i = 0; i < inputs.size(); ++i) {
    graph::ValueInfo& v = body.mutable_value(body.inputs()[i]);
    if (is_known(v.type) && (v.type.kind != inputs[i].kind || v.type.dtype != inputs[i].dtype))
      return error(Code::kInvalidGraph, "the body's input '{}' is declared as {}, but gets {}", v.name, v.type.text(),
                   inputs[i].text());
    v.type = inputs[i];
  }
  for (size_t i = 0; i < body.captures().size(); ++i) {
    const int from = first_capture + static_cast<int>(i);
    if (!c.has(from)) return error(Code::kInvalidGraph, "the value that is captured as input {} is missing", from);
    body.mutable_value(body.captures()[i]).type = c.in(from);
  }
  OCIOR_RETURN_IF_ERROR(graph::infer(body));
  for (const graph::ValueId id : body.outputs())
    if (!is_known(body.value(id).type))
      return error(Code::kInvalidGraph, "the type of the subgraph's output '{}' is unknown", body.value(id).name);
  return {};
}

Status infer_carried(ShapeContext& c, graph::Graph& body, std::vector<Type>& inputs, int first_capture, size_t first_in,
                     size_t first_out, size_t count) {
  for (size_t i = 0; i < count; ++i) inputs[first_in + i] = without_element_shapes(inputs[first_in + i]);
  // Dims that change from one iteration to the next become fresh ones, which may be anything; that may change others. What is not
  // settled after some rounds is said to be of unknown rank, which settles it.
  constexpr int kRounds = 4;
  std::vector<Dim> fresh;
  const auto settle = [&](Type& in, const Type& out, int round) -> Result<bool> {
    const bool to_optional = in.kind == Value::Kind::kOptional && in.element && out.kind != Value::Kind::kOptional;
    OCIOR_ASSIGN(const Type merged, merge_types(c, to_optional ? *in.element : in, out));
    if (!in.is_tensor() || !in.shape) return true;
    if (!merged.shape || round >= kRounds) {
      in.shape.reset();
      return false;
    }
    bool settled = true;
    for (size_t k = 0; k < in.shape->size(); ++k) {
      Dim& dim = (*in.shape)[k];
      if (dim == (*out.shape)[k] || std::ranges::find(fresh, dim) != fresh.end()) continue;
      fresh.push_back(dim = c.fresh("carried"));
      settled = false;
    }
    return settled;
  };
  for (int round = 0;; ++round) {
    OCIOR_RETURN_IF_ERROR(infer_body(c, body, inputs, first_capture));
    bool all_settled = true;
    for (size_t i = 0; i < count; ++i) {
      const graph::ValueInfo& out = body.value(body.outputs()[first_out + i]);
      auto settled = settle(inputs[first_in + i], out.type, round);
      if (!settled.ok())
        return with_context(settled.status(), fmt::format("value {} that an iteration hands to the next ('{}' to '{}')", i,
                                                          out.name, body.value(body.inputs()[first_in + i]).name));
      all_settled = all_settled && *settled;
    }
    if (all_settled) return {};
  }
}

Type after_iterations(ShapeContext& c, const Type& before, const Type& carried) {
  if (!before.is_tensor() || !carried.shape) return without_element_shapes(carried);
  Dims dims = *carried.shape;
  for (size_t k = 0; k < dims.size(); ++k)
    if (!before.shape || k >= before.shape->size() || !(dims[k] == (*before.shape)[k])) dims[k] = c.fresh("carried");
  return Type::tensor(carried.dtype, std::move(dims));
}

Dims known_dims(ShapeContext& c, const Dims& dims) {
  Dims out = dims;
  for (Dim& d : out)
    if (!d.known()) d = c.fresh("body");
  return out;
}

Result<Value> own(const Value& value) {
  const Tensor* t = value.get_tensor();
  if (!t) return value;
  OCIOR_ASSIGN(Tensor copy, t->clone());
  return Value(std::move(copy));
}

Result<Tensor> slice_at(const Tensor& tensor, int64_t axis, int64_t index) {
  Shape shape = tensor.shape();
  const int64_t extent = shape[static_cast<size_t>(axis)];
  const Extents e = around(shape, axis);
  shape.erase(shape.begin() + axis);
  OCIOR_ASSIGN(Tensor out, Tensor::allocate(tensor.dtype(), std::move(shape)));
  for (int64_t o = 0; o < e.outer; ++o)
    copy_elements(tensor.dtype(), out.data(), o * e.inner, tensor.data(), (o * extent + index) * e.inner, e.inner);
  return out;
}

void copy_range(Tensor& to, int64_t axis, int64_t at, const Tensor& from, int64_t first, int64_t count) {
  const int64_t to_extent = to.shape()[static_cast<size_t>(axis)], from_extent = from.shape()[static_cast<size_t>(axis)];
  const Extents e = around(to.shape(), axis);
  for (int64_t o = 0; o < e.outer; ++o)
    copy_elements(to.dtype(), to.data(), (o * to_extent + at) * e.inner, from.data(), (o * from_extent + first) * e.inner,
                  count * e.inner);
}

void put_slice(Tensor& to, int64_t axis, int64_t index, const Tensor& element) {
  const int64_t extent = to.shape()[static_cast<size_t>(axis)];
  const Extents e = around(to.shape(), axis);
  for (int64_t o = 0; o < e.outer; ++o)
    copy_elements(to.dtype(), to.data(), (o * extent + index) * e.inner, element.data(), o * e.inner, e.inner);
}

Result<Tensor> stack(std::span<const Value> elements, int64_t axis, const Type& type, std::string_view what) {
  Shape shape;
  if (!elements.empty()) {
    shape.assign(elements[0].shape().begin(), elements[0].shape().end());
  } else if (type.shape) {
    for (const Dim& d : *type.shape) shape.push_back(d.known() ? d.value() : 0);
  }
  OCIOR_ASSIGN(axis, resolve_axis(axis, std::ssize(shape) + 1));
  for (size_t i = 0; i < elements.size(); ++i)
    if (!std::ranges::equal(elements[i].shape(), shape))
      return error(Code::kInvalidArgument, "{} has shape {} in iteration {}, but {} in the first; all must be alike", what,
                   to_string(elements[i].shape()), i, to_string(shape));
  shape.insert(shape.begin() + axis, std::ssize(elements));
  OCIOR_ASSIGN(Tensor out, Tensor::allocate(type.dtype, std::move(shape)));
  for (size_t i = 0; i < elements.size(); ++i) put_slice(out, axis, static_cast<int64_t>(i), *elements[i].get_tensor());
  return out;
}

Result<bool> one_bool(const Value& value, std::string_view what) {
  if (value.element_count() == 1) return *static_cast<const bool*>(value.data());
  return error(Code::kInvalidArgument, "{} has shape {}; expected one value", what, to_string(value.shape()));
}

Result<int64_t> one_integer(const Value& value, std::string_view what) {
  if (value.element_count() == 1) return get_int(value.dtype(), value.data(), 0);
  return error(Code::kInvalidArgument, "{} has shape {}; expected one value", what, to_string(value.shape()));
}

ControlContext::ControlContext(RefContext& c, std::span<const std::shared_ptr<graph::Graph>> subgraphs)
    : ref_(&c), subgraphs_(subgraphs), inputs_(c.inputs() - capture_count(subgraphs)), outputs_(c.outputs()) {}

ControlContext::ControlContext(CpuContext& c, std::span<const std::shared_ptr<graph::Graph>> subgraphs)
    : cpu_(&c), subgraphs_(subgraphs), inputs_(c.inputs() - capture_count(subgraphs)), outputs_(c.outputs()) {}

Value ControlContext::value(int i) const {
  if (i >= inputs_) return {};
  return ref_ ? ref_->value(i) : cpu_->value(i);
}

bool ControlContext::wants_tensor(int i) const { return ref_ ? ref_->wants(i) : cpu_->wants(i); }

Status ControlContext::set_value(int i, Value value) {
  return ref_ ? ref_->set_value(i, std::move(value)) : cpu_->set_value(i, std::move(value));
}

Status ControlContext::call(int subgraph, std::span<const Value> inputs, std::vector<Value>& outputs) {
  if (cpu_) {
    // A body without work of its own does not look at the stop word.
    if (cpu_->stop() && cpu_->stop()->requested()) return error(Code::kFail, "the run was stopped");
    return cpu_->subgraphs()->call(subgraph, inputs, outputs);
  }
  int capture = inputs_;
  for (int i = 0; i < subgraph; ++i) capture += static_cast<int>(subgraphs_[static_cast<size_t>(i)]->captures().size());
  const graph::Graph& graph = *subgraphs_[static_cast<size_t>(subgraph)];
  std::vector<Value> all(inputs.begin(), inputs.end());
  for (size_t i = 0; i < graph.captures().size(); ++i) all.push_back(ref_->value(capture + static_cast<int>(i)));
  OCIOR_ASSIGN(outputs, evaluate(graph, all));
  return {};
}

}  // namespace ocior::ops
