#include "onnx/import_graph.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <tuple>
#include <unordered_map>

#include "base/error.h"
#include "onnx/gradient.h"
#include "ops/operator.h"

namespace ocior::onnx {
namespace {

using graph::kNone;
using graph::ValueId;

constexpr std::string_view kPreviewTraining = "ai.onnx.preview.training";

// Owns everything that tensors borrowed from a file need.
std::shared_ptr<const void> storage_of(const Tensor& tensor, const Model& model) {
  if (tensor.owned) return tensor.owned;
  return std::make_shared<const std::vector<std::shared_ptr<const void>>>(model.storage);
}

Result<ocior::Tensor> import_sparse(const SparseTensor& sparse, const Model& model);

class Importer {
 public:
  Importer(const Model& model, const ImportOptions& options) : model_(model), options_(options) {}

  Result<graph::Graph> run() {
    for (const auto& [domain, version] : model_.opset_imports) opsets_[domain] = version;
    for (const Function& f : model_.functions)
      if (!functions_.emplace(FunctionKey{f.domain, f.name, f.overload}, &f).second)
        return error(Code::kInvalidGraph, "the model has two functions {}", name_of(f));
    if (!opsets_.count("")) {
      if (model_.ir_version >= 3 && uses_default_domain(model_.graph, 0))
        return error(Code::kInvalidGraph,
                     "the model imports no version of the operator set ai.onnx; export it again with an opset");
      opsets_[""] = 1;
    }
    graph::Graph g;
    OCIOR_RETURN_IF_ERROR(import_into(model_.graph, g, nullptr, 0));
    return g;
  }

 private:
  using FunctionKey = std::tuple<std::string, std::string, std::string>;  // domain, name, overload

  static std::string name_of(const Function& f) {
    return fmt::format("'{}{}{}{}{}'", f.domain, f.domain.empty() ? "" : ":", f.name, f.overload.empty() ? "" : ":", f.overload);
  }

  // What the attribute references inside a function stand for: attributes of the node that calls it, or the function's defaults.
  using Bindings = std::map<std::string, const Attribute*, std::less<>>;

  // Names of one graph, or of one call of a function in it; `outer` chains to the graph that holds the node with this subgraph.
  struct Scope {
    graph::Graph* graph = nullptr;
    Scope* outer = nullptr;
    std::unordered_map<std::string, ValueId> names;
    std::vector<std::string> captured;   // in the order of graph->captures()
    const Function* function = nullptr;  // whose body the names are from, directly or in a subgraph of it
    const Bindings* bindings = nullptr;  // of that function
    const std::map<std::string, int64_t>* opsets = nullptr;
    std::string prefix;  // of value and node names in the graph: calls of a function differ by it
  };

  bool uses_default_domain(const Graph& g, int depth) const {
    for (const Node& n : g.nodes) {
      if (n.domain.empty()) return true;
      if (depth < options_.max_depth)
        for (const Attribute& a : n.attributes)
          for (const auto& sub : a.graphs)
            if (uses_default_domain(*sub, depth + 1)) return true;
    }
    return false;
  }

