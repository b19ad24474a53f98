// Reverse-mode differentiation: rules() lists the operators that have a derivative; each rule adds the nodes that turn the
// gradient of a node's output into those of its inputs. Ranks and shapes are not known at import, so broadcasting is undone by
// nodes that compare shapes; constant folding removes them where shapes are fixed.
#include "onnx/gradient.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "ops/operator.h"

namespace ocior::onnx {
namespace {

using graph::Attributes;
using graph::kNone;
using graph::Node;
using graph::NodeId;
using graph::ValueId;

class Differentiator {
 public:
  Differentiator(graph::Graph& g, const GradientNode& node, size_t& work, size_t most)
      : g_(g), node_(node), work_(work), most_(most) {}

  Status run() {
    OCIOR_RETURN_IF_ERROR(sort());
    OCIOR_RETURN_IF_ERROR(compute_again());
    mark_active();
    if (status_.ok()) differentiate();
    return status_;
  }

 private:
  using Rule = void (Differentiator::*)(const Node&, ValueId dy);
  struct Entry {
    Rule rule;                       // null: the derivative is zero everywhere
    std::vector<int> inputs = {0};   // that the derivative is of; the others are shapes, axes and the like
    std::vector<std::string> known;  // attributes that the rule understands
  };
  static const std::map<std::string, Entry, std::less<>>& rules();

  const Entry* entry_of(const Node& n) const {
    if (!n.op->domain().empty()) return nullptr;
    const auto found = rules().find(n.op->name());
    return found == rules().end() ? nullptr : &found->second;
  }

  Status count() {
    if (++work_ > most_) return error(Code::kInvalidGraph, "the Gradient nodes of the model ask for more than {} nodes", most_);
    return {};
  }

  bool is_variable(ValueId v) const { return std::ranges::count(node_.xs, v) + std::ranges::count(node_.zs, v) > 0; }

  // The nodes that y needs down to the variables, producers first, into order_.
  Status sort() {
    enum State { kOpen = 1, kDone = 2 };
    std::map<NodeId, State> states;
    std::set<ValueId> given(g_.inputs().begin(), g_.inputs().end());
    given.insert(g_.captures().begin(), g_.captures().end());
    std::vector<std::pair<NodeId, size_t>> stack;  // a node and the next of its inputs
    const auto enter = [&](ValueId v) -> Status {
      const NodeId n = v == kNone || is_variable(v) ? kNone : g_.value(v).producer;
      if (n == kNone) {
        if (v == kNone || is_variable(v) || given.contains(v) || g_.value(v).constant) return {};
        return error(Code::kInvalidGraph, "'{}' is the output of a Gradient node too; that one must stand before this one",
                     g_.value(v).name);
      }
      if (const auto seen = states.find(n); seen != states.end())
        return seen->second == kDone ? Status() : error(Code::kInvalidGraph, "node '{}' depends on itself", g_.node(n).name);
      states[n] = kOpen;
      stack.emplace_back(n, 0);
      return count();
    };
    OCIOR_RETURN_IF_ERROR(enter(node_.y));
    while (!stack.empty()) {
      const auto [n, next] = stack.back();
      if (next < g_.node(n).inputs.size()) {
        ++stack.back().second;
        OCIOR_RETURN_IF_ERROR(enter(g_.node(n).inputs[next]));
        continue;
      }
      states[n] = kDone;
      order_.push_back(n);
      stack.pop_back();
    }
    return {};
  }

  // Where other values than the variables' own are given, what depends on them is computed from those.
  Status compute_again() {
    std::map<ValueId, ValueId> other;
    for (size_t i = 0; i < node_.inputs.size(); ++i) {
      const ValueId v = i < node_.xs.size() ? node_.xs[i] : node_.zs[i - node_.xs.size()];
      if (v != node_.inputs[i]) other[v] = node_.inputs[i];
      if (i < node_.xs.size()) xs_.push_back(node_.inputs[i]);
    }
    y_ = node_.y;
    if (other.empty()) return {};
    const auto now = [&](ValueId v) { return other.contains(v) ? other.at(v) : v; };
    for (NodeId& id : order_) {
      const Node n = g_.node(id);
      if (std::ranges::none_of(n.inputs, [&](ValueId v) { return other.contains(v); })) continue;
      if (!n.op->subgraphs().empty() || !n.op->pure())
        return error(Code::kNotImplemented, "{} between the variables and y cannot be computed again for other values",
                     n.op->name());
      OCIOR_RETURN_IF_ERROR(count());
      std::vector<ValueId> inputs, outputs;
      for (const ValueId v : n.inputs) inputs.push_back(now(v));
      for (const ValueId v : n.outputs) {
        outputs.push_back(v == kNone ? kNone : g_.add_value(name_for(g_.value(v).name), {}));
        // A variable is what was given for it, whatever the node would make of it.
        if (v != kNone && !is_variable(v)) other[v] = outputs.back();
      }
      id = g_.add_node(name_for(n.name), n.op, std::move(inputs), std::move(outputs));
    }
    y_ = now(y_);
    return {};
  }

