// Tests of fuse-attention and fuse-qkv: the ways in which exporters spell heads, scale, mask and guard, and what only looks like
// attention.
#include <cmath>
#include <functional>

#include "passes/testing.h"

namespace ocior::passes {
namespace {

using namespace testing;

constexpr int64_t kHeads = 2, kDim = 4, kWidth = kHeads * kDim;
const Dim kB = Dim::symbol("b"), kS = Dim::symbol("s");

ValueId transpose(Builder& b, ValueId v, std::vector<int64_t> perm) {
  return b.op("Transpose", {v}, {{"perm", std::move(perm)}});
}

enum class Keys { kDirect, kSwapped, kJoined };
enum class Scale { kNone, kDiv, kMul, kOnQ, kOnBoth };

using Masking = std::function<ValueId(Builder&, ValueId scores)>;

// One attention layer, with everything that exporters do differently.
struct Layer {
  Keys keys = Keys::kDirect;
  Scale scale = Scale::kDiv;
  Masking mask;        // scores -> masked scores
  bool guard = false;  // Where(IsNaN(p), 0, p)
  int64_t q_heads = kHeads, v_dim = kDim, softmax_axis = -1;
  std::vector<int64_t> q_perm{0, 2, 1, 3}, joined_perm{0, 2, 1, 3};
  DType dtype = DType::kFloat;
  bool join = true;
  Dims q_shape{kB, kS, kWidth}, kv_shape{kB, kS, kWidth};
  Shape scale_shape{};

  ValueId constant(Builder& b, double v) const { return b.full(v, scale_shape, dtype); }

  ValueId heads(Builder& b, ValueId x, int64_t count, int64_t dim, const std::vector<int64_t>& perm) const {
    return transpose(b, b.op("Reshape", {x, b.ints({0, 0, count, dim})}), perm);
  }

  ValueId split_keys(Builder& b, ValueId k) const {
    if (keys == Keys::kDirect) return heads(b, k, kHeads, kDim, {0, 2, 3, 1});
    const ValueId split = heads(b, k, kHeads, kDim, {0, 2, 1, 3});
    if (keys == Keys::kSwapped) return transpose(b, split, {0, 1, 3, 2});
    const ValueId shape = b.op("Shape", {split});  // [b, h, s, d] -> [b * h, s, d] -> [b * h, d, s] -> [b, h, d, s]
    const auto at = [&](int64_t from, int64_t to) { return b.op("Slice", {shape, b.ints({from}), b.ints({to})}); };
    const ValueId flat = b.op("Reshape", {split, b.op("Concat", {b.ints({-1}), at(2, 4)}, {{"axis", int64_t{0}}})});
    const ValueId target = b.op("Concat", {at(0, 2), at(3, 4), at(2, 3)}, {{"axis", int64_t{0}}});
    return b.op("Reshape", {transpose(b, flat, {0, 2, 1}), target});
  }

  ValueId build(Builder& b, ValueId q_in, ValueId k_in, ValueId v_in) const {
    ValueId q = heads(b, q_in, q_heads, kWidth / q_heads, q_perm), k = split_keys(b, k_in);
    if (scale == Scale::kOnQ) q = b.op("Mul", {q, constant(b, 0.5)});
    if (scale == Scale::kOnBoth)
      q = b.op("Div", {q, constant(b, std::sqrt(2.0))}), k = b.op("Mul", {constant(b, std::sqrt(0.5)), k});
    ValueId scores = b.op("MatMul", {q, k});
    if (scale == Scale::kDiv) scores = b.op("Div", {scores, constant(b, 2)});
    if (scale == Scale::kMul) scores = b.op("Mul", {constant(b, 0.5), scores});
    if (mask) scores = mask(b, scores);
    ValueId p = b.op("Softmax", {scores}, {{"axis", softmax_axis}});
    if (guard) p = b.op("Where", {b.op("IsNaN", {p}), constant(b, 0), p});
    const ValueId y = b.op("MatMul", {p, heads(b, v_in, kHeads, v_dim, {0, 2, 1, 3})});
    if (!join) return y;
    return b.op("Reshape", {transpose(b, y, joined_perm), b.ints({0, 0, -1})});
  }