  Result<graph::Type> import_type(const Type& t, int depth = 0) const {
    if (depth > options_.max_depth) return error(Code::kInvalidGraph, "a type is nested more than {} deep", options_.max_depth);
    graph::Type out;
    out.dtype = t.dtype;
    switch (t.kind) {
      case Type::Kind::kNone: out.kind = Value::Kind::kTensor; return out;
      case Type::Kind::kTensor: out.kind = Value::Kind::kTensor; break;
      case Type::Kind::kSparseTensor:
        return error(Code::kNotImplemented, "sparse tensors as values are not supported; use a dense tensor");
      case Type::Kind::kSequence: out.kind = Value::Kind::kSequence; break;
      case Type::Kind::kOptional: out.kind = Value::Kind::kOptional; break;
      case Type::Kind::kMap: out.kind = Value::Kind::kMap; break;
    }
    if (t.element) {
      OCIOR_ASSIGN(graph::Type element, import_type(*t.element, depth + 1));
      out.element = std::make_shared<const graph::Type>(std::move(element));
    }
    if (t.has_shape) {
      Dims dims;
      for (size_t i = 0; i < t.shape.size(); ++i) {
        const Dimension& d = t.shape[i];
        if (d.value >= 0) dims.push_back(Dim(d.value));
        else if (const auto fixed = options_.free_dimensions.find(d.param);
                 !d.param.empty() && fixed != options_.free_dimensions.end())
          dims.push_back(Dim(fixed->second));
        else dims.push_back(Dim::symbol(d.param.empty() ? fmt::format("?{}", next_unknown_++) : d.param));
      }
      out.shape = std::move(dims);
    }
    return out;
  }

  Status import_into(const Graph& from, graph::Graph& to, Scope* outer, int depth) {
    if (depth > options_.max_depth)
      return error(Code::kInvalidGraph, "subgraphs are nested more than {} deep", options_.max_depth);
    to.name = from.name;
    Scope scope;
    scope.graph = &to;
    scope.outer = outer;
    scope.opsets = outer ? outer->opsets : &opsets_;
    if (outer) scope.function = outer->function, scope.bindings = outer->bindings;
    OCIOR_RETURN_IF_ERROR(import_initializers(from, scope));
    OCIOR_RETURN_IF_ERROR(import_inputs(from, scope, depth));
    OCIOR_RETURN_IF_ERROR(declare_outputs(from.nodes, scope));
    OCIOR_RETURN_IF_ERROR(import_value_info(from, scope));
    for (const Node& node : from.nodes) OCIOR_RETURN_IF_ERROR(import_node(node, scope, depth));
    OCIOR_RETURN_IF_ERROR(expand_gradients(to));
    for (const onnx::ValueInfo& out : from.outputs) {
      const ValueId id = lookup(scope, out.name);
      if (id == kNone)
        return error(Code::kInvalidGraph, "graph output '{}' is produced by no node, input or initializer", out.name);
      to.add_output(id, out.name);
    }
    if (outer) captures_of_last_ = std::move(scope.captured);
    return {};
  }

  Status import_initializers(const Graph& from, Scope& scope) {
    const auto add = [&scope](const std::string& name, ocior::Tensor tensor) -> Status {
      const ValueId id = scope.graph->add_constant(name, std::make_shared<const ocior::Tensor>(std::move(tensor)));
      if (!scope.names.emplace(name, id).second) return error(Code::kInvalidGraph, "two initializers are named '{}'", name);
      return {};
    };
    for (const Tensor& t : from.initializers) {
      OCIOR_ASSIGN(ocior::Tensor tensor, import_tensor(t, model_));
      OCIOR_RETURN_IF_ERROR(add(t.name, std::move(tensor)));
    }
    for (const SparseTensor& t : from.sparse_initializers) {
      auto tensor = import_sparse(t, model_);
      if (!tensor.ok()) return with_context(tensor.status(), fmt::format("sparse initializer '{}'", t.values.name));
      OCIOR_RETURN_IF_ERROR(add(t.values.name, std::move(tensor).value()));
    }
    return {};
  }

  Status import_inputs(const Graph& from, Scope& scope, int depth) {
    for (const onnx::ValueInfo& in : from.inputs) {
      if (const auto it = scope.names.find(in.name); it != scope.names.end()) {
        if (!scope.graph->constant(it->second)) return error(Code::kInvalidGraph, "two graph inputs are named '{}'", in.name);
        if (model_.ir_version >= 4 && depth == 0) {  // before IR 4 every initializer had to be listed as an input
          scope.graph->mutable_value(it->second).overridable = true;
          scope.graph->add_input(it->second);
        }
        continue;
      }
      auto type = import_type(in.type);
      if (!type.ok()) return with_context(type.status(), fmt::format("graph input '{}'", in.name));
      const ValueId id = scope.graph->add_value(in.name, *type);
      scope.names.emplace(in.name, id);
      scope.graph->add_input(id);
    }
    return {};
  }