  // Which values depend on the xs in a way that has a derivative.
  void mark_active() {
    active_.insert(xs_.begin(), xs_.end());
    for (const NodeId id : order_) {
      const Node& n = g_.node(id);
      const Entry* entry = entry_of(n);
      if (entry && !entry->rule) continue;
      bool depends = false;
      for (int i = 0; i < static_cast<int>(n.inputs.size()); ++i)
        depends |= is_active(n.inputs[static_cast<size_t>(i)]) && (!entry || std::ranges::count(entry->inputs, i) > 0);
      if (!depends) continue;
      for (const ValueId v : n.outputs)
        if (v != kNone) active_.insert(v);
    }
  }
  bool is_active(ValueId v) const { return v != kNone && active_.contains(v); }

  void differentiate() {
    if (is_active(y_)) gradients_[y_] = filled(y_, 1);
    const std::set<ValueId> ends(xs_.begin(), xs_.end());
    for (auto id = order_.rbegin(); id != order_.rend() && status_.ok(); ++id) {
      const Node n = g_.node(*id);  // a copy: rules add nodes
      const auto has = std::ranges::find_if(n.outputs, [&](ValueId v) { return gradients_.contains(v) && !ends.contains(v); });
      if (has == n.outputs.end()) continue;
      const Entry* entry = entry_of(n);
      if (!entry) return refuse(n, "it is not among those that can be differentiated: " + names());
      for (const auto& [name, value] : n.op->attributes())
        if (std::ranges::count(entry->known, name) == 0)
          return refuse(n, fmt::format("its attribute '{}' is not supported there", name));
      (this->*entry->rule)(n, gradients_.at(*has));
    }
    for (size_t i = 0; i < node_.outputs.size() && status_.ok(); ++i) {
      if (node_.outputs[i] == kNone) continue;
      const auto found = gradients_.find(xs_[i]);
      const ValueId d = found == gradients_.end() ? filled(xs_[i], 0) : found->second;
      add("Identity", {d}, {}, node_.outputs[i]);
    }
  }

  void refuse(const Node& n, const std::string& why) {
    if (status_.ok())
      status_ = error(Code::kNotImplemented, "cannot differentiate node '{}' ({}): {}", n.name, n.op->name(), why);
  }
  static std::string names() {
    std::string out;
    for (const auto& [name, entry] : rules())
      if (entry.rule) out += (out.empty() ? "" : ", ") + name;
    return out;
  }

  // Making nodes. After an error they give some value; run() returns the error.
  std::string name_for(std::string_view what) { return fmt::format("{}/{}#{}", node_.name, what, g_.node_count()); }

  ValueId add(std::string_view name, std::vector<ValueId> inputs, const Attributes& attributes = {}, ValueId output = kNone) {
    if (output == kNone) output = g_.add_value(name_for(name), {});
    if (status_.ok()) status_ = count();
    auto op = ops::make_operator("", name, ops::kNewestOpset, attributes, static_cast<int>(inputs.size()), 1);
    if (!op.ok() && status_.ok()) status_ = op.status();
    if (status_.ok()) g_.add_node(name_for(name), std::move(op).value(), std::move(inputs), {output});
    return output;
  }
  ValueId constant(ocior::Tensor t) {
    return g_.add_constant(name_for("constant"), std::make_shared<const ocior::Tensor>(std::move(t)));
  }
  ValueId number(float v, ValueId like) { return add("CastLike", {constant(ocior::Tensor::of<float>({}, {v})), like}); }
  ValueId filled(ValueId like, float v) { return add("Expand", {number(v, like), add("Shape", {like})}); }
  ValueId reshaped(ValueId v, ValueId shape) { return add("Reshape", {v, shape}, {{"allowzero", int64_t{1}}}); }

