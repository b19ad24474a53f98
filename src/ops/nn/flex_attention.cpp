// FlexAttention (https://onnx.ai/onnx/operators/onnx_aionnxpreview_FlexAttention.html): scaled dot products whose scores and
// probabilities a subgraph each may change. Without subgraphs the attention kernel runs it. What the subgraphs capture follows
// Q, K and V as further inputs, the captures of prob_mod before those of score_mod (the order of attribute names).
#include <array>
#include <cmath>

#include "ops/control/subgraph.h"
#include "ops/evaluate.h"
#include "ops/nn/attention_driver.h"
#include "ops/nn/numeric.h"

namespace ocior::ops {
namespace {

enum Input { kQ, kK, kV, kCaptures };

struct FlexExtents {
  int64_t batch, heads, rows, dim, kv_heads, keys, v_dim;
};
FlexExtents flex_extents(std::span<const int64_t> q, std::span<const int64_t> k, std::span<const int64_t> v) {
  return {q[0], q[1], q[2], q[3], k[1], k[2], v[3]};
}

}  // namespace

struct FlexAttention {
  static constexpr OpInfo info{.name = "FlexAttention", .domain = "ai.onnx.preview", .min_inputs = 3, .max_inputs = kUnbounded};

  std::vector<std::shared_ptr<graph::Graph>> mods;  // those given, prob_mod first
  bool has_prob_mod = false, has_score_mod = false;
  std::optional<float> scale;  // else 1 / sqrt(dim)
  DType precision = DType::kUndefined;

  static FlexAttention parse(const NodeReader& node) {
    FlexAttention op;
    for (const auto& [name, has] : {std::pair{"prob_mod", &op.has_prob_mod}, std::pair{"score_mod", &op.has_score_mod}}) {
      if (!node.has(name)) continue;
      std::shared_ptr<graph::Graph> mod = node.graph(name);
      if (!mod) continue;
      if (mod->inputs().size() != 1 || mod->outputs().size() != 1)
        node.fail("{} has {} inputs and {} outputs; expected one each", name, mod->inputs().size(), mod->outputs().size());
      op.mods.push_back(std::move(mod));
      *has = true;
    }
    if (node.has("scale")) op.scale = node.number("scale", 1);
    if (node.has("softmax_precision")) {
      const int64_t given = node.integer("softmax_precision", 0);
      for (const DType t : {DType::kFloat, DType::kFloat16, DType::kBFloat16, DType::kDouble})
        if (given == static_cast<int64_t>(t)) op.precision = t;
      if (op.precision == DType::kUndefined) node.fail("softmax_precision is {}; expected a float type's number", given);
    }
    return op;
  }

  std::span<const std::shared_ptr<graph::Graph>> subgraphs() const { return mods; }

