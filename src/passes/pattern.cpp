#include "passes/pattern.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"

namespace ocior::passes {
namespace {

bool commutes(std::string_view op) { return op == "Add" || op == "Mul"; }

// Constants of a graph carry the rounding of their own type.
double tolerance(DType t) {
  switch (t) {
    case DType::kFloat16: return 0x1p-10;
    case DType::kBFloat16: return 0x1p-7;
    case DType::kDouble: return 1e-7;  // exporters widen float constants
    default: return 1e-6;
  }
}

class Matcher {
 public:
  Matcher(const Rewriter& r, std::string* why) : r_(r), why_(why) {}

  bool match(const Pat& p, ValueId v, Match& m) {
    if (v == kNone) return fail(p, v);
    switch (p.kind) {
      case Pat::Kind::kAny: {
        const auto [it, fresh] = m.values.try_emplace(p.name, v);
        return fresh || it->second == v || fail(p, v);
      }
      case Pat::Kind::kSplat: {
        const auto c = r_.splat(v);
        return (c && std::fabs(*c - p.value) <= tolerance(r_.dtype(v)) * std::fabs(p.value)) || fail(p, v);
      }
      case Pat::Kind::kAnySplat: {
        const auto c = r_.splat(v);
        if (!c) return fail(p, v);
        m.numbers[p.name] = *c;
        return true;
      }
      case Pat::Kind::kOr:
        for (const Pat& q : p.in) {
          Match saved = m;
          if (match(q, v, m)) return true;
          m = std::move(saved);
        }
        return false;
      case Pat::Kind::kOp: return match_op(p, v, m);
    }
    return false;
  }

 private:
  bool match_op(const Pat& p, ValueId v, Match& m) {
    const Node* node = r_.made_by(v, p.name);
    if (!node) return fail(p, v);
    const NodeId id = r_.graph.value(v).producer;
    const int deepest = deepest_;
    const std::string why = why_ ? *why_ : "";
    ++depth_;
    bool ok;
    if (commutes(p.name)) {
      ok = match_commutative(p, v, m);
    } else {
      m.interior.push_back(id);
      ok = node->inputs.size() >= p.in.size();
      for (size_t i = 0; ok && i < p.in.size(); ++i) ok = match(p.in[i], node->inputs[i], m);
    }
    --depth_;
    if (ok && why_) {  // orders of operands that were tried on the way say nothing
      deepest_ = deepest;
      *why_ = why;
    }
    return ok;
  }

  // a*b*c is one product whatever the brackets: operands of nested nodes of the same kind form one set.
  bool match_commutative(const Pat& p, ValueId v, Match& m) {
    std::vector<const Pat*> wanted;
    flatten(p, p.name, wanted);
    std::vector<ValueId> operands;
    std::vector<NodeId> nodes;
    flatten(v, p.name, wanted.size(), operands, nodes);
    if (operands.size() != wanted.size())
      return fail(depth_ - 1, fmt::format("expected {} operands of {}, found {}", wanted.size(), p.name, operands.size()));
    m.interior.insert(m.interior.end(), nodes.begin(), nodes.end());
    // Constants and operators first: they decide quickly, and free captures take what is left.
    std::stable_sort(wanted.begin(), wanted.end(), [](const Pat* a, const Pat* b) { return rank(*a) < rank(*b); });
    return match_set(wanted, 0, operands, m);
  }

  static int rank(const Pat& p) { return p.kind == Pat::Kind::kSplat ? 0 : p.kind == Pat::Kind::kAny ? 2 : 1; }

  bool match_set(const std::vector<const Pat*>& wanted, size_t at, std::vector<ValueId>& operands, Match& m) {
    if (at == wanted.size()) return true;
    for (size_t i = 0; i < operands.size(); ++i) {
      Match saved = m;
      const ValueId v = operands[i];
      operands.erase(operands.begin() + static_cast<int64_t>(i));
      if (match(*wanted[at], v, m) && match_set(wanted, at + 1, operands, m)) return true;
      operands.insert(operands.begin() + static_cast<int64_t>(i), v);
      m = std::move(saved);
    }
    return false;
  }