  // Values of all node outputs first: files need not be sorted, and cycles are reported by order().
  Status declare_outputs(const std::vector<Node>& nodes, Scope& scope) {
    for (const Node& node : nodes)
      for (const std::string& name : node.outputs) {
        if (name.empty()) continue;
        if (!scope.names.emplace(name, static_cast<ValueId>(scope.graph->value_count())).second)
          return error(Code::kInvalidGraph, "node '{}' ({}) gives '{}', but another node, input or initializer has that name",
                       node.name, node.op_type, name);
        scope.graph->add_value(scope.prefix + name, {});
      }
    return {};
  }

  Status import_value_info(const Graph& from, Scope& scope) {
    for (const auto* list : {&from.value_info, &from.outputs})
      for (const onnx::ValueInfo& info : *list) {
        const auto it = scope.names.find(info.name);
        if (it == scope.names.end() || scope.graph->value(it->second).constant) continue;
        bool is_input = false;
        for (const ValueId in : scope.graph->inputs()) is_input |= in == it->second;
        if (is_input || info.type.kind == Type::Kind::kNone) continue;
        auto type = import_type(info.type);
        if (!type.ok()) return with_context(type.status(), fmt::format("value '{}'", info.name));
        scope.graph->mutable_value(it->second).type = std::move(type).value();
      }
    return {};
  }

  // The value of `name` here, captured from an outer graph if need be; kNone when no graph has it.
  ValueId lookup(Scope& scope, const std::string& name) {
    if (const auto it = scope.names.find(name); it != scope.names.end()) return it->second;
    if (!scope.outer) return kNone;
    const ValueId outside = lookup(*scope.outer, name);
    if (outside == kNone) return kNone;
    const graph::ValueInfo& source = scope.outer->graph->value(outside);
    const ValueId id = scope.graph->add_value(name, source.type);
    scope.graph->add_capture(id);
    scope.captured.push_back(name);
    scope.names.emplace(name, id);
    return id;
  }

