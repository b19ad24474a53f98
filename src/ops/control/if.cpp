// If (https://onnx.ai/onnx/operators/onnx__If.html): runs one of two subgraphs. What the branches capture follows the condition
// as further inputs, the captures of else_branch before those of then_branch (the order of attribute names).
#include <array>

#include "ops/control/subgraph.h"
#include "ops/evaluate.h"

namespace ocior::ops {

struct If {
  static constexpr OpInfo info{
      .name = "If", .min_inputs = 1, .max_inputs = kUnbounded, .max_outputs = kUnbounded, .any_kind = true};

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

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_tensor(c, 0, DType::kBool, "the condition"));
    const int want = 1 + capture_count(branches);
    if (c.inputs() != want)
      return error(Code::kInvalidGraph, "the condition and the values that the branches capture are {} inputs, got {}", want,
                   c.inputs());
    int capture = 1;
    for (const auto& branch : branches) {
      OCIOR_RETURN_IF_ERROR(
          with_context(infer_body(c, *branch, {}, capture), &branch == &branches[1] ? "then_branch" : "else_branch"));
      capture += static_cast<int>(branch->captures().size());
    }
    for (int i = 0; i < c.outputs(); ++i) {
      const auto of = [&](size_t k) -> const Type& {
        return branches[k]->value(branches[k]->outputs()[static_cast<size_t>(i)]).type;
      };
      auto type = merge_types(c, of(1), of(0));
      if (!type.ok()) return with_context(type.status(), fmt::format("output {} of then_branch and else_branch", i));
      c.set(i, std::move(*type));
    }
    return {};
  }

  Status reference(RefContext& c) const {
    ControlContext control(c, branches);
    return take_branch(control);
  }

  Status run(CpuContext& c) const {
    if (!c.subgraphs()) return run_by_reference(*this, c);
    ControlContext control(c, branches);
    return take_branch(control);
  }

  static std::vector<Sample> samples();

 private:
  Status take_branch(ControlContext& c) const {
    OCIOR_ASSIGN(const bool taken, one_bool(c.value(0), "the condition"));
    std::vector<Value> outputs;
    OCIOR_RETURN_IF_ERROR(with_context(c.call(taken, {}, outputs), taken ? "then_branch" : "else_branch"));
    for (int i = 0; i < c.outputs(); ++i) OCIOR_RETURN_IF_ERROR(c.set_value(i, std::move(outputs[static_cast<size_t>(i)])));
    return {};
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