  // `d` summed over the axes along which `v` was broadcast to the shape of d.
  ValueId reduced_to(ValueId d, ValueId v) {
    const ValueId shape = add("Shape", {v}), to = add("Shape", {d});
    const ValueId missing = add("Sub", {add("Shape", {to}), add("Shape", {shape})});
    const ValueId ones = add("ConstantOfShape", {missing}, {{"value", ocior::Tensor::of<int64_t>({1}, {1})}});
    const ValueId aligned = add("Concat", {ones, shape}, {{"axis", int64_t{0}}});
    const ValueId axes = add("NonZero", {add("Not", {add("Equal", {aligned, to})})});
    const ValueId flat = reshaped(axes, constant(ocior::Tensor::of<int64_t>({1}, {-1})));
    return reshaped(add("ReduceSum", {d, flat}, {{"noop_with_empty_axes", int64_t{1}}}), shape);
  }

  // Adds `d` to what is known of the gradient of input i of `n`; nothing when nobody asks for it.
  template <class F>
  void give(const Node& n, size_t i, bool broadcast, F&& make) {
    if (i >= n.inputs.size() || !is_active(n.inputs[i])) return;
    const ValueId v = n.inputs[i];
    ValueId d = make();
    if (broadcast) d = reduced_to(d, v);
    const auto [at, first] = gradients_.try_emplace(v, d);
    if (!first) at->second = add("Add", {at->second, d});
  }

