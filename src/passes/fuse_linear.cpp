// Products with constant weights become ai.ocior:Linear, which takes up what follows them: bias, activation, residual.
// y = act(alpha * x w + bias) + residual.
#include "base/error.h"
#include "passes/pass.h"

namespace ocior::passes {
namespace {

const Node* linear(const Rewriter& r, ValueId v) { return r.made_by(v, "Linear", ops::kOcior); }

bool has_input(const Node& node, size_t i) { return node.inputs.size() > i && node.inputs[i] != kNone; }

bool has_activation(const Node& node) {
  const auto it = node.op->attributes().find("activation");
  return it != node.op->attributes().end() && std::get<std::string>(it->second) != "none";
}

ValueId remake(Rewriter& r, const Node& from, ValueId bias, ValueId residual, graph::Attributes attributes) {
  return r.make("Linear", {from.inputs[0], from.inputs[1], bias, residual}, std::move(attributes), ops::kOcior);
}

ValueId input(const Node& node, size_t i) { return has_input(node, i) ? node.inputs[i] : kNone; }

bool is_weight(const Rewriter& r, ValueId v) {
  const Tensor* t = v == kNone ? nullptr : r.constant(v);
  return t && t->rank() == 2 && t->dtype() == DType::kFloat && t->count() > 0;
}

void from_matmul(Rewriter& r, const Node& node) {
  if (r.dtype(node.inputs[0]) != DType::kFloat || !is_weight(r, node.inputs[1])) return;
  const Dims* x = r.dims(node.inputs[0]);
  if (!x || x->size() < 2) return;
  if (const ValueId y = r.make("Linear", {node.inputs[0], node.inputs[1]}, {}, ops::kOcior); y != kNone)
    r.replace(node.outputs[0], y);
}

void from_gemm(Rewriter& r, const Node& node) {
  if (r.dtype(node.inputs[0]) != DType::kFloat || !is_weight(r, node.inputs[1])) return;
  const auto number = [&](const char* name) {
    const auto it = node.op->attributes().find(name);
    return it == node.op->attributes().end() ? 1.0f : std::get<float>(it->second);
  };
  const int64_t transposed = attribute(*node.op, "transB", 0);
  if (attribute(*node.op, "transA", 0) != 0) return r.miss(node, "A is transposed");
  const ValueId c = input(node, 2);
  if (c != kNone) {
    const Dims *bias = r.dims(c), *y = r.dims(node.outputs[0]);
    const bool vector = bias && y && bias->size() == 1 && (*bias)[0] == y->back();
    if (!vector || number("beta") != 1.0f) return r.miss(node, "C is no vector of the output's width, or beta is not 1");
  }
  graph::Attributes attributes{{"transpose_b", transposed}, {"alpha", number("alpha")}};
  if (const ValueId y = r.make("Linear", {node.inputs[0], node.inputs[1], c}, std::move(attributes), ops::kOcior); y != kNone)
    r.replace(node.outputs[0], y);
}

std::string activation_of(const Node& node) {
  const std::string_view op = node.op->name();
  if (!node.op->domain().empty()) return "";
  if (op == "Relu") return "relu";
  if (op == "Tanh") return "tanh";
  if (op == "Sigmoid") return "sigmoid";
  if (op != "Gelu") return "";
  const auto it = node.op->attributes().find("approximate");
  return it != node.op->attributes().end() && std::get<std::string>(it->second) == "tanh" ? "gelu_tanh" : "gelu_erf";
}

}  // namespace

Status fuse_linear(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node node = r.graph.node(id);
    if (node.dead || !node.op->domain().empty()) continue;
    if (node.op->name() == "MatMul") from_matmul(r, node);
    if (node.op->name() == "Gemm") from_gemm(r, node);
  }
  return {};
}

Status fuse_bias(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node node = r.graph.node(id);
    if (node.dead || node.op->name() != "Add" || !node.op->domain().empty()) continue;
    for (size_t i = 0; i < 2; ++i) {
      const Node* product = linear(r, node.inputs[i]);
      const ValueId bias = node.inputs[1 - i];
      if (!product || !r.constant(bias) || r.constant(bias)->dtype() != DType::kFloat) continue;
      const Dims *b = r.dims(bias), *y = r.dims(node.outputs[0]);
      if (!b || !y || b->size() != 1 || !((*b)[0] == y->back())) continue;
      if (has_input(*product, 2) || has_input(*product, 3) || has_activation(*product) || !r.single_use(node.inputs[i])) {
        r.miss(node, "the product has a bias, an activation or another reader already");
        continue;
      }
      if (const ValueId fresh = remake(r, *product, bias, kNone, product->op->attributes()); fresh != kNone)
        r.replace(node.outputs[0], fresh);
      break;
    }
  }
  return {};
}

Status fuse_activation(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node node = r.graph.node(id);
    if (node.dead) continue;
    const std::string activation = activation_of(node);
    const Node* product = activation.empty() ? nullptr : linear(r, node.inputs[0]);
    if (!product) continue;
    if (has_input(*product, 3) || has_activation(*product) || !r.single_use(node.inputs[0])) {
      r.miss(node, "the product has a residual, an activation or another reader already");
      continue;
    }
    graph::Attributes attributes = product->op->attributes();
    attributes["activation"] = activation;
    if (const ValueId fresh = remake(r, *product, input(*product, 2), kNone, std::move(attributes)); fresh != kNone)
      r.replace(node.outputs[0], fresh);
  }
  return {};
}

Status fuse_residual(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node node = r.graph.node(id);
    if (node.dead || node.op->name() != "Add" || !node.op->domain().empty()) continue;
    for (size_t i = 0; i < 2; ++i) {
      const Node* product = linear(r, node.inputs[i]);
      const ValueId residual = node.inputs[1 - i];
      if (!product || r.constant(residual) || has_input(*product, 3)) continue;
      if (!r.single_use(node.inputs[i]) || node.inputs[0] == node.inputs[1]) {
        r.miss(node, "the product has another reader");
        continue;
      }
      if (!r.same_shape(residual, node.inputs[i])) {
        r.miss(node, "the other operand has another shape, or one that is not known to be the same");
        continue;
      }
      if (const ValueId fresh = remake(r, *product, input(*product, 2), residual, product->op->attributes()); fresh != kNone)
        r.replace(node.outputs[0], fresh);
      break;
    }
  }
  return {};
}

}  // namespace ocior::passes