  // Called while a graph is built, by one thread at a time.
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kQ, kK, kV}));
    const int captures = capture_count(mods);
    if (c.inputs() != kCaptures + captures)
      return error(Code::kInvalidGraph, "Q, K, V and the values that the subgraphs capture are {} inputs, got {}",
                   kCaptures + captures, c.inputs());
    Dims full{c.fresh("batch"), c.fresh("heads"), c.fresh("rows"), c.fresh("keys")};
    if (!c.shape(kQ) || !c.shape(kK) || !c.shape(kV)) {
      c.set(0, c.dtype(kQ), std::nullopt);
      return infer_mods(c, full);
    }
    const Dims &q = *c.shape(kQ), &k = *c.shape(kK), &v = *c.shape(kV);
    if (q.size() != 4 || k.size() != 4 || v.size() != 4 ||
        !nn::may_equal(Dims{q[0], k[0], k[1], k[2], q[3]}, Dims{k[0], v[0], v[1], v[2], k[3]}))
      return error(Code::kInvalidArgument,
                   "Q {}, K {} and V {} do not fit; expected [batch, heads, rows, dim] with the same keys and dims", to_string(q),
                   to_string(k), to_string(v));
    const bool known = q[1].known() && k[1].known();
    if (known && (k[1].value() < 1 || q[1].value() > nn::kMostHeads || q[1].value() % k[1].value() != 0))
      return error(Code::kInvalidArgument, "{} query heads do not share {} key heads evenly", q[1].value(), k[1].value());
    if (k[2].known() && k[2].value() > nn::kMostKeys) return error(Code::kNotImplemented, "{} keys are too many", k[2].value());
    c.set(0, c.dtype(kQ), Dims{q[0], q[1], q[2], v[3]});
    return infer_mods(c, {q[0], q[1], q[2], k[2]});
  }

  Status reference(RefContext& c) const {
    const FlexExtents e = flex_extents(c.in(kQ).shape(), c.in(kK).shape(), c.in(kV).shape());
    // A running graph plans no output of an operator with subgraphs.
    OCIOR_RETURN_IF_ERROR(c.allocate(0, c.in(kQ).dtype(), {e.batch, e.heads, e.rows, e.v_dim}));
    OCIOR_ASSIGN(Tensor scores, Tensor::allocate(precision_for(c.in(kQ).dtype()), {e.batch, e.heads, e.rows, e.keys}));
    nn::store(scores, products(c, e));
    if (has_score_mod) {
      OCIOR_ASSIGN(scores, modified(c, mods.size() - 1, scores));
    }
    std::vector<double> p = nn::doubles(scores);
    for (size_t at = 0; at < p.size() && e.keys > 0; at += static_cast<size_t>(e.keys)) {
      const std::span<double> row(p.data() + at, static_cast<size_t>(e.keys));
      double max = -INFINITY, sum = 0;
      for (const double s : row) max = s > max || std::isnan(s) ? s : max;
      for (double& s : row) sum += s = std::exp(s - max);
      for (double& s : row) s /= sum;
    }
    if (has_prob_mod) {
      nn::store(scores, p);
      OCIOR_ASSIGN(scores, modified(c, 0, scores));
      p = nn::doubles(scores);
    }
    const std::vector<double> v = nn::doubles(c.in(kV));
    std::vector<double> y(static_cast<size_t>(c.out(0).count()));
    for (int64_t i = 0; i < e.batch * e.heads * e.rows; ++i) {
      const int64_t head = key_head(e, i / e.rows);
      for (int64_t j = 0; j < e.keys; ++j)
        for (int64_t d = 0; d < e.v_dim; ++d)
          y[static_cast<size_t>(i * e.v_dim + d)] +=
              p[static_cast<size_t>(i * e.keys + j)] * v[static_cast<size_t>((head * e.keys + j) * e.v_dim + d)];
    }
    nn::store(c.out(0), y);
    return {};
  }

  size_t scratch(const BindContext& c) const {
    return is_fast(c) ? nn::attention_bytes(c.kernels(), arguments(c), nullptr, c.workers()) : 0;
  }

  double work(const BindContext& c) const {
    const FlexExtents e = flex_extents(c.in(kQ).shape, c.in(kK).shape, c.in(kV).shape);
    return 2.0 * static_cast<double>(e.batch * e.heads * e.rows) * static_cast<double>(e.keys) *
           static_cast<double>(e.dim + e.v_dim);
  }

  Status run(CpuContext& c) const {
    if (!is_fast(c)) return run_by_reference(*this, c);
    AttentionArgs args = arguments(c);
    args.q = c.in(kQ).as<float>(), args.k = c.in(kK).as<float>(), args.v = c.in(kV).as<float>(), args.out = c.out(0).as<float>();
    nn::run_attention(c, args, nullptr, c.scratch());
    return {};
  }

  std::string describe(const Prepared*) const { return mods.empty() ? "attention kernel" : "reference, with its subgraphs"; }

  static std::vector<Sample> samples();

 private:
  DType precision_for(DType input) const {
    if (precision != DType::kUndefined) return precision;
    return input == DType::kDouble ? DType::kDouble : DType::kFloat;
  }

  // The key head of query head i, both counted over all batches.
  static int64_t key_head(const FlexExtents& e, int64_t i) {
    return i / e.heads * e.kv_heads + i % e.heads / (e.heads / e.kv_heads);
  }

  Status infer_mods(ShapeContext& c, const Dims& full) const {
    const Type scores = Type::tensor(precision_for(c.dtype(kQ)), full);
    int input = kCaptures;
    for (const auto& mod : mods) {
      const std::string_view name = has_prob_mod && &mod == &mods[0] ? "prob_mod" : "score_mod";
      OCIOR_RETURN_IF_ERROR(with_context(infer_body(c, *mod, {&scores, 1}, input), name));
      input += static_cast<int>(mod->captures().size());
      const Type& out = mod->value(mod->outputs()[0]).type;
      if (!out.is_tensor() || out.dtype != scores.dtype || (out.shape && !nn::may_equal(*out.shape, full)))
        return error(Code::kInvalidGraph, "{} gives {}{}; expected {}{} as its input", name, name_of(out.dtype),
                     out.shape ? to_string(*out.shape) : "", name_of(scores.dtype), to_string(full));
    }
    return {};
  }

  // Scaled products of queries and keys.
  std::vector<double> products(const RefContext& c, const FlexExtents& e) const {
    const std::vector<double> q = nn::doubles(c.in(kQ)), k = nn::doubles(c.in(kK));
    const double factor = scale ? static_cast<double>(*scale) : 1 / std::sqrt(static_cast<double>(e.dim));
    std::vector<double> out;
    for (int64_t i = 0; i < e.batch * e.heads * e.rows; ++i)
      for (int64_t j = 0; j < e.keys; ++j) {
        double sum = 0;
        for (int64_t d = 0; d < e.dim; ++d)
          sum +=
              q[static_cast<size_t>(i * e.dim + d)] * k[static_cast<size_t>((key_head(e, i / e.rows) * e.keys + j) * e.dim + d)];
        out.push_back(sum * factor);
      }
    return out;
  }

  // What subgraph `index` makes of `input`.
  Result<Tensor> modified(RefContext& c, size_t index, const Tensor& input) const {
    std::vector<Value> outputs;
    OCIOR_RETURN_IF_ERROR(ControlContext(c, mods).call(static_cast<int>(index), std::array{Value(input)}, outputs));
    const Tensor& out = *outputs[0].get_tensor();
    if (out.dtype() == input.dtype() && out.shape() == input.shape()) return out;
    return error(Code::kInvalidArgument, "a subgraph made {}{} of {}{}; expected the same type and shape", name_of(out.dtype()),
                 to_string(out.shape()), name_of(input.dtype()), to_string(input.shape()));
  }

  template <class Context>
  bool is_fast(const Context& c) const {
    return mods.empty() && c.in(kQ).dtype == DType::kFloat && (precision == DType::kUndefined || precision == DType::kFloat);
  }

  template <class Context>
  AttentionArgs arguments(const Context& c) const {
    const FlexExtents e = flex_extents(c.in(kQ).shape, c.in(kK).shape, c.in(kV).shape);
    AttentionArgs a;
    a.batch = e.batch, a.heads = e.heads, a.kv_heads = e.kv_heads;
    a.q_len = e.rows, a.kv_len = e.keys, a.head_dim = e.dim, a.v_dim = e.v_dim;
    a.q_batch = e.heads * e.rows * e.dim, a.q_head = e.rows * e.dim, a.q_row = e.dim;
    a.k_batch = e.kv_heads * e.keys * e.dim, a.k_head = e.keys * e.dim, a.k_row = e.dim;
    a.v_batch = e.kv_heads * e.keys * e.v_dim, a.v_head = e.keys * e.v_dim, a.v_row = e.v_dim;
    a.o_batch = e.heads * e.rows * e.v_dim, a.o_head = e.rows * e.v_dim, a.o_row = e.v_dim;
    a.scale = scale ? *scale : static_cast<float>(1 / std::sqrt(static_cast<double>(e.dim)));
    return a;
  }
};

