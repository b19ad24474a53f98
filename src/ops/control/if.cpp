// If (https://onnx.ai/onnx/operators/onnx__If.html): runs one of two subgraphs. What the branches capture follows the condition
// as further inputs, the captures of else_branch before those of then_branch (the order of attribute names).
#include <array>

#include "graph/graph.h"
#include "ops/evaluate.h"
#include "ops/move.h"

namespace ocior::ops {
namespace {

// The subgraph's outputs by the references of its nodes, in order. `captures` are the values of graph.captures().
Result<std::vector<Tensor>> evaluate(const graph::Graph& graph, std::span<const Tensor> captures) {
  std::vector<Tensor> values(graph.value_count());
  for (size_t i = 0; i < values.size(); ++i)
    if (const Tensor* t = graph.constant(static_cast<graph::ValueId>(i))) values[i] = *t;
  for (size_t i = 0; i < captures.size(); ++i) values[static_cast<size_t>(graph.captures()[i])] = captures[i];
  OCIOR_ASSIGN(const std::vector<graph::NodeId> order, graph.order());
  for (const graph::NodeId id : order) {
    const graph::Node& node = graph.node(id);
    std::vector<const Tensor*> inputs;
    for (const graph::ValueId in : node.inputs) inputs.push_back(in == graph::kNone ? nullptr : &values[static_cast<size_t>(in)]);
    auto outputs = run_reference(*node.op, inputs, static_cast<int>(node.outputs.size()));
    if (!outputs.ok()) return with_context(outputs.status(), fmt::format("node '{}' ({})", node.name, node.op->name()));
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != graph::kNone) values[static_cast<size_t>(node.outputs[i])] = std::move((*outputs)[i]);
  }
  std::vector<Tensor> out;
  for (const graph::ValueId id : graph.outputs()) out.push_back(values[static_cast<size_t>(id)]);
  return out;
}

// What is known of a value that comes from either branch.
Result<Type> merge(ShapeContext& c, const Type& a, const Type& b) {
  if (!a.is_tensor() || !b.is_tensor())
    return error(Code::kNotImplemented, "branches that give sequences, maps or optionals are not supported");
  if (a.dtype != b.dtype)
    return error(Code::kInvalidGraph, "one branch gives {}, the other {}", name_of(a.dtype), name_of(b.dtype));
  if (!a.shape || !b.shape || a.shape->size() != b.shape->size()) return Type::tensor(a.dtype);
  Dims dims = *a.shape;
  for (size_t i = 0; i < dims.size(); ++i)
    if (!(dims[i] == (*b.shape)[i])) dims[i] = c.fresh("if");
  return Type::tensor(a.dtype, std::move(dims));
}

}  // namespace

struct If {
  static constexpr OpInfo info{.name = "If", .min_inputs = 1, .max_inputs = kUnbounded, .max_outputs = kUnbounded};

  std::array<std::shared_ptr<graph::Graph>, 2> branches;  // else, then: branches[condition]

  static If parse(const NodeReader& node) {
    If op{{node.graph("else_branch"), node.graph("then_branch")}};
    for (const auto& branch : op.branches) {
      if (!branch) node.fail("then_branch and else_branch are both required");
      else if (!branch->inputs().empty() || std::ssize(branch->outputs()) < node.outputs())
        node.fail("a branch has {} inputs and {} outputs; expected none and {}", branch->inputs().size(),
                  branch->outputs().size(), node.outputs());
    }
    return op;
  }

  std::span<const std::shared_ptr<graph::Graph>> subgraphs() const { return branches; }

