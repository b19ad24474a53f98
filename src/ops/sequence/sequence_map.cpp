// SequenceMap (https://onnx.ai/onnx/operators/onnx__SequenceMap.html): runs its body on every element of a sequence.
#include "ops/control/subgraph.h"
#include "ops/evaluate.h"
#include "ops/sequence/types.h"

namespace ocior::ops {

struct SequenceMap {
  static constexpr OpInfo info{
      .name = "SequenceMap", .since = 17, .max_inputs = kUnbounded, .max_outputs = kUnbounded, .any_kind = true};

  std::shared_ptr<graph::Graph> body;

  static SequenceMap parse(const NodeReader& node) {
    SequenceMap op{node.graph("body")};
    if (!op.body) node.fail("attribute 'body' is required");
    else if (std::ssize(op.body->outputs()) < node.outputs())
      node.fail("the body has {} outputs, the node {}; expected as many", op.body->outputs().size(), node.outputs());
    return op;
  }

  std::span<const std::shared_ptr<graph::Graph>> subgraphs() const { return {&body, 1}; }

  Status infer(ShapeContext& c) const {
    OCIOR_ASSIGN(const int own, own_inputs(c, subgraphs()));
    if (own < 1 || own != static_cast<int>(body->inputs().size()))
      return error(Code::kInvalidGraph, "the node has {} inputs, its body {}; expected as many, and one at least", own,
                   body->inputs().size());
    OCIOR_RETURN_IF_ERROR(sequence_dtype(c, 0).status());
    std::vector<Type> types;
    for (int i = 0; i < own; ++i) {
      if (!c.has(i)) return error(Code::kInvalidGraph, "input {} is missing", i);
      if (c.in(i).is_tensor()) {
        types.push_back(c.in(i));
        continue;
      }
      OCIOR_ASSIGN(const DType dtype, sequence_dtype(c, i));
      types.push_back(Type::tensor(dtype));
    }
    OCIOR_RETURN_IF_ERROR(infer_body(c, *body, types, own));
    for (int i = 0; i < c.outputs(); ++i) {
      const Type& type = body->value(body->outputs()[static_cast<size_t>(i)]).type;
      if (!type.is_tensor()) return error(Code::kInvalidGraph, "the body's output {} is {}; expected a tensor", i, type.text());
      c.set(i, sequence_type(type.dtype));
    }
    return {};
  }

  Status reference(RefContext& c) const {
    ControlContext control(c, subgraphs());
    return map(control);
  }

  Status run(CpuContext& c) const {
    if (!c.subgraphs()) return run_by_reference(*this, c);
    ControlContext control(c, subgraphs());
    return map(control);
  }

  static std::vector<Sample> samples() { return {}; }

 private:
  Status map(ControlContext& c) const {
    std::vector<Value> given;
    for (int i = 0; i < c.inputs(); ++i) given.push_back(c.value(i));
    const size_t n = given[0].elements().size();
    for (size_t i = 1; i < given.size(); ++i)
      if (!given[i].is_tensor() && given[i].elements().size() != n)
        return error(Code::kInvalidArgument, "input {} has {} elements, the first sequence {}; expected as many", i,
                     given[i].elements().size(), n);
    std::vector<std::vector<Value>> results(static_cast<size_t>(c.outputs()));
    std::vector<Value> inputs(given.size()), outputs;
    for (size_t k = 0; k < n; ++k) {
      for (size_t i = 0; i < given.size(); ++i) inputs[i] = given[i].is_tensor() ? given[i] : given[i].elements()[k];
      OCIOR_RETURN_IF_ERROR(with_context(c.call(0, inputs, outputs), fmt::format("body, element {}", k)));
      for (size_t i = 0; i < results.size(); ++i) results[i].push_back(std::move(outputs[i]));
    }
    for (int i = 0; i < c.outputs(); ++i)
      OCIOR_RETURN_IF_ERROR(c.set_value(i, Value::sequence(std::move(results[static_cast<size_t>(i)]))));
    return {};
  }
};

OCIOR_OPERATOR(SequenceMap)

}  // namespace ocior::ops