std::vector<Sample> FlexAttention::samples() {
  // A subgraph that applies `op` to its input and, when there is one, to a captured value.
  const auto mod = [](const char* op, bool captures) {
    auto g = std::make_shared<graph::Graph>();
    const graph::ValueId x = g->add_value("x", Type::tensor(DType::kFloat)), y = g->add_value("y", {});
    std::vector<graph::ValueId> inputs{x};
    g->add_input(x);
    if (captures) {
      inputs.push_back(g->add_value("captured", Type::tensor(DType::kFloat)));
      g->add_capture(inputs.back());
    }
    if (auto made = make_operator("", op, kNewestOpset, {}, static_cast<int>(inputs.size()), 1); made.ok())
      g->add_node(op, *made, inputs, {y});
    g->add_output(y, "y");
    return g;
  };
  std::vector<Sample> out;
  const auto add = [&](int64_t heads, int64_t kv_heads, Attributes attributes = {}, int captures = 0,
                       DType dtype = DType::kFloat) {
    Sample s{.inputs = {{.dtype = dtype, .shape = {2, heads, 3, 8}, .fill = Fill::kNormal},
                        {.dtype = dtype, .shape = {2, kv_heads, 5, 8}, .fill = Fill::kNormal},
                        {.dtype = dtype, .shape = {2, kv_heads, 5, 6}, .fill = Fill::kNormal}},
             .attributes = std::move(attributes),
             .tolerance = bits_of(dtype) == 16 ? 1e-2 : 3e-6};
    for (int i = 0; i < captures; ++i) s.inputs.push_back({.shape = {3, 5}});
    out.push_back(std::move(s));
  };
  add(4, 4);
  add(4, 2, {{"scale", 0.5f}});
  add(2, 2, {{"score_mod", mod("Tanh", false)}});
  add(4, 1, {{"score_mod", mod("Add", true)}, {"prob_mod", mod("Mul", true)}}, 2);
  add(2, 2, {{"prob_mod", mod("Mul", true)}}, 1);
  add(2, 2, {{"softmax_precision", static_cast<int64_t>(DType::kFloat16)}});
  for (const DType dtype : {DType::kDouble, DType::kFloat16, DType::kBFloat16}) add(2, 2, {}, 0, dtype);
  return out;
}

OCIOR_OPERATOR(FlexAttention)

}  // namespace ocior::ops