  static void flatten(const Pat& p, std::string_view op, std::vector<const Pat*>& out) {
    if (p.kind == Pat::Kind::kOp && p.name == op)
      for (const Pat& q : p.in) flatten(q, op, out);
    else out.push_back(&p);
  }

  void flatten(ValueId v, std::string_view op, size_t most, std::vector<ValueId>& out, std::vector<NodeId>& nodes) {
    const Node* node = r_.made_by(v, op);
    const bool inside = nodes.empty() || (node && r_.single_use(v));
    if (!node || !inside || out.size() + nodes.size() > 2 * most) {
      out.push_back(v);
      return;
    }
    nodes.push_back(r_.graph.value(v).producer);
    for (const ValueId in : node->inputs) flatten(in, op, most, out, nodes);
  }

  bool fail(const Pat& p, ValueId v) {
    if (!why_ || depth_ < deepest_) return false;
    std::string wanted;
    switch (p.kind) {
      case Pat::Kind::kSplat: wanted = fmt::format("the constant {}", p.value); break;
      case Pat::Kind::kAnySplat: wanted = "a constant"; break;
      case Pat::Kind::kAny: wanted = fmt::format("the same value as '{}'", p.name); break;
      default: wanted = std::string(p.name); break;
    }
    std::string got = "nothing";
    if (v != kNone) {
      const NodeId producer = r_.graph.value(v).producer;
      const auto c = r_.splat(v);
      got = c                   ? fmt::format("the constant {}", *c)
            : producer != kNone ? std::string(r_.graph.node(producer).op->name())
                                : fmt::format("'{}'", r_.graph.value(v).name);
    }
    return fail(depth_, fmt::format("expected {}, found {}", wanted, got));
  }

  // The deepest failure is what most likely is in the way.
  bool fail(int depth, std::string reason) {
    if (!why_ || depth < deepest_) return false;
    deepest_ = depth;
    *why_ = std::move(reason);
    return false;
  }

  const Rewriter& r_;
  std::string* why_;
  int depth_ = 0, deepest_ = 0;
};

// Whether `op` is among what v is made of, a few nodes up.
bool contains(const Rewriter& r, ValueId v, std::string_view op, int levels) {
  if (v == kNone || r.graph.value(v).producer == kNone) return false;
  const Node& node = r.graph.node(r.graph.value(v).producer);
  if (node.op->name() == op) return true;
  if (levels == 0 || node.inputs.size() > 3) return false;
  return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId in) { return contains(r, in, op, levels - 1); });
}

}  // namespace

std::optional<Match> match(const Rewriter& r, const Pat& pattern, ValueId root, std::string* why) {
  Match m;
  if (!Matcher(r, why).match(pattern, root, m)) return std::nullopt;
  const std::set<NodeId> inside(m.interior.begin(), m.interior.end());
  for (const NodeId id : inside)
    for (const ValueId out : r.graph.node(id).outputs) {
      if (out == kNone || out == root) continue;
      for (const graph::Use& use : r.graph.value(out).uses)
        if (use.node == kNone || !inside.count(use.node)) {
          if (why) *why = fmt::format("'{}' inside of it is also read elsewhere", r.graph.value(out).name);
          return std::nullopt;
        }
    }
  return m;
}

Status apply(Rewriter& r, const Rewrite& rewrite) {
  OCIOR_ASSIGN(const auto order, r.order());
  const Pat pattern = rewrite.pattern();
  for (const NodeId id : order) {
    const Node& node = r.graph.node(id);
    if (node.dead || node.op->name() != rewrite.root || !node.op->domain().empty()) continue;
    const ValueId root = node.outputs[0];
    std::string why;
    const auto m = match(r, pattern, root, &why);
    if (!m) {
      if (rewrite.near_miss.empty() || contains(r, root, rewrite.near_miss, 4)) r.miss(node, why);
      continue;
    }
    if (rewrite.unless)
      if (std::string reason = rewrite.unless(r, *m); !reason.empty()) {
        r.miss(node, std::move(reason));
        continue;
      }
    if (const ValueId fresh = rewrite.replace(r, *m); fresh != kNone) r.replace(root, fresh);
  }
  return {};
}

}  // namespace ocior::passes
