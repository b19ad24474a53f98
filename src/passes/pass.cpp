#include "passes/pass.h"

#include "base/error.h"

namespace ocior::passes {
namespace {
constexpr size_t kMaxMisses = 50;  // per pass; more say nothing new
}

const Node* Rewriter::made_by(ValueId v, std::string_view op, std::string_view domain) const {
  if (v == kNone) return nullptr;
  const NodeId producer = graph.value(v).producer;
  if (producer == kNone) return nullptr;
  const Node& node = graph.node(producer);
  return !node.dead && node.op->name() == op && node.op->domain() == domain ? &node : nullptr;
}

std::optional<double> Rewriter::splat(ValueId v) const {
  const Tensor* t = graph.constant(v);
  if (!t || t->dtype() == DType::kString || t->count() < 1 || t->count() > 1024) return std::nullopt;
  const double first = get_double(t->dtype(), t->data(), 0);
  for (int64_t i = 1; i < t->count(); ++i)
    if (get_double(t->dtype(), t->data(), i) != first) return std::nullopt;
  return first;
}

const Dims* Rewriter::dims(ValueId v) const {
  const auto& shape = graph.value(v).type.shape;
  return shape ? &*shape : nullptr;
}

bool Rewriter::same_shape(ValueId a, ValueId b) const {
  const Dims *x = dims(a), *y = dims(b);
  return x && y && *x == *y;
}

std::optional<std::vector<int64_t>> Rewriter::ints(ValueId v) const {
  const Tensor* t = v == kNone ? nullptr : graph.constant(v);
  if (!t || (t->dtype() != DType::kInt64 && t->dtype() != DType::kInt32) || t->count() > 1024) return std::nullopt;
  std::vector<int64_t> out;
  for (int64_t i = 0; i < t->count(); ++i) out.push_back(get_int(t->dtype(), t->data(), i));
  return out;
}

ValueId Rewriter::make(std::string_view op, std::vector<ValueId> inputs, graph::Attributes attributes, std::string_view domain) {
  while (!inputs.empty() && inputs.back() == kNone) inputs.pop_back();
  auto made = ops::make_operator(domain, op, ops::kNewestOpset, attributes, static_cast<int>(inputs.size()), 1);
  if (made.ok()) {
    auto values = patch_.add(std::move(made).value(), std::move(inputs));
    if (values.ok()) return (*values)[0];
    if (misses.size() < kMaxMisses) misses.push_back(values.status().message());
  } else if (misses.size() < kMaxMisses) {
    misses.push_back(made.status().message());
  }
  return kNone;
}

void Rewriter::replace(ValueId from, ValueId to) {
  patch_.replace(from, to);
  ++fired;
}

void Rewriter::miss(const Node& node, std::string reason) {
  if (misses.size() < kMaxMisses) misses.push_back(fmt::format("node '{}' ({}): {}", node.name, node.op->name(), reason));
}

int64_t attribute(const graph::Op& op, const std::string& name, int64_t otherwise) {
  const auto it = op.attributes().find(name);
  if (it == op.attributes().end()) return otherwise;
  const auto* v = std::get_if<int64_t>(&it->second);
  return v ? *v : otherwise;
}

std::vector<int64_t> permutation(const graph::Op& op, size_t rank) {
  const auto it = op.attributes().find("perm");
  if (it != op.attributes().end())
    if (const auto* v = std::get_if<std::vector<int64_t>>(&it->second); v && v->size() == rank) return *v;
  std::vector<int64_t> reversed(rank);
  for (size_t i = 0; i < rank; ++i) reversed[i] = static_cast<int64_t>(rank - 1 - i);
  return reversed;
}

}  // namespace ocior::passes