  Status import_node(const Node& node, Scope& scope, int depth) {
    const std::string where =
        fmt::format("node '{}' ({}{}{})", node.name, node.domain, node.domain.empty() ? "" : ":", node.op_type);
    std::vector<ValueId> inputs;
    for (const std::string& name : node.inputs) {
      inputs.push_back(name.empty() ? kNone : lookup(scope, name));
      if (!name.empty() && inputs.back() == kNone && !is_omitted_formal(scope, name))
        return error(Code::kInvalidGraph, "{}: its input '{}' is produced by no node, input or initializer", where, name);
    }
    if (const auto f = functions_.find(FunctionKey{node.domain, node.op_type, node.overload}); f != functions_.end())
      return with_context(call(*f->second, node, std::move(inputs), scope, depth), where);
    const auto opset = scope.opsets->find(node.domain);
    if (opset == scope.opsets->end())
      return error(Code::kInvalidGraph, "{}: the {} does not import the operator set '{}'", where,
                   scope.function ? "function " + name_of(*scope.function) : "model", node.domain);
    if (node.domain == kPreviewTraining && node.op_type == "Gradient")
      return with_context(note_gradient(node, inputs, scope), where);
    while (!inputs.empty() && inputs.back() == kNone) inputs.pop_back();  // trailing omitted inputs say nothing
    const auto declared_inputs = static_cast<int>(inputs.size());
    graph::Attributes attributes;
    // By name, as Op::subgraphs() lists them: a file may give `then_branch` before `else_branch`, and captures follow that order.
    std::vector<const Attribute*> by_name;
    for (const Attribute& a : node.attributes)
      if (a.ref_attr_name.empty() || bound(a, scope)) by_name.push_back(&a);  // an absent optional attribute stays absent
    std::stable_sort(by_name.begin(), by_name.end(), [](const Attribute* x, const Attribute* y) { return x->name < y->name; });
    for (const Attribute* attribute : by_name) {
      const Attribute& a = *attribute;
      auto value = import_attribute(*bound(a, scope), scope, depth, inputs);
      if (!value.ok()) return with_context(value.status(), fmt::format("{}: attribute '{}'", where, a.name));
      if (!attributes.emplace(a.name, std::move(value).value()).second)
        return error(Code::kInvalidGraph, "{}: attribute '{}' is given twice", where, a.name);
    }
    std::vector<ValueId> outputs;
    for (const std::string& name : node.outputs) outputs.push_back(name.empty() ? kNone : scope.names.at(name));
    while (outputs.size() > 1 && outputs.back() == kNone) outputs.pop_back();
    const int version = static_cast<int>(
        std::min<int64_t>(std::max<int64_t>(opset->second, 0), node.domain.empty() ? ops::kNewestOpset : 1 << 20));
    auto op =
        ops::make_operator(node.domain, node.op_type, version, attributes, declared_inputs, static_cast<int>(outputs.size()));
    if (!op.ok()) return with_context(op.status(), fmt::format("node '{}'", node.name));
    // Operators on values of any kind look themselves: some may miss their first inputs (Loop, Scan).
    const ops::OpInfo& info = op.value()->info();
    const int needed = info.max_inputs == ops::kUnbounded ? declared_inputs : info.min_inputs;
    for (int i = 0; !info.any_kind && i < needed && i < declared_inputs; ++i)
      if (inputs[static_cast<size_t>(i)] == kNone)
        return error(Code::kInvalidGraph, "{}: input {} is omitted, but the operator needs it", where, i);
    scope.graph->add_node(
        node.name.empty() ? fmt::format("{}#{}", node.op_type, scope.graph->node_count()) : scope.prefix + node.name,
        std::move(op).value(), std::move(inputs), std::move(outputs));
    return {};
  }

  // Keeps a Gradient node until all nodes of its graph are there.
  Status note_gradient(const Node& node, const std::vector<ValueId>& inputs, Scope& scope) {
    GradientNode made{.name = scope.prefix + (node.name.empty() ? fmt::format("Gradient#{}", gradients_.size()) : node.name),
                      .inputs = inputs};
    const auto value = [&](const std::string& name, ValueId& id) -> Status {
      id = lookup(scope, name);
      return id == kNone ? error(Code::kInvalidGraph, "there is no value '{}', which an attribute names", name) : Status();
    };
    std::set<std::string> names;
    for (const Attribute& attribute : node.attributes) {
      const Attribute* a = bound(attribute, scope);
      if (!a) continue;
      const bool is_y = attribute.name == "y", is_xs = attribute.name == "xs";
      if (!is_y && !is_xs && attribute.name != "zs")
        return error(Code::kInvalidGraph, "unknown attribute '{}'; expected xs, zs and y", attribute.name);
      if (a->kind != (is_y ? Attribute::Kind::kString : Attribute::Kind::kStrings) || !names.insert(attribute.name).second)
        return error(Code::kInvalidGraph, "attribute '{}' is given twice or is no {}", attribute.name,
                     is_y ? "string" : "list of strings");
      if (is_y) OCIOR_RETURN_IF_ERROR(value(a->s, made.y));
      for (const std::string& name : a->strings)
        OCIOR_RETURN_IF_ERROR(value(name, (is_xs ? made.xs : made.zs).emplace_back(kNone)));
    }
    if (made.y == kNone || made.xs.empty()) return error(Code::kInvalidGraph, "the attributes xs and y are required");
    if (inputs.size() != made.xs.size() + made.zs.size() || std::ranges::count(inputs, kNone) > 0 ||
        node.outputs.size() > made.xs.size())
      return error(Code::kInvalidGraph, "it has {} inputs and {} outputs; expected {}, one per name in xs and zs, and at most {}",
                   inputs.size(), node.outputs.size(), made.xs.size() + made.zs.size(), made.xs.size());
    for (const std::string& name : node.outputs) made.outputs.push_back(name.empty() ? kNone : scope.names.at(name));
    gradients_.emplace_back(scope.graph, std::move(made));
    return {};
  }

