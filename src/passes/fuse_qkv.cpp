// Queries, keys and values of one input: three products become one with the weights side by side, read by FusedAttention in
// packed form.
#include <cstring>

#include "base/error.h"
#include "passes/pass.h"

namespace ocior::passes {
namespace {

struct Part {
  const Tensor *weight, *bias;
  bool transposed;
};

// A plain Linear (no activation, residual or factor) that only the attention reads.
std::optional<Part> part_of(const Rewriter& r, ValueId v, ValueId& x) {
  const Node* n = r.made_by(v, "Linear", ops::kOcior);
  if (!n || !r.single_use(v) || n->inputs.size() > 3 || (x != kNone && n->inputs[0] != x)) return std::nullopt;
  for (const auto& [name, value] : n->op->attributes())
    if (name != "transpose_b" && !(name == "alpha" && std::get<float>(value) == 1.0f) &&
        !(name == "activation" && std::get<std::string>(value) == "none"))
      return std::nullopt;
  x = n->inputs[0];
  const Tensor* bias = n->inputs.size() > 2 && n->inputs[2] != kNone ? r.constant(n->inputs[2]) : nullptr;
  const Tensor* weight = r.constant(n->inputs[1]);
  if (!weight || (n->inputs.size() > 2 && !bias)) return std::nullopt;
  return Part{weight, bias, attribute(*n->op, "transpose_b", 0) != 0};
}

int64_t columns(const Part& p) { return p.weight->shape()[p.transposed ? 0 : 1]; }
int64_t rows(const Part& p) { return p.weight->shape()[p.transposed ? 1 : 0]; }

// [k, n0 + n1 + n2], or [n0 + n1 + n2, k] when transposed.
Result<Tensor> join_weights(const Part (&parts)[3], int64_t k, int64_t n) {
  const bool transposed = parts[0].transposed;
  OCIOR_ASSIGN(Tensor w, Tensor::allocate(DType::kFloat, transposed ? Shape{n, k} : Shape{k, n}));
  int64_t at = 0;
  for (const Part& p : parts) {
    const int64_t width = columns(p);
    const auto* from = static_cast<const std::byte*>(p.weight->data());
    auto* to = static_cast<std::byte*>(w.data());
    if (transposed) std::memcpy(to + at * k * 4, from, static_cast<size_t>(width * k * 4));
    else
      for (int64_t i = 0; i < k; ++i) std::memcpy(to + (i * n + at) * 4, from + i * width * 4, static_cast<size_t>(width * 4));
    at += width;
  }
  return w;
}

}  // namespace

Status fuse_qkv(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node node = r.graph.node(id);
    if (node.dead || node.op->name() != "FusedAttention" || node.op->domain() != ops::kOcior ||
        attribute(*node.op, "packed", 0) != 0)
      continue;
    ValueId x = kNone;
    const auto q = part_of(r, node.inputs[0], x), k = part_of(r, node.inputs[1], x), v = part_of(r, node.inputs[2], x);
    if (!q || !k || !v) {
      r.miss(node, "its queries, keys and values are not plain products of one value, read by it alone");
      continue;
    }
    const int64_t heads = attribute(*node.op, "num_heads", 1), kv_heads = attribute(*node.op, "kv_heads", heads);
    const bool even = q->transposed == k->transposed && k->transposed == v->transposed && !q->bias == !k->bias &&
                      !k->bias == !v->bias && columns(*q) * kv_heads == columns(*k) * heads && columns(*k) == columns(*v);
    if (!even) {
      r.miss(node, "its three products have different forms");
      continue;
    }
    const Part parts[3] = {*q, *k, *v};
    const int64_t n = columns(*q) + columns(*k) + columns(*v);
    OCIOR_ASSIGN(Tensor weight, join_weights(parts, rows(*q), n));
    ValueId bias = kNone;
    if (q->bias) {
      OCIOR_ASSIGN(Tensor b, Tensor::allocate(DType::kFloat, {n}));
      int64_t at = 0;
      for (const Part& p : parts) {
        std::memcpy(b.as<float>() + at, p.bias->data(), p.bias->bytes());
        at += p.bias->count();
      }
      bias = r.make_constant(std::move(b), "qkv.bias");
    }
    graph::Attributes linear{{"transpose_b", int64_t{q->transposed}}};
    const ValueId qkv =
        r.make("Linear", {x, r.make_constant(std::move(weight), "qkv.weight"), bias}, std::move(linear), ops::kOcior);
    if (qkv == kNone) continue;
    graph::Attributes attributes = node.op->attributes();
    attributes["packed"] = int64_t{1};
    const ValueId y =
        r.make("FusedAttention", {qkv, node.inputs.size() > 3 ? node.inputs[3] : kNone}, std::move(attributes), ops::kOcior);
    if (y != kNone) r.replace(node.outputs[0], y);
  }
  return {};
}

}  // namespace ocior::passes
