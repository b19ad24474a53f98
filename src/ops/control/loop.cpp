// Loop (https://onnx.ai/onnx/operators/onnx__Loop.html): runs its body while the condition holds and the trip count lasts. What
// the body captures follows the operator's own inputs.
#include <algorithm>
#include <limits>

#include "ops/control/subgraph.h"
#include "ops/evaluate.h"

namespace ocior::ops {

struct Loop {
  static constexpr OpInfo info{.name = "Loop",
                               .min_inputs = 0,  // trip count and condition may both be omitted
                               .max_inputs = kUnbounded,
                               .max_outputs = kUnbounded,
                               .any_kind = true};

  std::shared_ptr<graph::Graph> body;

  static Loop parse(const NodeReader& node) {
    Loop op{node.graph("body")};
    if (!op.body) node.fail("attribute 'body' is required");
    else if (op.body->inputs().size() < 2)
      node.fail("the body has {} inputs; expected the iteration number, the condition and the values carried on",
                op.body->inputs().size());
    else if (op.body->outputs().size() + 1 < op.body->inputs().size() || op.scans() + op.carried() < node.outputs())
      node.fail(
          "the body has {} inputs and {} outputs, which does not suit the loop's {} outputs; expected a condition, then every "
          "value carried on, then what is collected",
          op.body->inputs().size(), op.body->outputs().size(), node.outputs());
    return op;
  }

  std::span<const std::shared_ptr<graph::Graph>> subgraphs() const { return {&body, 1}; }

  Status infer(ShapeContext& c) const {
    OCIOR_ASSIGN(const int own, own_inputs(c, subgraphs()));
    if (std::max(own - 2, 0) != carried())
      return error(Code::kInvalidGraph, "the loop has {} initial values, but its body has {} inputs; expected 2 more than those",
                   std::max(own - 2, 0), body->inputs().size());
    if (own > 0 && c.has(0)) OCIOR_RETURN_IF_ERROR(check_tensor(c, 0, DType::kInt64, "the trip count"));
    if (own > 1 && c.has(1)) OCIOR_RETURN_IF_ERROR(check_tensor(c, 1, DType::kBool, "the condition"));
    std::vector<Type> types = {Type::tensor(DType::kInt64, one_element(0)), Type::tensor(DType::kBool, one_element(1))};
    for (int i = 0; i < carried(); ++i) {
      if (!c.has(2 + i)) return error(Code::kInvalidGraph, "initial value {} is missing", i);
      types.push_back(c.in(2 + i));
    }
    OCIOR_RETURN_IF_ERROR(infer_carried(c, *body, types, own, 2, 1, static_cast<size_t>(carried())));
    if (const Type& t = of_output(0); !t.is_tensor() || t.dtype != DType::kBool)
      return error(Code::kInvalidGraph, "the body's first output is {}; expected the condition, a bool", t.text());
    for (int i = 0; i < c.outputs(); ++i) {
      if (i < carried()) {
        const Type& carried_on = types[static_cast<size_t>(2 + i)];
        if (gives_bare(i)) c.set(i, *carried_on.element);
        else c.set(i, after_iterations(c, c.in(2 + i), carried_on));
        continue;
      }
      const Type& element = of_output(1 + i);
      if (!element.is_tensor())
        return error(Code::kInvalidGraph, "output {} would collect values of {}; expected tensors", i, element.text());
      if (!element.shape) {
        c.set(i, element.dtype, std::nullopt);
        continue;
      }
      Dims dims = known_dims(c, *element.shape);
      dims.insert(dims.begin(), c.fresh("iterations"));
      c.set(i, element.dtype, std::move(dims));
    }
    return {};
  }

  Status reference(RefContext& c) const {
    ControlContext control(c, subgraphs());
    return iterate(control);
  }

  Status run(CpuContext& c) const {
    if (!c.subgraphs()) return run_by_reference(*this, c);
    ControlContext control(c, subgraphs());
    return iterate(control);
  }

  static std::vector<Sample> samples();

 private:
  int carried() const { return static_cast<int>(body->inputs().size()) - 2; }
  int scans() const { return static_cast<int>(body->outputs().size()) - 1 - carried(); }
  const Type& of_output(int i) const { return body->value(body->outputs()[static_cast<size_t>(i)]).type; }

  // Whether the body takes carried value i as an optional, but gives what such a one holds.
  bool gives_bare(int i) const {
    const Type& taken = body->value(body->inputs()[static_cast<size_t>(2 + i)]).type;
    return taken.kind == Value::Kind::kOptional && of_output(1 + i).kind != Value::Kind::kOptional;
  }

  // The iteration number and the condition are scalars unless the body declares a vector of one element.
  Dims one_element(int input) const {
    const Type& declared = body->value(body->inputs()[static_cast<size_t>(input)]).type;
    return declared.shape && declared.shape->size() == 1 ? Dims{1} : Dims{};
  }