  // In the order of the file, so that a later one may differentiate an earlier one.
  Status expand_gradients(graph::Graph& g) {
    for (const auto& [of, node] : gradients_)
      if (of == &g)
        OCIOR_RETURN_IF_ERROR(with_context(expand_gradient(g, node, differentiated_, options_.max_inlined_nodes),
                                           fmt::format("node '{}' (Gradient)", node.name)));
    std::erase_if(gradients_, [&g](const auto& pending) { return pending.first == &g; });
    return {};
  }

  // Whether a function's body reads an input that its caller left out.
  static bool is_omitted_formal(const Scope& scope, const std::string& name) {
    for (const Scope* s = &scope; s != nullptr; s = s->outer)
      if (const auto it = s->names.find(name); it != s->names.end()) return s->function != nullptr;
    return false;
  }

  // The attribute that `a` stands for: itself, or what the call of the function gives under the name that it refers to; null when
  // the call gives none.
  static const Attribute* bound(const Attribute& a, const Scope& scope) {
    if (a.ref_attr_name.empty() || !scope.bindings) return a.ref_attr_name.empty() ? &a : nullptr;
    const auto it = scope.bindings->find(a.ref_attr_name);
    return it == scope.bindings->end() ? nullptr : it->second;
  }

  // Puts the body of `f` in the place of `node`: formal inputs and outputs are the node's own values, all other names are new.
  Status call(const Function& f, const Node& node, std::vector<ValueId> inputs, Scope& scope, int depth) {
    if (depth > options_.max_depth)
      return error(Code::kInvalidGraph, "function {}: calls are nested more than {} deep; a function must not call itself",
                   name_of(f), options_.max_depth);
    inlined_ += f.nodes.size() + 1;
    if (inlined_ > options_.max_inlined_nodes)
      return error(Code::kInvalidGraph, "function {}: with all calls in place the model has more than {} nodes", name_of(f),
                   options_.max_inlined_nodes);
    if (inputs.size() > f.inputs.size() || node.outputs.size() > f.outputs.size())
      return error(Code::kInvalidGraph, "function {} takes {} inputs and gives {} outputs; the node has {} and {}", name_of(f),
                   f.inputs.size(), f.outputs.size(), inputs.size(), node.outputs.size());
    Bindings bindings;
    for (const Attribute& a : f.attribute_defaults) bindings[a.name] = &a;
    for (const Attribute& a : node.attributes) {
      const Attribute* value = bound(a, scope);
      if (value && value->kind == Attribute::Kind::kGraph)
        return error(Code::kNotImplemented, "attribute '{}': a graph cannot be given to a function", a.name);
      if (value) bindings[a.name] = value;
    }
    std::map<std::string, int64_t> opsets;
    for (const auto& [domain, version] : f.opset_imports) opsets[domain] = version;

    Scope body;
    body.graph = scope.graph;
    body.function = &f;
    body.bindings = &bindings;
    body.opsets = &opsets;
    body.prefix =
        fmt::format("{}{}/", scope.prefix, node.name.empty() ? fmt::format("{}#{}", node.op_type, inlined_) : node.name);
    for (size_t i = 0; i < f.inputs.size(); ++i)
      if (!body.names.emplace(f.inputs[i], i < inputs.size() ? inputs[i] : kNone).second)
        return error(Code::kInvalidGraph, "function {} has two inputs '{}'", name_of(f), f.inputs[i]);
    OCIOR_RETURN_IF_ERROR(declare_outputs(f.nodes, body));
    for (const Node& inner : f.nodes)
      if (Status status = import_node(inner, body, depth + 1); !status.ok())
        return with_context(std::move(status), fmt::format("function {}", name_of(f)));
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i].empty()) continue;
      const auto from = body.names.find(f.outputs[i]);
      if (from == body.names.end() || from->second == kNone)
        return error(Code::kInvalidGraph, "function {}: nothing gives its output '{}'", name_of(f), f.outputs[i]);
      OCIOR_ASSIGN(auto identity, ops::make_operator("", "Identity", ops::kNewestOpset, {}, 1, 1));
      scope.graph->add_node(fmt::format("{}{}", body.prefix, f.outputs[i]), std::move(identity), {from->second},
                            {scope.names.at(node.outputs[i])});
    }
    return {};
  }

  Result<graph::AttributeValue> import_attribute(const Attribute& a, Scope& scope, int depth, std::vector<ValueId>& inputs) {
    switch (a.kind) {
      case Attribute::Kind::kFloat: return graph::AttributeValue(a.f);
      case Attribute::Kind::kInt: return graph::AttributeValue(a.i);
      case Attribute::Kind::kString: return graph::AttributeValue(a.s);
      case Attribute::Kind::kFloats: return graph::AttributeValue(a.floats);
      case Attribute::Kind::kInts: return graph::AttributeValue(a.ints);
      case Attribute::Kind::kStrings: return graph::AttributeValue(a.strings);
      case Attribute::Kind::kTensor: {
        if (a.tensors.size() != 1) return error(Code::kInvalidGraph, "expected one tensor");
        OCIOR_ASSIGN(ocior::Tensor t, import_tensor(a.tensors[0], model_));
        return graph::AttributeValue(std::move(t));
      }
      case Attribute::Kind::kSparseTensor: {
        if (a.sparse_tensors.size() != 1) return error(Code::kInvalidGraph, "expected one sparse tensor");
        OCIOR_ASSIGN(ocior::Tensor t, import_sparse(a.sparse_tensors[0], model_));
        return graph::AttributeValue(std::move(t));
      }
      case Attribute::Kind::kGraph: {
        if (a.graphs.size() != 1 || !a.graphs[0]) return error(Code::kInvalidGraph, "expected one graph");
        auto sub = std::make_shared<graph::Graph>();
        OCIOR_RETURN_IF_ERROR(import_into(*a.graphs[0], *sub, &scope, depth + 1));
        for (const std::string& name : captures_of_last_) inputs.push_back(lookup(scope, name));
        return graph::AttributeValue(std::move(sub));
      }
      case Attribute::Kind::kTypeProto: {
        if (a.types.size() != 1) return error(Code::kInvalidGraph, "expected one type");
        OCIOR_ASSIGN(graph::Type t, import_type(a.types[0]));
        return graph::AttributeValue(std::move(t));
      }
      default: return error(Code::kNotImplemented, "attributes of kind {} are not supported", static_cast<int>(a.kind));
    }
  }

  const Model& model_;
  const ImportOptions& options_;
  std::map<std::string, int64_t> opsets_;
  std::map<FunctionKey, const Function*> functions_;
  size_t inlined_ = 0;                                             // nodes that calls of functions added
  size_t differentiated_ = 0;                                      // nodes that Gradient visited and added
  std::vector<std::pair<graph::Graph*, GradientNode>> gradients_;  // of graphs whose import is not complete
  std::vector<std::string> captures_of_last_;                      // of the subgraph imported last
  mutable int next_unknown_ = 0;
};