  void identity(const Node& n, ValueId dy) {
    give(n, 0, false, [&] { return dy; });
  }
  void sum(const Node& n, ValueId dy) {
    for (size_t i = 0; i < n.inputs.size(); ++i) give(n, i, true, [&] { return dy; });
  }
  void difference(const Node& n, ValueId dy) {
    give(n, 0, true, [&] { return dy; });
    give(n, 1, true, [&] { return add("Neg", {dy}); });
  }
  void product(const Node& n, ValueId dy) {
    give(n, 0, true, [&] { return add("Mul", {dy, n.inputs[1]}); });
    give(n, 1, true, [&] { return add("Mul", {dy, n.inputs[0]}); });
  }
  void quotient(const Node& n, ValueId dy) {
    give(n, 0, true, [&] { return add("Div", {dy, n.inputs[1]}); });
    give(n, 1, true, [&] { return add("Neg", {add("Div", {add("Mul", {dy, n.outputs[0]}), n.inputs[1]})}); });
  }
  void negation(const Node& n, ValueId dy) {
    give(n, 0, false, [&] { return add("Neg", {dy}); });
  }
  void relu(const Node& n, ValueId dy) {
    give(n, 0, false, [&] { return add("Mul", {dy, add("Sign", {n.outputs[0]})}); });
  }
  void sigmoid(const Node& n, ValueId dy) {
    const ValueId y = n.outputs[0];
    give(n, 0, false, [&] { return add("Mul", {dy, add("Mul", {y, add("Sub", {number(1, y), y})})}); });
  }
  void tanh(const Node& n, ValueId dy) {
    const ValueId y = n.outputs[0];
    give(n, 0, false, [&] { return add("Mul", {dy, add("Sub", {number(1, y), add("Mul", {y, y})})}); });
  }
  void exponential(const Node& n, ValueId dy) {
    give(n, 0, false, [&] { return add("Mul", {dy, n.outputs[0]}); });
  }
  void logarithm(const Node& n, ValueId dy) {
    give(n, 0, false, [&] { return add("Div", {dy, n.inputs[0]}); });
  }
  void root(const Node& n, ValueId dy) {
    give(n, 0, false, [&] { return add("Div", {dy, add("Add", {n.outputs[0], n.outputs[0]})}); });
  }
  void power(const Node& n, ValueId dy) {
    if (is_active(n.inputs[1])) return refuse(n, "its exponent depends on what is differentiated by; expected one that does not");
    const ValueId x = n.inputs[0], e = add("CastLike", {n.inputs[1], x}), zero = number(0, x), one = number(1, x);
    // The power of 0 is 1 wherever x is: no 1/0 times 0.
    const ValueId lower = add("Where", {add("Equal", {e, zero}), one, add("Sub", {e, one})});
    give(n, 0, true, [&] { return add("Mul", {dy, add("Mul", {e, add("Pow", {x, lower})})}); });
  }
  void like_input(const Node& n, ValueId dy) {
    give(n, 0, false, [&] { return reshaped(dy, add("Shape", {n.inputs[0]})); });
  }
  void cast_like(const Node& n, ValueId dy) {
    give(n, 0, false, [&] { return add("CastLike", {dy, n.inputs[0]}); });
  }
  void expand(const Node& n, ValueId dy) {
    give(n, 0, true, [&] { return dy; });
  }
  void transpose(const Node& n, ValueId dy) {
    Attributes attributes;  // without an order the axes are reversed, and so are they back
    if (const auto perm = n.op->attributes().find("perm"); perm != n.op->attributes().end()) {
      const auto& order = std::get<std::vector<int64_t>>(perm->second);
      std::vector<int64_t> back(order.size());
      for (size_t i = 0; i < order.size(); ++i) {
        if (order[i] < 0 || order[i] >= std::ssize(order)) return refuse(n, fmt::format("its attribute perm has {}", order[i]));
        back[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
      }
      attributes["perm"] = back;
    }
    give(n, 0, false, [&] { return add("Transpose", {dy}, attributes); });
  }

  static int64_t integer_of(const Node& n, const std::string& name, int64_t otherwise) {
    const auto found = n.op->attributes().find(name);
    return found == n.op->attributes().end() ? otherwise : std::get<int64_t>(found->second);
  }
  static float number_of(const Node& n, const std::string& name, float otherwise) {
    const auto found = n.op->attributes().find(name);
    return found == n.op->attributes().end() ? otherwise : std::get<float>(found->second);
  }

  // The gradient of a reduced value along the axes that were summed.
  ValueId spread(const Node& n, ValueId dy) {
    const ValueId x = n.inputs[0];
    if (integer_of(n, "keepdims", 1) == 0) {
      Attributes attributes = n.op->attributes();
      attributes["keepdims"] = int64_t{1};
      auto op = ops::make_operator("", n.op->name(), n.op->opset(), attributes, static_cast<int>(n.inputs.size()), 1);
      if (!op.ok()) return refuse(n, op.status().message()), dy;
      if (status_.ok()) status_ = count();
      const ValueId kept = g_.add_value(name_for("kept"), {});
      g_.add_node(name_for("kept"), std::move(op).value(), n.inputs, {kept});
      dy = reshaped(dy, add("Shape", {kept}));
    }
    return add("Expand", {dy, add("Shape", {x})});
  }
  void reduce_sum(const Node& n, ValueId dy) {
    give(n, 0, false, [&] { return spread(n, dy); });
  }
  void reduce_mean(const Node& n, ValueId dy) {
    give(n, 0, false, [&] {
      const ValueId one = constant(ocior::Tensor::of<int64_t>({}, {1}));
      const ValueId count = add("Div", {add("Size", {n.inputs[0]}), add("Max", {add("Size", {n.outputs[0]}), one})});
      return add("Div", {spread(n, dy), add("CastLike", {count, dy})});
    });
  }

  void matmul(const Node& n, ValueId dy) {
    give(n, 0, true, [&] { return add("Einsum", {dy, n.inputs[1]}, {{"equation", std::string("...ik,...jk->...ij")}}); });
    give(n, 1, true, [&] { return add("Einsum", {n.inputs[0], dy}, {{"equation", std::string("...ij,...ik->...jk")}}); });
  }
  void gemm(const Node& n, ValueId dy) {
    const bool ta = integer_of(n, "transA", 0) != 0, tb = integer_of(n, "transB", 0) != 0;
    const auto times = [&](ValueId a, bool transpose_a, ValueId b, bool transpose_b) {
      return add("Gemm", {a, b},
                 {{"alpha", number_of(n, "alpha", 1)}, {"transA", int64_t{transpose_a}}, {"transB", int64_t{transpose_b}}});
    };
    const ValueId a = n.inputs[0], b = n.inputs[1];
    give(n, 0, false, [&] { return ta ? times(b, tb, dy, true) : times(dy, false, b, !tb); });
    give(n, 1, false, [&] { return tb ? times(dy, true, a, ta) : times(a, !ta, dy, false); });
    give(n, 2, true, [&] { return add("Mul", {dy, number(number_of(n, "beta", 1), dy)}); });
  }
  // Of two operands: the other one and dy give each, when every index of it is in them.
  void einsum(const Node& n, ValueId dy) {
    std::string equation = std::get<std::string>(n.op->attributes().at("equation"));
    std::erase(equation, ' ');
    const size_t comma = equation.find(','), arrow = equation.find("->");
    if (n.inputs.size() != 2 || comma == std::string::npos || arrow == std::string::npos || comma > arrow)
      return refuse(n, fmt::format("its equation is '{}'; expected two operands and a result", equation));
    const std::string a = equation.substr(0, comma), b = equation.substr(comma + 1, arrow - comma - 1),
                      y = equation.substr(arrow + 2);
    const auto covered = [](const std::string& x, const std::string& by) {
      return std::ranges::all_of(
          x, [&](char c) { return by.find(c) != std::string::npos && (c == '.' || std::ranges::count(x, c) == 1); });
    };
    if (!covered(a, b + y) || !covered(b, a + y))
      return refuse(n,
                    fmt::format("its equation is '{}'; expected each index of an operand once, and in another term", equation));
    give(n, 0, true, [&] { return add("Einsum", {dy, n.inputs[1]}, {{"equation", y + "," + b + "->" + a}}); });
    give(n, 1, true, [&] { return add("Einsum", {n.inputs[0], dy}, {{"equation", a + "," + y + "->" + b}}); });
  }

  graph::Graph& g_;
  const GradientNode& node_;
  size_t& work_;
  size_t most_;
  Status status_;
  std::vector<NodeId> order_;
  std::vector<ValueId> xs_;  // the values that stand for the xs
  ValueId y_ = kNone;
  std::set<ValueId> active_;
  std::map<ValueId, ValueId> gradients_;
};

const std::map<std::string, Differentiator::Entry, std::less<>>& Differentiator::rules() {
  using D = Differentiator;
  static const std::map<std::string, Entry, std::less<>> all{
      {"Add", {&D::sum, {0, 1}}},
      {"CastLike", {&D::cast_like, {0}}},
      {"Constant", {nullptr}},
      {"ConstantOfShape", {nullptr}},
      {"Div", {&D::quotient, {0, 1}}},
      {"Einsum", {&D::einsum, {0, 1}, {"equation"}}},
      {"Exp", {&D::exponential}},
      {"Expand", {&D::expand, {0}}},
      {"Flatten", {&D::like_input, {0}, {"axis"}}},
      {"Gemm", {&D::gemm, {0, 1, 2}, {"alpha", "beta", "transA", "transB"}}},
      {"Identity", {&D::identity}},
      {"Log", {&D::logarithm}},
      {"MatMul", {&D::matmul, {0, 1}}},
      {"Mul", {&D::product, {0, 1}}},
      {"Neg", {&D::negation}},
      {"Pow", {&D::power, {0, 1}}},
      {"ReduceMean", {&D::reduce_mean, {0}, {"axes", "keepdims", "noop_with_empty_axes"}}},
      {"ReduceSum", {&D::reduce_sum, {0}, {"axes", "keepdims", "noop_with_empty_axes"}}},
      {"Relu", {&D::relu}},
      {"Reshape", {&D::like_input, {0}, {"allowzero"}}},
      {"Shape", {nullptr}},
      {"Sigmoid", {&D::sigmoid}},
      {"Sign", {nullptr}},
      {"Size", {nullptr}},
      {"Sqrt", {&D::root}},
      {"Squeeze", {&D::like_input, {0}, {"axes"}}},
      {"Sub", {&D::difference, {0, 1}}},
      {"Tanh", {&D::tanh}},
      {"Transpose", {&D::transpose, {0}, {"perm"}}},
      {"Unsqueeze", {&D::like_input, {0}, {"axes"}}}};
  return all;
}

}  // namespace

Status expand_gradient(graph::Graph& g, const GradientNode& node, size_t& work, size_t most) {
  return Differentiator(g, node, work, most).run();
}

}  // namespace ocior::onnx
