// A Conv of floats, the residual added to it and the activation behind become ai.ocior:FusedConv, where each alone reads the one
// before it.
#include <cmath>
#include <limits>
#include <optional>

#include "base/error.h"
#include "passes/pass.h"

namespace ocior::passes {
namespace {

struct Act {
  const char* name;
  float p = 0, q = 0;
};

float number(const Node& node, const char* name, float otherwise) {
  const auto it = node.op->attributes().find(name);
  return it == node.op->attributes().end() ? otherwise : std::get<float>(it->second);
}

// A bound of Clip: input i, or the attribute of older opsets. None: it is no constant.
std::optional<float> bound(const Rewriter& r, const Node& node, size_t i, const char* name, float otherwise) {
  if (node.inputs.size() <= i || node.inputs[i] == kNone) return number(node, name, otherwise);
  const auto value = r.splat(node.inputs[i]);
  if (!value || std::isnan(*value)) return std::nullopt;
  return static_cast<float>(*value);
}

std::optional<Act> activation_of(Rewriter& r, const Node& node) {
  const std::string_view op = node.op->name();
  if (!node.op->domain().empty()) return std::nullopt;
  if (op == "Relu") return Act{"relu"};
  if (op == "Sigmoid") return Act{"sigmoid"};
  if (op == "HardSwish") return Act{"hard_swish"};
  if (op == "LeakyRelu") return Act{"leaky_relu", number(node, "alpha", 0.01f)};
  if (op == "HardSigmoid") return Act{"hard_sigmoid", number(node, "alpha", 0.2f), number(node, "beta", 0.5f)};
  if (op != "Clip") return std::nullopt;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto lo = bound(r, node, 1, "min", -kInfinity), hi = bound(r, node, 2, "max", kInfinity);
  if (!lo || !hi || std::isnan(*lo) || std::isnan(*hi) || *lo > *hi) return std::nullopt;
  return Act{"clip", *lo, *hi};
}

bool has_residual(const Node& conv) { return conv.inputs.size() > 3 && conv.inputs[3] != kNone; }

// The convolution of floats that makes `v` and that an activation, or a residual and one, may join; else null.
const Node* convolution(const Rewriter& r, ValueId v, bool with_residual) {
  if (r.dtype(v) != DType::kFloat) return nullptr;
  if (const Node* conv = r.made_by(v, "Conv")) return conv;
  const Node* fused = with_residual ? r.made_by(v, "FusedConv", ops::kOcior) : nullptr;
  if (!fused || !has_residual(*fused)) return nullptr;
  return std::get<std::string>(fused->op->attributes().at("activation")) == "none" ? fused : nullptr;
}

// The fused form of `from` in the place of `node`.
void fuse(Rewriter& r, const Node& node, const Node& from, ValueId residual, const Act& act) {
  graph::Attributes attributes = from.op->attributes();
  attributes["activation"] = std::string(act.name);
  attributes["act_p"] = act.p, attributes["act_q"] = act.q;
  std::vector<ValueId> inputs = from.inputs;
  if (residual != kNone) inputs.resize(3, kNone), inputs.push_back(residual);
  if (const ValueId y = r.make("FusedConv", inputs, std::move(attributes), ops::kOcior); y != kNone)
    r.replace(node.outputs[0], y);
}

void fuse_activation(Rewriter& r, const Node& node, const Act& act) {
  const Node* conv = convolution(r, node.inputs[0], true);
  if (!conv) return;
  if (r.single_use(node.inputs[0])) fuse(r, node, *conv, kNone, act);
  else r.miss(node, "the convolution has another reader");
}

void fuse_residual(Rewriter& r, const Node& node) {
  for (size_t i = 0; i < 2; ++i) {
    const Node* conv = convolution(r, node.inputs[i], false);
    const ValueId residual = node.inputs[1 - i];
    if (!conv || r.constant(residual)) continue;
    if (!r.single_use(node.inputs[i])) {
      r.miss(node, "the convolution has another reader");
      continue;
    }
    if (!r.same_shape(residual, node.inputs[i])) {
      r.miss(node, "the other operand has another shape, or one that is not known to be the same");
      continue;
    }
    return fuse(r, node, *conv, residual, {"none"});
  }
}

}  // namespace

Status fuse_conv(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node node = r.graph.node(id);
    if (node.dead) continue;
    if (const auto act = activation_of(r, node)) fuse_activation(r, node, *act);
    else if (node.op->name() == "Add" && node.op->domain().empty()) fuse_residual(r, node);
  }
  return {};
}

}  // namespace ocior::passes
