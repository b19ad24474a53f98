// Attention as exporters spell it (Vaswani et al. 2017: heads split by Reshape and Transpose, two products, mask, softmax)
// becomes ai.ocior:FusedAttention over the unsplit [batch, length, heads * dim] values. The mask is peeled of broadcasts and of
// the arithmetic that makes it additive, so that a padding mask arrives as bool[batch, 1, 1, length].
#include <cmath>

#include "base/error.h"
#include "passes/conditions.h"
#include "passes/pass.h"

namespace ocior::passes {
namespace {

constexpr double kHidden = -1e30;  // an additive mask value at or below hides a key

struct Attention {
  ValueId q = kNone, k = kNone, v = kNone, mask = kNone;
  int64_t heads = 0, kv_heads = 0;
  double scale = 1, fill = -INFINITY;
  bool zero_masked_rows = false;
};

// A heads-first value [b, h, s, d] (or [b, h, d, s] when `transposed`) that is x[b, s, h * d] reshaped and transposed.
struct Split {
  ValueId source = kNone;
  Dim heads, dim;
};

std::optional<Split> split_of(const Rewriter& r, ValueId v, bool transposed) {
  const Node* transpose = r.made_by(v, "Transpose");
  if (!transpose) return std::nullopt;
  const std::vector<int64_t> wanted = transposed ? std::vector<int64_t>{0, 2, 3, 1} : std::vector<int64_t>{0, 2, 1, 3};
  if (permutation(*transpose->op, 4) != wanted) return std::nullopt;
  const Node* reshape = r.made_by(transpose->inputs[0], "Reshape");
  if (!reshape) return std::nullopt;
  const Dims *x = r.dims(reshape->inputs[0]), *split = r.dims(transpose->inputs[0]);
  if (!x || !split || x->size() != 3 || split->size() != 4 || !((*x)[0] == (*split)[0]) || !((*x)[1] == (*split)[1]))
    return std::nullopt;
  if (!(*split)[2].known() || !(*split)[3].known()) return std::nullopt;
  return Split{reshape->inputs[0], (*split)[2], (*split)[3]};
}

// Peels factors by constants.
ValueId unscaled(const Rewriter& r, ValueId v, double& scale) {
  for (int i = 0; i < 4; ++i) {
    if (const Node* mul = r.made_by(v, "Mul")) {
      const auto right = r.splat(mul->inputs[1]), left = r.splat(mul->inputs[0]);
      if (!right && !left) return v;
      scale *= right ? *right : *left;
      v = mul->inputs[right ? 0 : 1];
    } else if (const Node* div = r.made_by(v, "Div"); div && r.splat(div->inputs[1]) && *r.splat(div->inputs[1]) != 0) {
      scale /= *r.splat(div->inputs[1]);
      v = div->inputs[0];
    } else {
      return v;
    }
  }
  return v;
}

// A reshape that only joins or splits batch and heads around a product ([b*h, s, d]) says nothing of its own.
ValueId through_reshape(const Rewriter& r, ValueId v) {
  const Node* node = r.made_by(v, "Reshape");
  return node ? node->inputs[0] : v;
}

// k as it enters the product, [b, h, d, s].
std::optional<Split> keys_of(const Rewriter& r, ValueId v) {
  if (auto direct = split_of(r, v, true)) return direct;
  const Node* swap = r.made_by(v, "Transpose");  // [b, h, s, d] with the last two axes swapped
  if (swap && permutation(*swap->op, 4) == std::vector<int64_t>{0, 1, 3, 2}) return split_of(r, swap->inputs[0], false);
  // Through [b * h, s, d]: Reshape, Transpose(0, 2, 1), Reshape.
  const Node* joined = r.made_by(through_reshape(r, v), "Transpose");
  if (!joined || permutation(*joined->op, 3) != std::vector<int64_t>{0, 2, 1}) return std::nullopt;
  const ValueId inner = joined->inputs[0];
  const Node* reshape = r.made_by(inner, "Reshape");
  if (!reshape) return std::nullopt;
  const auto split = split_of(r, reshape->inputs[0], false);
  const Dims *full = r.dims(reshape->inputs[0]), *flat = r.dims(inner), *out = r.dims(v);
  if (!split || !full || !flat || !out || flat->size() != 3 || out->size() != 4 || full->size() != 4) return std::nullopt;
  const bool same = (*flat)[1] == (*full)[2] && (*flat)[2] == (*full)[3] && (*out)[0] == (*full)[0] && (*out)[1] == (*full)[1] &&
                    (*out)[2] == (*full)[3];
  return same ? split : std::nullopt;
}

// Removes what only spreads a boolean mask over more axes.
ValueId peel_bool(const Rewriter& r, ValueId v) {
  for (int i = 0; i < 8; ++i) {
    if (const Node* n = r.made_by(v, "Expand")) v = n->inputs[0];
    else if (const Node* a = r.made_by(v, "And"); a && always_true(r, a->inputs[0])) v = a->inputs[1];
    else if (a && always_true(r, a->inputs[1])) v = a->inputs[0];
    else return v;
  }
  return v;
}

ValueId negated(Rewriter& r, ValueId v) {
  if (const Node* n = r.made_by(v, "Not")) return n->inputs[0];
  return r.make("Not", {v});
}

// The mask that is added to the scores.
ValueId peel_additive(Rewriter& r, ValueId v, double& fill) {
  while (const Node* n = r.made_by(v, "Expand")) v = n->inputs[0];
  const Node* where = r.made_by(v, "Where");
  if (!where) return v;
  const auto yes = r.splat(where->inputs[1]), no = r.splat(where->inputs[2]);
  if (!yes || !no) return v;
  if (*yes == 0 && *no <= kHidden) {
    fill = *no;
    return peel_bool(r, where->inputs[0]);
  }
  if (*no == 0 && *yes <= kHidden) {
    fill = *yes;
    return negated(r, peel_bool(r, where->inputs[0]));
  }
  return v;
}

// Softmax input -> the scaled product; sets the mask.
ValueId peel_mask(Rewriter& r, ValueId scores, Attention& a) {
  if (const Node* add = r.made_by(scores, "Add")) {
    for (size_t i = 0; i < 2; ++i) {
      double ignored = 1;
      if (!r.made_by(unscaled(r, add->inputs[i], ignored), "MatMul")) continue;
      const ValueId product = add->inputs[i], mask = add->inputs[1 - i];
      a.mask = peel_additive(r, mask, a.fill);
      return product;
    }
    return scores;
  }
  if (const Node* where = r.made_by(scores, "Where")) {
    const auto yes = r.splat(where->inputs[1]), no = r.splat(where->inputs[2]);
    const std::vector<ValueId> in = where->inputs;  // negated() adds a node
    if (no && *no <= kHidden) {
      a.fill = *no, a.mask = peel_bool(r, in[0]);
      return in[1];
    }
    if (yes && *yes <= kHidden) {
      a.fill = *yes, a.mask = negated(r, peel_bool(r, in[0]));
      return in[2];
    }
  }
  return scores;
}

// Where(IsNaN(p), 0, p): rows without a visible key give 0.
ValueId peel_guard(const Rewriter& r, ValueId p, Attention& a) {
  const Node* where = r.made_by(p, "Where");
  if (!where) return p;
  const Node* nan = r.made_by(where->inputs[0], "IsNaN");
  const auto zero = r.splat(where->inputs[1]);
  if (!nan || nan->inputs[0] != where->inputs[2] || !zero || *zero != 0) return p;
  a.zero_masked_rows = true;
  return where->inputs[2];
}

// "" when `pv` (the product of weights and values) is attention, or what is in the way.
std::string recognise(Rewriter& r, const Node& pv, Attention& a) {
  const Node* softmax = r.made_by(peel_guard(r, pv.inputs[0], a), "Softmax");
  if (!softmax) return "its left operand is no Softmax";
  const Dims* p = r.dims(softmax->inputs[0]);
  const int64_t axis = attribute(*softmax->op, "axis", softmax->op->opset() < 13 ? 1 : -1);
  if (!p || p->size() != 4 || (axis != -1 && axis != 3)) return "its Softmax is not over the last of four axes";
  const auto v = split_of(r, pv.inputs[1], false);
  if (!v) return "its values are not [batch, length, heads * dim] split into heads";
  const Node* qk = r.made_by(unscaled(r, peel_mask(r, softmax->inputs[0], a), a.scale), "MatMul");
  if (!qk) return "its Softmax is not of a product, scaled and masked";
  const auto q = split_of(r, unscaled(r, qk->inputs[0], a.scale), false);
  if (!q) return "its queries are not [batch, length, heads * dim] split into heads";
  double key_scale = 1;
  const auto k = keys_of(r, unscaled(r, qk->inputs[1], key_scale));
  if (!k) return "its keys are not [batch, length, heads * dim] split into heads";
  a.scale *= key_scale;
  if (!(q->heads == k->heads) || !(k->heads == v->heads) || !(q->dim == k->dim))
    return "queries, keys and values have different heads";
  if (r.dtype(q->source) != DType::kFloat) return "only float is fused";
  const Dims &qs = *r.dims(q->source), &ks = *r.dims(k->source), &vs = *r.dims(v->source);
  if (!(qs[0] == ks[0]) || !(ks[0] == vs[0]) || !(ks[1] == vs[1]))
    return "queries, keys and values have different batches or lengths";
  const Dims* y = r.dims(pv.outputs[0]);
  if (!y || *y != Dims{qs[0], q->heads, qs[1], v->dim}) return "a factor or the mask spreads its scores over more axes";
  if (a.mask != kNone) {
    const Dims* m = r.dims(a.mask);
    if (!m || m->size() < 2 || m->size() > 4) return "its mask has not two to four axes";
  }
  a.q = q->source, a.k = k->source, a.v = v->source;
  a.heads = q->heads.value(), a.kv_heads = k->heads.value();
  return "";
}

// The value [b, s, h * d] behind pv's [b, h, s, d]: Transpose and Reshape joining the heads; kNone when they are not joined.
ValueId joined_output(const Rewriter& r, ValueId pv) {
  if (!r.single_use(pv) || r.graph.value(pv).uses[0].node == kNone) return kNone;
  const Node& transpose = r.graph.node(r.graph.value(pv).uses[0].node);
  if (transpose.op->name() != "Transpose" || permutation(*transpose.op, 4) != std::vector<int64_t>{0, 2, 1, 3}) return kNone;
  const ValueId t = transpose.outputs[0];
  if (!r.single_use(t) || r.graph.value(t).uses[0].node == kNone) return kNone;
  const Node& reshape = r.graph.node(r.graph.value(t).uses[0].node);
  const Dims *in = r.dims(t), *out = r.dims(reshape.outputs[0]);
  if (reshape.op->name() != "Reshape" || !in || !out || in->size() != 4 || out->size() != 3) return kNone;
  return (*in)[0] == (*out)[0] && (*in)[1] == (*out)[1] && (*in)[2] * (*in)[3] == (*out)[2] ? reshape.outputs[0] : kNone;
}

}  // namespace

Status fuse_attention(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    const Node node = r.graph.node(id);
    if (node.dead || node.op->name() != "MatMul" || !node.op->domain().empty() || r.constant(node.inputs[1])) continue;
    Attention a;
    if (!r.made_by(peel_guard(r, node.inputs[0], a), "Softmax")) continue;
    std::string why = recognise(r, node, a);
    const ValueId joined = why.empty() ? joined_output(r, node.outputs[0]) : kNone;
    if (why.empty() && joined == kNone) why = "its heads are not joined by Transpose and Reshape";
    if (!why.empty()) {
      r.miss(node, std::move(why));
      continue;
    }
    graph::Attributes attributes{{"num_heads", a.heads}, {"kv_heads", a.kv_heads}, {"scale", static_cast<float>(a.scale)}};
    if (a.zero_masked_rows) attributes["zero_masked_rows"] = int64_t{1};
    if (a.mask != kNone && r.dtype(a.mask) == DType::kBool) attributes["mask_fill"] = static_cast<float>(a.fill);
    const ValueId y = r.make("FusedAttention", {a.q, a.k, a.v, a.mask}, std::move(attributes), ops::kOcior);
    if (y != kNone) r.replace(joined, y);
  }
  return {};
}

}  // namespace ocior::passes