  ValueId build(Builder& b) const {
    const Dims v_shape{kv_shape[0], kv_shape[1], kHeads * v_dim};
    return build(b, b.input("q", q_shape, dtype), b.input("k", kv_shape, dtype), b.input("v", v_shape, dtype));
  }
};

struct Fused {
  Builder b;
  PassReport report;
  const Node& node() const { return maker(b.graph); }
  double number(const char* name) const { return std::get<float>(node().op->attributes().at(name)); }
  const graph::ValueInfo* mask() const { return node().inputs.size() > 3 ? &b.graph.value(node().inputs[3]) : nullptr; }
};

Fused fuse(const Layer& layer, std::vector<std::string> passes = {"fuse-attention"}) {
  Fused f;
  f.b.output(layer.build(f.b));
  f.report = simplified(f.b, passes.empty() ? SimplifyOptions() : only(passes));
  return f;
}

#define EXPECT_ATTENTION(f)                                                                    \
  do {                                                                                         \
    EXPECT_EQ(fired((f).report, "fuse-attention"), 1) << misses((f).report, "fuse-attention"); \
    ASSERT_EQ((f).node().op->name(), "FusedAttention") << graph::print((f).b.graph);           \
    EXPECT_FLOAT_EQ(static_cast<float>((f).number("scale")), 0.5f);                            \
    EXPECT_EQ(count((f).b.graph, "Softmax"), 0);                                               \
  } while (0)

// ---- Keys and scale

TEST(FuseAttention, KeysTransposedAndScoresScaledInEveryWay) {
  for (const Keys keys : {Keys::kDirect, Keys::kSwapped, Keys::kJoined})
    for (const Scale scale : {Scale::kDiv, Scale::kMul, Scale::kOnQ, Scale::kOnBoth}) {
      const Fused f = fuse({.keys = keys, .scale = scale});
      EXPECT_ATTENTION(f);
      EXPECT_EQ(f.mask(), nullptr);
    }
}

TEST(FuseAttention, UnscaledAndWideValues) {
  Fused f = fuse({.scale = Scale::kNone});
  EXPECT_EQ(f.number("scale"), 1);
  Fused wide = fuse({.v_dim = 7});
  EXPECT_ATTENTION(wide);
}

TEST(FuseAttention, CrossAttention) {
  const Fused f = fuse({.kv_shape = {kB, Dim::symbol("t"), kWidth}});
  EXPECT_ATTENTION(f);
}

TEST(FuseAttention, ThroughTheWholePipeline) {
  for (const Keys keys : {Keys::kDirect, Keys::kSwapped, Keys::kJoined}) {
    const Fused f = fuse({.keys = keys}, {});
    EXPECT_ATTENTION(f);
    EXPECT_EQ(count_all(f.b.graph), 1) << graph::print(f.b.graph);
  }
}

// ---- Masks

Masking additive(Dims shape) {
  return [shape](Builder& b, ValueId scores) { return b.op("Add", {scores, b.input("mask", shape)}); };
}

TEST(FuseAttention, AdditiveFloatMask) {
  for (const Dims& shape : {Dims{kB, 1, 1, kS}, Dims{kB, kHeads, kS, kS}, Dims{kS, kS}, Dims{1, kS}}) {
    const Fused f = fuse({.mask = additive(shape)});
    EXPECT_ATTENTION(f);
    ASSERT_NE(f.mask(), nullptr);
    EXPECT_EQ(f.mask()->name, "mask");
  }
  const Fused left = fuse({.mask = [](Builder& b, ValueId scores) {
    return b.op("Add", {b.input("mask", {kB, 1, 1, kS}), scores});
  }});
  EXPECT_ATTENTION(left);
}

// A bool padding mask [b, 1, 1, s] of which the scores are masked by `fill`.
Masking masked_fill(bool keep_is_true, double fill, bool expand) {
  return [=](Builder& b, ValueId scores) {
    ValueId m = b.input("mask", {kB, 1, 1, kS}, DType::kBool);
    if (expand) m = b.op("Expand", {m, b.op("Shape", {scores})});
    return keep_is_true ? b.op("Where", {m, scores, b.full(fill)}) : b.op("Where", {m, b.full(fill), scores});
  };
}

TEST(FuseAttention, MaskedFillBothWays) {
  for (const bool keep_is_true : {true, false})
    for (const bool expand : {true, false})
      for (const double fill : {-3.4028234663852886e38, -HUGE_VAL}) {
        const Fused f = fuse({.mask = masked_fill(keep_is_true, fill, expand)});
        EXPECT_ATTENTION(f);
        EXPECT_EQ(f.number("mask_fill"), fill);
        ASSERT_NE(f.mask(), nullptr);
        EXPECT_EQ(to_string(*f.mask()->type.shape), "[b, 1, 1, s]");
        EXPECT_EQ(count(f.b.graph, "Not"), keep_is_true ? 0 : 1);
        EXPECT_EQ(count(f.b.graph, "Expand"), 0);
      }
}

TEST(FuseAttention, BoolMaskMadeAdditive) {
  for (const bool keep_is_true : {true, false}) {
    const Fused f = fuse({.mask = [&](Builder& b, ValueId scores) {
      const ValueId m = b.op("Expand", {b.input("mask", {kB, 1, 1, kS}, DType::kBool), b.op("Shape", {scores})});
      const ValueId zero = b.full(0), fill = b.full(-3.4028234663852886e38);
      return b.op("Add", {scores, b.op("Expand", {keep_is_true ? b.op("Where", {m, zero, fill}) : b.op("Where", {m, fill, zero}),
                                                  b.op("Shape", {scores})})});
    }});
    EXPECT_ATTENTION(f);
    EXPECT_EQ(f.mask()->type.dtype, DType::kBool);
    EXPECT_EQ(to_string(*f.mask()->type.shape), "[b, 1, 1, s]");
  }
}

TEST(FuseAttention, NegatedMaskIsNotNegatedTwice) {
  const Fused f = fuse({.mask = [](Builder& b, ValueId scores) {
    const ValueId hidden = b.op("Not", {b.input("mask", {kB, 1, 1, kS}, DType::kBool)});
    return b.op("Where", {hidden, b.full(-INFINITY), scores});
  }});
  EXPECT_ATTENTION(f);
  EXPECT_EQ(f.mask()->name, "mask");
}

TEST(FuseAttention, ConditionsThatAlwaysHoldAreLeftOut) {
  const Fused f = fuse({.mask = [](Builder& b, ValueId scores) {
    const ValueId m = b.op("And", {b.full(1, {1, 1, 1, 1}, DType::kBool), b.input("mask", {kB, 1, 1, kS}, DType::kBool)});
    return b.op("Where", {m, scores, b.full(-INFINITY)});
  }});
  EXPECT_ATTENTION(f);
  EXPECT_EQ(f.mask()->name, "mask");
}

TEST(FuseAttention, SmallFillsAreNoMask) {
  const Fused f = fuse({.mask = masked_fill(true, -10000, false)});
  EXPECT_MISS(f.report, "fuse-attention", "not of a product, scaled and masked");
  const Fused additive_fill = fuse({.mask = [](Builder& b, ValueId scores) {  // stays an additive mask
    return b.op("Add", {scores, b.op("Where", {b.input("mask", {kB, 1, 1, kS}, DType::kBool), b.full(0), b.full(-10000)})});
  }});
  EXPECT_ATTENTION(additive_fill);
  EXPECT_EQ(additive_fill.mask()->type.dtype, DType::kFloat);
}

TEST(FuseAttention, ConstantCausalMaskStaysAGeneralMask) {
  const Fused f = fuse({.mask =
                            [](Builder& b, ValueId scores) {
                              Tensor t = std::move(Tensor::allocate(DType::kFloat, {1, 1, 5, 5})).value();
                              for (int64_t i = 0; i < 25; ++i) t.as<float>()[i] = i % 5 <= i / 5 ? 0.0f : -3.4e38f;
                              return b.op("Add", {scores, b.constant(std::move(t))});
                            },
                        .q_shape = {kB, 5, kWidth},
                        .kv_shape = {kB, 5, kWidth}});
  EXPECT_ATTENTION(f);
  EXPECT_EQ(f.node().op->attributes().count("causal"), 0u);
  ASSERT_NE(f.mask(), nullptr);
  EXPECT_TRUE(f.mask()->is_constant());
}

TEST(FuseAttention, GuardAgainstRowsWithoutKeys) {
  const Fused f = fuse({.mask = masked_fill(true, -INFINITY, false), .guard = true});
  EXPECT_ATTENTION(f);
  EXPECT_EQ(std::get<int64_t>(f.node().op->attributes().at("zero_masked_rows")), 1);
  const Fused hidden =
      fuse({.mask =
                [](Builder& b, ValueId scores) {  // no key at all
                  return b.op("Where", {b.op("And", {b.input("mask", {kB, 1, 1, kS}, DType::kBool), b.full(0, {}, DType::kBool)}),
                                        scores, b.full(-INFINITY)});
                },
            .guard = true});
  EXPECT_ATTENTION(hidden);
}

// ---- What is in the way

TEST(FuseAttention, WhatIsNoAttentionIsNamed) {
  const char* pass = "fuse-attention";
  EXPECT_MISS(fuse({.softmax_axis = 2}).report, pass, "its Softmax is not over the last of four axes");
  EXPECT_MISS(fuse({.dtype = DType::kDouble}).report, pass, "only float is fused");
  EXPECT_MISS(fuse({.join = false}).report, pass, "its heads are not joined by Transpose and Reshape");
  EXPECT_MISS(fuse({.joined_perm = {0, 2, 3, 1}}).report, pass, "its heads are not joined by Transpose and Reshape");
  EXPECT_MISS(fuse({.q_perm = {0, 2, 3, 1}, .q_shape = {kB, 4, kWidth}, .kv_shape = {kB, 4, kWidth}}).report, pass,
              "its queries are not");
  EXPECT_MISS(fuse({.mask = [](Builder& b, ValueId scores) { return b.op("Relu", {scores}); }}).report, pass,
              "not of a product, scaled and masked");
  EXPECT_MISS(fuse({.mask = additive({kS})}).report, pass, "its mask has not two to four axes");
}

TEST(FuseAttention, OutputReadBetweenHeadsAndJoinStays) {
  Builder b;
  b.output(Layer().build(b));
  const Node& join = maker(b.graph);
  b.output(b.op("Neg", {join.inputs[0]}));
  EXPECT_MISS(simplified(b, only({"fuse-attention"})), "fuse-attention", "its heads are not joined");
}

TEST(FuseAttention, BatchesThatBroadcastStay) {
  const Fused keys = fuse({.kv_shape = {1, kS, kWidth}});
  EXPECT_MISS(keys.report, "fuse-attention", "different batches or lengths");
  const Fused scaled = fuse({.q_shape = {1, kS, kWidth}, .kv_shape = {1, kS, kWidth}, .scale_shape = {3, 1, 1, 1}});
  EXPECT_MISS(scaled.report, "fuse-attention", "spreads its scores over more axes");
  const Fused masked = fuse({.mask = additive({3, 1, 1, kS}), .q_shape = {1, kS, kWidth}, .kv_shape = {1, kS, kWidth}});
  EXPECT_MISS(masked.report, "fuse-attention", "spreads its scores over more axes");
}

// ---- fuse-qkv

struct Projection {
  Shape weights[3] = {{kWidth, kWidth}, {kWidth, kWidth}, {kWidth, kWidth}};
  bool biases[3] = {true, true, true};
  bool transposed = false, other_input = false, read_key = false, activate_value = false;
  Layer layer;
};

Fused project(const Projection& p, bool masked = false) {
  Fused f;
  Builder& b = f.b;
  const ValueId x = b.input("x", {kB, kS, kWidth}), z = p.other_input ? b.input("z", {kB, kS, kWidth}) : x;
  ValueId parts[3];
  for (int i = 0; i < 3; ++i) {
    std::vector<ValueId> in{i == 2 ? z : x, b.weight(p.weights[i])};
    if (p.biases[i]) in.push_back(b.weight({p.weights[i][p.transposed ? 0 : 1]}));
    graph::Attributes attributes;
    if (p.transposed) attributes["transpose_b"] = int64_t{1};
    if (p.activate_value && i == 2) attributes["activation"] = std::string("relu");
    parts[i] = b.many("Linear", in, 1, attributes, ops::kNewestOpset, ops::kOcior)[0];
  }
  Layer layer = p.layer;
  if (masked) layer.mask = masked_fill(true, -INFINITY, false);
  b.output(layer.build(b, parts[0], parts[1], parts[2]));
  if (p.read_key) b.output(b.op("Neg", {parts[1]}));
  f.report = simplified(b, only({"fuse-attention", "fuse-qkv"}));
  return f;
}

TEST(FuseQkv, ThreeProductsAreOne) {
  for (const bool transposed : {false, true})
    for (const bool biased : {false, true})
      for (const bool masked : {false, true}) {
        const Fused f = project({.biases = {biased, biased, biased}, .transposed = transposed}, masked);
        EXPECT_EQ(fired(f.report, "fuse-qkv"), 1) << misses(f.report, "fuse-qkv");
        EXPECT_EQ(count(f.b.graph, "Linear", ops::kOcior), 1);
        EXPECT_EQ(std::get<int64_t>(f.node().op->attributes().at("packed")), 1);
        EXPECT_EQ(f.node().inputs.size(), masked ? 2u : 1u);
      }
}

TEST(FuseQkv, WhatCannotBeJoinedIsNamed) {
  const char *plain = "not plain products of one value, read by it alone", *forms = "its three products have different forms";
  Projection wide;
  wide.weights[2] = {kWidth, 3 * kHeads};
  wide.layer.v_dim = 3;
  EXPECT_MISS(project(wide).report, "fuse-qkv", forms);
  EXPECT_MISS(project({.biases = {true, false, true}}).report, "fuse-qkv", forms);
  EXPECT_MISS(project({.other_input = true}).report, "fuse-qkv", plain);
  EXPECT_MISS(project({.read_key = true}).report, "fuse-qkv", plain);
  EXPECT_MISS(project({.activate_value = true}).report, "fuse-qkv", plain);
}

TEST(FuseQkv, AnEncoderLayerFromMatMulsOn) {
  Builder b;
  const ValueId x = b.input("x", {kB, kS, kWidth});
  const auto linear = [&](ValueId v, int64_t k, int64_t n) {
    return b.op("Add", {b.op("MatMul", {v, b.weight({k, n})}), b.weight({n})});
  };
  const auto norm = [&](ValueId v) { return b.op("LayerNormalization", {v, b.weight({kWidth}), b.weight({kWidth})}); };
  Layer layer;
  layer.mask = masked_fill(false, -3.4028234663852886e38, true);
  const ValueId attended = layer.build(b, linear(x, kWidth, kWidth), linear(x, kWidth, kWidth), linear(x, kWidth, kWidth));
  const ValueId y = norm(b.op("Add", {linear(attended, kWidth, kWidth), x}));
  b.output(norm(b.op("Add", {y, linear(b.op("Gelu", {linear(y, kWidth, 16)}), 16, kWidth)})));
  simplified(b);
  EXPECT_EQ(count(b.graph, "FusedAttention", ops::kOcior), 1);
  EXPECT_EQ(count(b.graph, "Linear", ops::kOcior), 4);
  EXPECT_EQ(count(b.graph, "LayerNormalization"), 2);
  EXPECT_EQ(count_all(b.graph), 8) << graph::print(b.graph);  // and Not, of the mask
}

}  // namespace
}  // namespace ocior::passes
