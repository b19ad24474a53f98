// Common subexpressions: equal operators with equal attributes and inputs are computed once. Equal small constants are shared
// first.
#include <cstring>
#include <unordered_map>

#include "passes/pass.h"

namespace ocior::passes {
namespace {

constexpr size_t kSmall = 4096;  // bytes of constants that are compared

std::string key_of(const Node& node) {
  std::string key;
  key.append(node.op->domain()).append(":").append(node.op->name()).append("@").append(std::to_string(node.op->opset()));
  key.append("(").append(graph::to_string(node.op->attributes())).append(")");
  for (const ValueId in : node.inputs) key.append(std::to_string(in)).append(",");
  return key.append("/").append(std::to_string(node.outputs.size()));
}

void share_constants(Rewriter& r) {
  std::unordered_map<std::string, ValueId> seen;
  for (ValueId v = 0; v < static_cast<ValueId>(r.graph.value_count()); ++v) {
    const Tensor* t = r.constant(v);
    if (!t || r.graph.value(v).uses.empty() || t->dtype() == DType::kString || t->bytes() > kSmall) continue;
    std::string key = std::to_string(static_cast<int>(t->dtype())) + to_string(std::span<const int64_t>(t->shape()));
    key.append(static_cast<const char*>(t->data()), t->bytes());
    const auto [it, fresh] = seen.emplace(std::move(key), v);
    if (!fresh) r.replace(v, it->second);
  }
}

}  // namespace

Status share_common(Rewriter& r) {
  share_constants(r);
  OCIOR_ASSIGN(const auto order, r.order());
  std::unordered_map<std::string, NodeId> seen;
  for (const NodeId id : order) {
    const Node& node = r.graph.node(id);
    if (!node.op->pure() || !node.op->subgraphs().empty()) continue;
    const auto [it, fresh] = seen.emplace(key_of(node), id);
    if (fresh) continue;
    const std::vector<ValueId> ours = node.outputs, theirs = r.graph.node(it->second).outputs;
    bool same_places = true;
    for (size_t i = 0; i < ours.size(); ++i) same_places = same_places && (ours[i] == kNone) == (theirs[i] == kNone);
    if (!same_places) continue;
    for (size_t i = 0; i < ours.size(); ++i)
      if (ours[i] != kNone && !r.graph.value(ours[i]).uses.empty()) r.replace(ours[i], theirs[i]);
  }
  return {};
}

}  // namespace ocior::passes