constexpr size_t kMostSparseBytes = size_t{1} << 31;  // of the dense form: a few bytes of file must not ask for all memory

// The dense form of a sparse tensor; indices are [count] into the flattened tensor, or [count, rank].
Result<ocior::Tensor> import_sparse(const SparseTensor& sparse, const Model& model) {
  OCIOR_ASSIGN(const ocior::Tensor values, import_tensor(sparse.values, model));
  OCIOR_ASSIGN(const ocior::Tensor indices, import_tensor(sparse.indices, model));
  if (values.dtype() == DType::kString || bits_of(values.dtype()) % 8 != 0)
    return error(Code::kNotImplemented, "sparse tensors of {} are not supported; store it as a dense tensor",
                 name_of(values.dtype()));
  const auto rank = static_cast<int64_t>(sparse.dims.size()), count = values.count();
  const bool flat = indices.shape().size() == 1;
  if (values.shape().size() != 1 || indices.dtype() != DType::kInt64 || indices.count() != (flat ? count : count * rank) ||
      (!flat && (indices.shape().size() != 2 || indices.shape()[0] != count)))
    return error(Code::kInvalidGraph, "expected values [n] and int64 indices [n] or [n, {}]; values are {}, indices {} {}", rank,
                 to_string(values.shape()), name_of(indices.dtype()), to_string(indices.shape()));
  OCIOR_ASSIGN(const int64_t total, checked_element_count(sparse.dims));
  const size_t size = static_cast<size_t>(bits_of(values.dtype())) / 8;
  if (static_cast<size_t>(total) > kMostSparseBytes / size)
    return error(Code::kInvalidGraph, "its dense form {} of {} is larger than {} MiB", to_string(sparse.dims),
                 name_of(values.dtype()), kMostSparseBytes >> 20);
  OCIOR_ASSIGN(ocior::Tensor dense, ocior::Tensor::allocate(values.dtype(), sparse.dims));
  std::memset(dense.data(), 0, dense.bytes());
  const auto* at = static_cast<const int64_t*>(indices.data());
  for (int64_t i = 0; i < count; ++i) {
    int64_t element = 0;
    for (int64_t axis = 0; axis < (flat ? 1 : rank); ++axis) {
      const int64_t index = at[flat ? i : i * rank + axis], extent = flat ? total : sparse.dims[static_cast<size_t>(axis)];
      if (index < 0 || index >= extent)
        return error(Code::kInvalidGraph, "index {} of value {} is outside [0, {})", index, i, extent);
      element = element * extent + index;
    }
    std::memcpy(static_cast<std::byte*>(dense.data()) + static_cast<size_t>(element) * size,
                static_cast<const std::byte*>(values.data()) + static_cast<size_t>(i) * size, size);
  }
  return dense;
}

}  // namespace