  // Types of the branches follow from those of their captures. Called while a graph is built, by one thread at a time.
  Status infer(ShapeContext& c) const {
    if (c.dtype(0) != DType::kBool) return error(Code::kInvalidGraph, "the condition is {}; expected bool", name_of(c.dtype(0)));
    OCIOR_RETURN_IF_ERROR(check_captures(c.inputs()));
    int input = 1;
    for (const auto& branch : branches) {
      for (const graph::ValueId id : branch->captures()) branch->mutable_value(id).type = c.in(input++);
      OCIOR_RETURN_IF_ERROR(with_context(graph::infer(*branch), &branch == &branches[1] ? "then_branch" : "else_branch"));
    }
    for (int i = 0; i < c.outputs(); ++i) {
      const auto of = [&](size_t k) -> const Type& {
        return branches[k]->value(branches[k]->outputs()[static_cast<size_t>(i)]).type;
      };
      OCIOR_ASSIGN(Type type, merge(c, of(0), of(1)));
      c.set(i, std::move(type));
    }
    return {};
  }

  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(const bool taken, condition(c.in(0).shape(), c.in(0).data()));
    std::vector<Tensor> captures;
    const size_t first = taken ? 1 + branches[0]->captures().size() : 1;
    for (size_t i = 0; i < branches[taken]->captures().size(); ++i) captures.push_back(c.in(static_cast<int>(first + i)));
    OCIOR_ASSIGN(const std::vector<Tensor> outputs, evaluate(*branches[taken], captures));
    for (int i = 0; i < c.outputs(); ++i) {
      if (!c.wants(i)) continue;
      const Tensor& from = outputs[static_cast<size_t>(i)];
      OCIOR_RETURN_IF_ERROR(c.allocate(i, from.dtype(), from.shape()));
      copy_elements(from.dtype(), c.out(i).data(), 0, from.data(), 0, from.count());
    }
    return {};
  }

  Status run(CpuContext& c) const {
    if (!c.subgraphs()) return run_by_reference(*this, c);
    OCIOR_ASSIGN(const bool taken, condition(c.in(0).shape, c.in(0).data));
    std::vector<Tensor> outputs;
    OCIOR_RETURN_IF_ERROR(with_context(c.subgraphs()->call(taken, {}, outputs), taken ? "then_branch" : "else_branch"));
    for (int i = 0; i < c.outputs(); ++i) {
      if (!c.wants(i)) continue;
      const Tensor& from = outputs[static_cast<size_t>(i)];
      if (from.dtype() != c.out(i).dtype)
        return error(Code::kRuntimeException, "output {} is {}, but was planned as {}", i, name_of(from.dtype()),
                     name_of(c.out(i).dtype));
      OCIOR_RETURN_IF_ERROR(c.allocate(i, from.shape()));
      copy_elements(from.dtype(), c.out(i).data, 0, from.data(), 0, from.count());
    }
    return {};
  }

  static std::vector<Sample> samples();

 private:
  Status check_captures(int inputs) const {
    const size_t want = 1 + branches[0]->captures().size() + branches[1]->captures().size();
    if (static_cast<size_t>(inputs) == want) return {};
    return error(Code::kInvalidGraph, "the condition and the values that the branches capture are {} inputs, got {}", want,
                 inputs);
  }

  static Result<bool> condition(std::span<const int64_t> shape, const void* data) {
    if (element_count(shape) == 1) return *static_cast<const bool*>(data);
    return error(Code::kInvalidArgument, "the condition has shape {}; expected one value", to_string(shape));
  }
};

std::vector<Sample> If::samples() {
  // A branch that applies `op` to a captured float matrix.
  const auto branch = [](const char* op, int64_t rows) {
    auto g = std::make_shared<graph::Graph>();
    const graph::ValueId x = g->add_value("x", Type::tensor(DType::kFloat, Dims{rows, 5})), y = g->add_value("y", {});
    g->add_capture(x);
    if (auto made = make_operator("", op, kNewestOpset, {}, 1, 1); made.ok()) g->add_node(op, *made, {x}, {y});
    g->add_output(y, "y");
    return g;
  };
  std::vector<Sample> out;
  for (const double taken : {0.0, 1.0})
    for (const int64_t rows : {3, 4})
      out.push_back({.inputs = {{.dtype = DType::kBool, .shape = {}, .values = {taken}}, {.shape = {3, 5}}, {.shape = {rows, 5}}},
                     .attributes = {{"else_branch", branch("Softmax", 3)}, {"then_branch", branch("LogSoftmax", rows)}}});
  return out;
}

OCIOR_OPERATOR(If)

}  // namespace ocior::ops
