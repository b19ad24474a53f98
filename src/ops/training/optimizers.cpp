// Adagrad, Adam and Momentum (https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Adam.html): one step of an optimizer on
// any number of tensors. Behind the learning rate and the update count, the inputs are all tensors, then all gradients, then all
// states of the first kind, and so on; the outputs are all new tensors, then all new states.
#include <cmath>

#include "ops/nn/numeric.h"
#include "ops/operator.h"

namespace ocior::ops {
namespace {

constexpr std::string_view kTraining = "ai.onnx.preview.training";
constexpr int kRate = 0, kCount = 1, kFirst = 2;

// One element on its way through a step. Adagrad and Momentum have one state.
struct Element {
  double x, gradient, state[2];
};

int groups_of(int inputs, int states) { return (inputs - kFirst) / (2 + states); }

void check_counts(const NodeReader& node, int states) {
  const int tensors = node.inputs() - kFirst, n = groups_of(node.inputs(), states);
  if (tensors % (2 + states) != 0)
    node.fail("{} inputs behind the learning rate and the update count; expected a multiple of {}", tensors, 2 + states);
  else if (node.outputs() > n * (1 + states))
    node.fail("{} outputs are named, but {} tensors have {} results", node.outputs(), n, n * (1 + states));
}

Status infer_step(ShapeContext& c, int states) {
  if (!c.has(kRate) || !c.has(kCount)) return error(Code::kInvalidGraph, "the learning rate and the update count are required");
  OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kRate}));
  if (c.dtype(kCount) != DType::kInt64)
    return error(Code::kInvalidGraph, "the update count is {}; expected int64", name_of(c.dtype(kCount)));
  for (const int i : {kRate, kCount})
    if (c.shape(i))
      for (const Dim& d : *c.shape(i))
        if (d.known() && d.value() != 1)
          return error(Code::kInvalidArgument, "input {} has shape {}; expected one element", i, to_string(*c.shape(i)));
  const int n = groups_of(c.inputs(), states);
  for (int k = 0; k < n; ++k) {
    for (int part = 0; part < 2 + states; ++part) {
      const int i = kFirst + part * n + k, x = kFirst + k;
      if (!c.has(i)) return error(Code::kInvalidGraph, "input {} is omitted; every tensor needs its gradient and states", i);
      OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {i}, false));
      if (c.dtype(i) != c.dtype(x))
        return error(Code::kInvalidGraph, "input {} is {}; expected {} as input {}", i, name_of(c.dtype(i)), name_of(c.dtype(x)),
                     x);
      if (c.shape(i) && c.shape(x) && !nn::may_equal(*c.shape(i), *c.shape(x)))
        return error(Code::kInvalidArgument, "input {} has shape {}; expected {} as input {}", i, to_string(*c.shape(i)),
                     to_string(*c.shape(x)), x);
    }
    for (int i = k; i < c.outputs(); i += n) c.set(i, c.in(kFirst + k));
  }
  return {};
}

// Applies step(element, rate, count) to every element.
template <class Step>
Status reference_step(RefContext& c, int states, Step&& step) {
  const int n = groups_of(c.inputs(), states);
  const double rate = get_double(c.in(kRate).dtype(), c.in(kRate).data(), 0);
  const int64_t count = get_int(DType::kInt64, c.in(kCount).data(), 0);
  for (int k = 0; k < n; ++k) {
    const auto part = [&](int i) { return nn::doubles(c.in(kFirst + i * n + k)); };
    std::vector<double> x = part(0);
    const std::vector<double> gradient = part(1);
    std::vector<std::vector<double>> state;
    for (int s = 0; s < states; ++s) state.push_back(part(2 + s));
    for (size_t i = 0; i < x.size(); ++i) {
      Element e{x[i], gradient[i], {}};
      for (size_t s = 0; s < state.size(); ++s) e.state[s] = state[s][i];
      step(e, rate, count);
      x[i] = e.x;
      for (size_t s = 0; s < state.size(); ++s) state[s][i] = e.state[s];
    }
    if (c.wants(k)) nn::store(c.out(k), x);
    for (int s = 0; s < states; ++s)
      if (const int i = (1 + s) * n + k; c.wants(i)) nn::store(c.out(i), state[static_cast<size_t>(s)]);
  }
  return {};
}

std::vector<Sample> step_samples(int states, const Attributes& required, const Attributes& all) {
  std::vector<Sample> out;
  for (const Attributes& attributes : {required, all})
    for (const double count : {0.0, 5.0})
      for (const std::vector<Shape>& shapes : {std::vector<Shape>{{3, 4}}, {{2}, {0}, {}}}) {
        Sample s{.inputs = {{.shape = {}, .values = {0.1}}, {.dtype = DType::kInt64, .shape = {}, .values = {count}}},
                 .attributes = attributes,
                 .outputs = static_cast<int>(shapes.size()) * (1 + states)};
        for (int part = 0; part < 2 + states; ++part)
          for (const Shape& shape : shapes)
            s.inputs.push_back(
                {.dtype = shapes.size() > 1 ? DType::kDouble : DType::kFloat, .shape = shape, .fill = Fill::kPositive});
        out.push_back(std::move(s));
      }
  return out;
}

}  // namespace