Result<ocior::Tensor> import_tensor(const Tensor& tensor, const Model& model, size_t copy_below) {
  if (tensor.dtype == DType::kString) {
    OCIOR_ASSIGN(ocior::Tensor t, ocior::Tensor::allocate(DType::kString, tensor.dims));
    for (size_t i = 0; i < tensor.strings.size(); ++i) t.as<std::string>()[i] = tensor.strings[i];
    return t;
  }
  if (tensor.raw.size() >= copy_below) {
    if (tensor.owned) return ocior::Tensor::borrow(tensor.dtype, tensor.dims, tensor.raw.data(), tensor.raw.size(), tensor.owned);
    return ocior::Tensor::borrow(tensor.dtype, tensor.dims, tensor.raw.data(), tensor.raw.size(), storage_of(tensor, model));
  }
  OCIOR_ASSIGN(ocior::Tensor t, ocior::Tensor::allocate(tensor.dtype, tensor.dims));
  if (!tensor.raw.empty()) std::memcpy(t.data(), tensor.raw.data(), tensor.raw.size());
  return t;
}

Result<graph::Graph> import_graph(const Model& model, const ImportOptions& options) {
  auto g = Importer(model, options).run();
  if (!g.ok() && !model.path.empty()) return with_context(g.status(), model.path);
  return g;
}

}  // namespace ocior::onnx