  Status iterate(ControlContext& c) const {
    int64_t trips = std::numeric_limits<int64_t>::max();
    if (const Value m = c.value(0); m.is_tensor()) {
      OCIOR_ASSIGN(trips, one_integer(m, "the trip count"));
    }
    bool go_on = true;
    if (const Value condition = c.value(1); condition.is_tensor()) {
      OCIOR_ASSIGN(go_on, one_bool(condition, "the condition"));
    }
    std::vector<Value> values(2);
    for (int i = 0; i < carried(); ++i) values.push_back(c.value(2 + i));
    std::vector<std::vector<Value>> collected(static_cast<size_t>(scans()));
    std::vector<Value> outputs;
    int64_t i = 0;
    for (; i < trips && go_on; ++i) {
      OCIOR_ASSIGN(Tensor number, Tensor::allocate(DType::kInt64, Shape(one_element(0).size(), 1)));
      OCIOR_ASSIGN(Tensor condition, Tensor::allocate(DType::kBool, Shape(one_element(1).size(), 1)));
      *number.as<int64_t>() = i;
      *condition.as<bool>() = go_on;
      values[0] = Value(std::move(number));
      values[1] = Value(std::move(condition));
      OCIOR_RETURN_IF_ERROR(with_context(c.call(0, values, outputs), fmt::format("body, iteration {}", i)));
      OCIOR_ASSIGN(go_on, one_bool(outputs[0], "the condition that the body gives"));
      for (int k = 0; k < carried(); ++k) {
        Value& given = outputs[static_cast<size_t>(1 + k)];
        values[static_cast<size_t>(2 + k)] = gives_bare(k) ? Value::optional(std::move(given)) : std::move(given);
      }
      for (int k = 0; k < scans(); ++k)
        if (c.wants_tensor(carried() + k))
          collected[static_cast<size_t>(k)].push_back(std::move(outputs[static_cast<size_t>(1 + carried() + k)]));
    }
    for (int k = 0; k < std::min(carried(), c.outputs()); ++k) {
      Value& value = values[static_cast<size_t>(2 + k)];
      if (gives_bare(k)) {
        if (value.elements().empty())
          return error(Code::kInvalidArgument,
                       "output {} would be the empty optional that it began with; expected an iteration at least", k);
        value = Value(value.elements()[0]);
      }
      if (i == 0) {
        OCIOR_ASSIGN(value, own(value));
      }
      OCIOR_RETURN_IF_ERROR(c.set_value(k, std::move(value)));
    }
    for (int k = carried(); k < c.outputs(); ++k) {
      if (!c.wants_tensor(k)) continue;
      OCIOR_ASSIGN(Tensor all,
                   stack(collected[static_cast<size_t>(k - carried())], 0, of_output(1 + k), fmt::format("output {}", k)));
      OCIOR_RETURN_IF_ERROR(c.set_value(k, Value(std::move(all))));
    }
    return {};
  }
};

std::vector<Sample> Loop::samples() {
  // carried = carried + captured; collects the sum before.
  const auto body = [] {
    auto g = std::make_shared<graph::Graph>();
    const Type row = Type::tensor(DType::kFloat, Dims{3});
    const graph::ValueId i = g->add_value("i", Type::tensor(DType::kInt64, Dims{})),
                         go = g->add_value("go", Type::tensor(DType::kBool, Dims{})), x = g->add_value("x", row),
                         step = g->add_value("step", row), y = g->add_value("y", row), go_on = g->add_value("go_on", {}),
                         seen = g->add_value("seen", row);
    for (const graph::ValueId in : {i, go, x}) g->add_input(in);
    g->add_capture(step);
    if (auto add = make_operator("", "Add", kNewestOpset, {}, 2, 1); add.ok()) g->add_node("add", *add, {x, step}, {y});
    if (auto same = make_operator("", "Identity", kNewestOpset, {}, 1, 1); same.ok()) {
      g->add_node("same", *same, {go}, {go_on});
      g->add_node("seen", *same, {x}, {seen});
    }
    g->add_output(go_on, "go_on");
    g->add_output(y, "y");
    g->add_output(seen, "seen");
    return g;
  };
  std::vector<Sample> out;
  for (const double trips : {0.0, 1.0, 4.0})
    for (const double condition : {0.0, 1.0})
      out.push_back({.inputs = {{.dtype = DType::kInt64, .shape = {}, .values = {trips}},
                                {.dtype = DType::kBool, .shape = {}, .values = {condition}},
                                {.shape = {3}},
                                {.shape = {3}}},
                     .attributes = {{"body", body()}},
                     .outputs = 2});
  out.push_back(
      {.inputs = {{.dtype = DType::kInt64, .shape = {1}, .values = {2}}, {.omitted = true}, {.shape = {3}}, {.shape = {3}}},
       .attributes = {{"body", body()}},
       .outputs = 2});
  return out;
}

OCIOR_OPERATOR(Loop)

}  // namespace ocior::ops