struct Adagrad {
  static constexpr int kStates = 1;
  static constexpr OpInfo info{
      .name = "Adagrad", .domain = kTraining, .min_inputs = 5, .max_inputs = kUnbounded, .max_outputs = kUnbounded};

  double decay_factor = 0, epsilon = 1e-6, norm = 0;

  static Adagrad parse(const NodeReader& node) {
    check_counts(node, kStates);
    return {node.number("decay_factor", 0), node.number("epsilon", 1e-6f), node.number("norm_coefficient", 0)};
  }
  Status infer(ShapeContext& c) const { return infer_step(c, kStates); }
  Status reference(RefContext& c) const {
    return reference_step(c, kStates, [&](Element& e, double rate, int64_t count) {
      const double gradient = norm * e.x + e.gradient;
      e.state[0] += gradient * gradient;
      e.x -= rate / (1 + static_cast<double>(count) * decay_factor) * gradient / (std::sqrt(e.state[0]) + epsilon);
    });
  }
  static std::vector<Sample> samples() {
    return step_samples(kStates, {}, {{"decay_factor", 0.1f}, {"epsilon", 1e-4f}, {"norm_coefficient", 0.01f}});
  }
};

struct Adam {
  static constexpr int kStates = 2;
  static constexpr OpInfo info{
      .name = "Adam", .domain = kTraining, .min_inputs = 6, .max_inputs = kUnbounded, .max_outputs = kUnbounded};

  double alpha = 0.9, beta = 0.999, epsilon = 1e-6, norm = 0, norm_post = 0;

  static Adam parse(const NodeReader& node) {
    check_counts(node, kStates);
    return {node.number("alpha", 0.9f), node.number("beta", 0.999f), node.number("epsilon", 1e-6f),
            node.number("norm_coefficient", 0), node.number("norm_coefficient_post", 0)};
  }
  Status infer(ShapeContext& c) const { return infer_step(c, kStates); }
  Status reference(RefContext& c) const {
    return reference_step(c, kStates, [&](Element& e, double rate, int64_t count) {
      const double gradient = norm * e.x + e.gradient, t = static_cast<double>(count);
      e.state[0] = alpha * e.state[0] + (1 - alpha) * gradient;
      e.state[1] = beta * e.state[1] + (1 - beta) * gradient * gradient;
      const double adjusted = count > 0 ? rate * std::sqrt(1 - std::pow(beta, t)) / (1 - std::pow(alpha, t)) : rate;
      e.x = (1 - norm_post) * (e.x - adjusted * e.state[0] / (std::sqrt(e.state[1]) + epsilon));
    });
  }
  static std::vector<Sample> samples() {
    return step_samples(
        kStates, {},
        {{"alpha", 0.95f}, {"beta", 0.1f}, {"epsilon", 1e-2f}, {"norm_coefficient", 0.01f}, {"norm_coefficient_post", 0.02f}});
  }
};

struct Momentum {
  static constexpr int kStates = 1;
  static constexpr OpInfo info{
      .name = "Momentum", .domain = kTraining, .min_inputs = 5, .max_inputs = kUnbounded, .max_outputs = kUnbounded};

  double alpha = 0, beta = 0, norm = 0;
  bool nesterov = false;

  static Momentum parse(const NodeReader& node) {
    check_counts(node, kStates);
    for (const char* name : {"alpha", "beta", "mode", "norm_coefficient"})
      if (!node.has(name)) node.fail("attribute '{}' is required", name);
    const std::string mode = node.text("mode", "standard");
    if (mode != "standard" && mode != "nesterov") node.fail("mode is '{}'; expected 'standard' or 'nesterov'", mode);
    return {node.number("alpha", 0), node.number("beta", 0), node.number("norm_coefficient", 0), mode == "nesterov"};
  }
  Status infer(ShapeContext& c) const { return infer_step(c, kStates); }
  Status reference(RefContext& c) const {
    return reference_step(c, kStates, [&](Element& e, double rate, int64_t count) {
      const double gradient = norm * e.x + e.gradient;
      e.state[0] = alpha * e.state[0] + (count > 0 ? beta : 1) * gradient;
      e.x -= rate * (nesterov ? gradient + alpha * e.state[0] : e.state[0]);
    });
  }
  static std::vector<Sample> samples() {
    Attributes attributes{{"alpha", 0.95f}, {"beta", 0.85f}, {"mode", std::string("standard")}, {"norm_coefficient", 0.01f}};
    Attributes other = attributes;
    other["mode"] = std::string("nesterov");
    return step_samples(kStates, attributes, other);
  }
};

OCIOR_OPERATOR(Adagrad)
OCIOR_OPERATOR(Adam)
OCIOR_OPERATOR(Momentum)

}  // namespace ocior::ops
