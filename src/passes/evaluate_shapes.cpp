// Shape islands: values that inference knows become constants, and Reshape targets made from a tensor's own dimensions become
// constants with 0 (keep) and -1 (the rest), so that the island behind them dies.
#include "passes/pass.h"

namespace ocior::passes {
namespace {

bool all_known(const Dims& dims) {
  for (const Dim& d : dims)
    if (!d.known()) return false;
  return true;
}

Result<Tensor> tensor_of(DType dtype, const Dims& shape, const Dims& data) {
  Shape numbers;
  for (const Dim& d : shape) numbers.push_back(d.value());
  OCIOR_ASSIGN(Tensor t, Tensor::allocate(dtype, std::move(numbers)));
  for (size_t i = 0; i < data.size(); ++i) set_int(dtype, t.data(), static_cast<int64_t>(i), data[i].value());
  return t;
}

// Target with numbers, 0 where the dimension is x's own, and at most one -1; nothing when that cannot say it.
std::optional<std::vector<int64_t>> constant_target(const Dims& x, const Dims& target) {
  std::vector<int64_t> out;
  int unknown = 0;
  for (size_t i = 0; i < target.size(); ++i) {
    if (target[i].known()) {
      if (target[i].value() <= 0) return std::nullopt;
      out.push_back(target[i].value());
    } else if (i < x.size() && target[i] == x[i]) {
      out.push_back(0);
    } else {
      ++unknown;
      out.push_back(-1);
    }
  }
  if (unknown > 1) return std::nullopt;
  return out;
}

Status fix_reshape(Rewriter& r, const Node& node) {
  if (r.constant(node.inputs[1]) || !r.graph.value(node.inputs[1]).data) return {};  // a run must look at an unknown target
  const Dims *x = r.dims(node.inputs[0]), *out = r.dims(node.outputs[0]);
  if (!x || !out) return {};
  const auto target = constant_target(*x, *out);
  if (!target) return {};
  OCIOR_ASSIGN(Tensor t, Tensor::allocate(DType::kInt64, {static_cast<int64_t>(target->size())}));
  std::copy(target->begin(), target->end(), t.as<int64_t>());
  const ValueId fresh = r.make("Reshape", {node.inputs[0], r.make_constant(std::move(t), "shape")});
  if (fresh != kNone) r.replace(node.outputs[0], fresh);
  return {};
}

}  // namespace

Status evaluate_shapes(Rewriter& r) {
  OCIOR_ASSIGN(const auto order, r.order());
  for (const NodeId id : order) {
    if (r.graph.node(id).dead) continue;
    const std::vector<ValueId> outputs = r.graph.node(id).outputs;
    for (const ValueId out : outputs) {
      if (out == kNone || r.graph.value(out).uses.empty()) continue;
      const graph::ValueInfo& v = r.graph.value(out);
      if (!v.data || v.constant || !v.type.shape || !all_known(*v.type.shape) || !all_known(*v.data) || is_floating(v.type.dtype))
        continue;
      int64_t count = 1;
      for (const Dim& d : *v.type.shape) count *= d.value();
      if (count != static_cast<int64_t>(v.data->size())) continue;
      OCIOR_ASSIGN(Tensor t, tensor_of(v.type.dtype, *v.type.shape, *v.data));
      const std::string name = v.name;
      r.replace(out, r.make_constant(std::move(t), name));
    }
    const Node& node = r.graph.node(id);
    if (node.op->name() == "Reshape" && node.op->domain().empty() && node.inputs.size() > 1 &&
        !r.graph.value(node.outputs[0]).uses.empty())
      OCIOR_RETURN_IF_ERROR(fix_reshape(r, Node(node)));
  }
  return {};
}

}  // namespace ocior::passes
