// A Conv of floats and the activation that alone reads it become ai.ocior:FusedConv.
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

}  // namespace

Status fuse_conv(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node node = r.graph.node(id);
    if (node.dead) continue;
    const auto act = activation_of(r, node);
    const Node* conv = act ? r.made_by(node.inputs[0], "Conv") : nullptr;
    if (!conv || r.dtype(node.inputs[0]) != DType::kFloat) continue;
    if (!r.single_use(node.inputs[0])) {
      r.miss(node, "the convolution has another reader");
      continue;
    }
    graph::Attributes attributes = conv->op->attributes();
    attributes["activation"] = std::string(act->name);
    attributes["act_p"] = act->p, attributes["act_q"] = act->q;
    const std::vector<ValueId> inputs = conv->inputs;
    if (const ValueId y = r.make("FusedConv", inputs, std::move(attributes), ops::kOcior); y != kNone)
      r.replace(node.outputs[0], y);
  }
  return {};
}

}  // namespace ocior::passes
