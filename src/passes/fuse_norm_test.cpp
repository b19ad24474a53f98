// Tests of fuse-gelu, fuse-layer-norm and fuse-skip-layer-norm: every spelling that exporters write, and what only looks like
// one.
#include <numbers>

#include "passes/testing.h"

namespace ocior::passes {
namespace {

using namespace testing;

// ---- GELU

struct Gelu {
  DType dtype = DType::kFloat;
  double half = 0.5, one = 1, root = std::numbers::sqrt2, inverse_root = 1 / std::numbers::sqrt2, cubic = 0.044715,
         factor = 0.7978845608028654;

  ValueId c(Builder& b, double v) const { return b.full(v, {}, dtype); }
  ValueId mul(Builder& b, ValueId x, ValueId y) const { return b.op("Mul", {x, y}); }
  ValueId by_div(Builder& b, ValueId x) const { return b.op("Add", {b.op("Erf", {b.op("Div", {x, c(b, root)})}), c(b, one)}); }
  ValueId by_mul(Builder& b, ValueId x) const { return b.op("Add", {c(b, one), b.op("Erf", {mul(b, c(b, inverse_root), x)})}); }

  ValueId cube(Builder& b, ValueId x, bool pow) const { return pow ? b.op("Pow", {x, c(b, 3)}) : mul(b, mul(b, x, x), x); }
  ValueId tanh(Builder& b, ValueId x, bool pow, bool left) const {
    const ValueId scaled = left ? mul(b, c(b, cubic), cube(b, x, pow)) : mul(b, cube(b, x, pow), c(b, cubic));
    const ValueId sum = left ? b.op("Add", {x, scaled}) : b.op("Add", {scaled, x});
    return b.op("Add", {b.op("Tanh", {left ? mul(b, sum, c(b, factor)) : mul(b, c(b, factor), sum)}), c(b, one)});
  }
  ValueId tanh_factored(Builder& b, ValueId x) const {
    const ValueId bracket = b.op("Add", {c(b, one), mul(b, mul(b, c(b, cubic), x), x)});
    return b.op("Add", {c(b, one), b.op("Tanh", {mul(b, mul(b, x, c(b, factor)), bracket)})});
  }
};

const Dims kShape{Dim::symbol("b"), 6};

TEST(FuseGelu, EveryBracketingOfTheOuterProduct) {
  const Gelu g;
  for (int inner = 0; inner < 7; ++inner)
    for (int outer = 0; outer < 6; ++outer) {
      Builder b;
      const ValueId x = b.input("x", kShape), half = g.c(b, 0.5);
      const ValueId bracket = inner == 0   ? g.by_div(b, x)
                              : inner == 1 ? g.by_mul(b, x)
                              : inner < 6  ? g.tanh(b, x, inner % 2 == 0, inner < 4)
                                           : g.tanh_factored(b, x);
      if (outer == 5 && inner > 1) continue;  // the halved x is an erf form only
      switch (outer) {
        case 0: b.output(g.mul(b, g.mul(b, x, half), bracket)); break;
        case 1: b.output(g.mul(b, g.mul(b, x, bracket), half)); break;
        case 2: b.output(g.mul(b, half, g.mul(b, x, bracket))); break;
        case 3: b.output(g.mul(b, x, g.mul(b, bracket, half))); break;
        case 4: b.output(g.mul(b, bracket, g.mul(b, half, x))); break;
        case 5: b.output(g.mul(b, b.op("Div", {x, g.c(b, 2)}), bracket)); break;
      }
      const PassReport report = simplified(b, only({"fuse-gelu"}));
      EXPECT_EQ(fired(report, "fuse-gelu"), 1) << inner << " " << outer << "\n" << misses(report, "fuse-gelu");
      ASSERT_EQ(count_all(b.graph), 1) << graph::print(b.graph);
      EXPECT_EQ(graph::to_string(maker(b.graph).op->attributes()), inner < 2 ? "approximate=\"none\"" : "approximate=\"tanh\"");
    }
}

TEST(FuseGelu, ThroughTheWholePipeline) {
  Builder b;
  const ValueId x = b.op("Relu", {b.input("x", kShape)});
  b.output(Gelu().mul(b, Gelu().mul(b, x, Gelu().by_div(b, x)), b.full(0.5, {1})));
  simplified(b);
  EXPECT_EQ(count(b.graph, "Gelu"), 1);
}

TEST(FuseGelu, HalfPrecisionConstantsCarryTheirRounding) {
  Gelu g;
  g.dtype = DType::kFloat16;
  Builder b;
  const ValueId x = b.input("x", kShape, DType::kFloat16);
  b.output(g.mul(b, g.mul(b, x, g.c(b, 0.5)), g.by_div(b, x)));
  EXPECT_EQ(fired(simplified(b, only({"fuse-gelu"}), 5e-3), "fuse-gelu"), 1);
}

// 0.5 * (x * (1 + erf(x / sqrt 2))) with the constants of `g`; `tweak` may change the graph before the outer product.
PassReport erf_of(const Gelu& g, void (*tweak)(Builder& b, ValueId x, ValueId bracket) = nullptr) {
  Builder b;
  const ValueId x = b.input("x", kShape, g.dtype);
  const ValueId bracket = g.by_div(b, x);
  if (tweak) tweak(b, x, bracket);
  b.output(g.mul(b, g.mul(b, x, bracket), g.c(b, g.half)));
  return simplified(b, only({"fuse-gelu"}));
}

TEST(FuseGelu, WrongConstantsAreNamed) {
  Gelu half, one, root, cubic;
  half.half = 0.4, one.one = 1.5, root.root = 1.5, cubic.cubic = 0.05;
  EXPECT_EQ(fired(erf_of(half), "fuse-gelu"), 0);
  EXPECT_MISS(erf_of(one), "fuse-gelu", "expected the constant 1, found the constant 1.5");
  EXPECT_MISS(erf_of(root), "fuse-gelu", "expected the constant 1.4142135623730951, found the constant 1.5");
  Builder b;
  const ValueId x = b.input("x", kShape);
  b.output(cubic.mul(b, cubic.mul(b, x, cubic.tanh(b, x, true, true)), cubic.c(b, 0.5)));
  EXPECT_MISS(simplified(b, only({"fuse-gelu"})), "fuse-gelu", "expected");
}

TEST(FuseGelu, InteriorValuesReadElsewhereAreNamed) {
  const PassReport report = erf_of({}, [](Builder& b, ValueId, ValueId bracket) { b.output(b.op("Neg", {bracket})); });
  EXPECT_MISS(report, "fuse-gelu", "inside of it is also read elsewhere");
}

TEST(FuseGelu, GraphOutputsInsideAreReadersToo) {
  const PassReport report = erf_of({}, [](Builder& b, ValueId, ValueId bracket) { b.output(bracket); });
  EXPECT_MISS(report, "fuse-gelu", "inside of it is also read elsewhere");
}

TEST(FuseGelu, TheSameXEverywhere) {
  Builder b;
  const ValueId x = b.input("x", kShape), y = b.input("y", kShape);
  b.output(b.op("Mul", {b.op("Mul", {y, Gelu().by_div(b, x)}), b.full(0.5)}));
  EXPECT_MISS(simplified(b, only({"fuse-gelu"})), "fuse-gelu", "expected the same value as 'x', found 'y'");
}

TEST(FuseGelu, OtherTypesStay) {
  Gelu g;
  g.dtype = DType::kDouble;
  EXPECT_MISS(erf_of(g), "fuse-gelu", "only float and float16 are fused");
}

TEST(FuseGelu, LongProductsAreLookedAtInLinearTime) {
  Builder b;
  ValueId v = b.input("x", kShape);
  const ValueId k = b.input("k", kShape);
  for (int i = 0; i < 5000; ++i) v = b.op("Mul", {v, k});
  b.output(b.op("Mul", {v, b.op("Erf", {k})}));
  const auto report = simplify(b.graph, only({"fuse-gelu"}));
  ASSERT_TRUE(report.ok());
  EXPECT_LT(entry(*report, "fuse-gelu").milliseconds, 2000);
}

// ---- LayerNormalization

struct Norm {
  enum class Ending { kDiv, kReciprocal, kOneDiv };
  Ending ending = Ending::kDiv;
  bool pow = true, axes_input = false, twice = false, gamma_first = false, gamma_on_scale = false;
  int64_t axis = -1, keepdims = 1;
  DType dtype = DType::kFloat;
  Shape gamma = {6}, beta = {6};
  double two = 2;

  ValueId mean(Builder& b, ValueId x) const {
    if (axes_input) return b.op("ReduceMean", {x, b.ints({axis})}, {{"keepdims", keepdims}}, 18);
    return b.op("ReduceMean", {x}, {{"axes", std::vector<int64_t>{axis}}, {"keepdims", keepdims}}, 13);
  }
  ValueId build(Builder& b, ValueId x) const {
    const ValueId centred = b.op("Sub", {x, mean(b, x)});
    const ValueId again = twice ? b.op("Sub", {x, mean(b, x)}) : centred;
    const ValueId square = pow ? b.op("Pow", {again, b.full(two, {}, dtype)}) : b.op("Mul", {again, again});
    const ValueId deviation = b.op("Sqrt", {b.op("Add", {mean(b, square), b.full(1e-12, {}, dtype)})});
    const ValueId g = b.weight(gamma, dtype), beta_value = b.weight(beta, dtype);
    ValueId scaled;
    if (ending == Ending::kDiv) {
      const ValueId normal = b.op("Div", {centred, deviation});
      scaled = gamma_first ? b.op("Mul", {g, normal}) : b.op("Mul", {normal, g});
    } else {
      const ValueId factor =
          ending == Ending::kReciprocal ? b.op("Reciprocal", {deviation}) : b.op("Div", {b.full(1, {}, dtype), deviation});
      scaled =
          gamma_on_scale ? b.op("Mul", {centred, b.op("Mul", {factor, g})}) : b.op("Mul", {b.op("Mul", {centred, factor}), g});
    }
    return gamma_first ? b.op("Add", {beta_value, scaled}) : b.op("Add", {scaled, beta_value});
  }
};

const Dims kRows{Dim::symbol("b"), Dim::symbol("s"), 6};

PassReport norm_of(const Norm& n, int live_after) {
  Builder b;
  b.output(n.build(b, b.input("x", kRows, n.dtype)));
  const PassReport report = simplified(b, only({"fuse-layer-norm"}));
  if (live_after) EXPECT_EQ(count_all(b.graph), live_after) << graph::print(b.graph) << misses(report, "fuse-layer-norm");
  return report;
}

TEST(FuseLayerNorm, DecomposedForms) {
  for (const Norm::Ending ending : {Norm::Ending::kDiv, Norm::Ending::kReciprocal, Norm::Ending::kOneDiv})
    for (int form = 0; form < 32; ++form) {
      Norm n{.ending = ending, .pow = (form & 1) != 0, .axes_input = (form & 2) != 0, .twice = (form & 4) != 0};
      n.gamma_first = n.gamma_on_scale = (form & 8) != 0;
      if (form & 16) n.axis = 2;
      EXPECT_EQ(fired(norm_of(n, 1), "fuse-layer-norm"), 1) << static_cast<int>(ending) << " " << form;
    }
}

TEST(FuseLayerNorm, KeepsEpsilon) {
  Builder b;
  b.output(Norm().build(b, b.input("x", kRows)));
  simplified(b, only({"fuse-layer-norm"}));
  EXPECT_EQ(std::get<float>(maker(b.graph).op->attributes().at("epsilon")), 1e-12f);
}

TEST(FuseLayerNorm, WhatIsNoLayerNormIsNamed) {
  EXPECT_MISS(norm_of({.two = 3}, 0), "fuse-layer-norm", "expected the constant 2, found the constant 3");
  EXPECT_MISS(norm_of({.axis = 1}, 0), "fuse-layer-norm", "the mean is not over the last axis alone");
  EXPECT_MISS(norm_of({.gamma = {1}}, 0), "fuse-layer-norm", "are no vectors over the last axis");
  EXPECT_MISS(norm_of({.beta = {5, 6}}, 0), "fuse-layer-norm", "are no vectors over the last axis");
  EXPECT_MISS(norm_of({.dtype = DType::kDouble}, 0), "fuse-layer-norm", "only float is fused");
}

TEST(FuseLayerNorm, MeansOverTwoAxesStay) {
  Builder b;
  const ValueId x = b.input("x", kRows);
  const auto mean = [&](ValueId v) { return b.op("ReduceMean", {v}, {{"axes", std::vector<int64_t>{1, 2}}}, 13); };
  const ValueId centred = b.op("Sub", {x, mean(x)});
  const ValueId deviation = b.op("Sqrt", {b.op("Add", {mean(b.op("Mul", {centred, centred})), b.full(1e-5)})});
  b.output(b.op("Add", {b.op("Mul", {b.op("Div", {centred, deviation}), b.weight({6})}), b.weight({6})}));
  EXPECT_MISS(simplified(b, only({"fuse-layer-norm"})), "fuse-layer-norm", "the mean is not over the last axis alone");
}

TEST(FuseLayerNorm, InteriorValuesReadElsewhereStay) {
  Builder b;
  const ValueId x = b.input("x", kRows);
  b.output(Norm().build(b, x));
  const Node& centred = b.graph.node(1);
  ASSERT_EQ(centred.op->name(), "Sub");
  b.output(b.op("Neg", {centred.outputs[0]}));
  EXPECT_MISS(simplified(b, only({"fuse-layer-norm"})), "fuse-layer-norm", "is also read elsewhere");
}

TEST(FuseLayerNorm, UnknownRanksStay) {
  Builder b;
  b.output(Norm{.gamma = {4}, .beta = {4}}.build(b, b.input_of_unknown_rank("x")));
  EXPECT_MISS(simplified(b, only({"fuse-layer-norm"})), "fuse-layer-norm", "rank of the input or of the scale is unknown");
}

// ---- SkipLayerNorm

struct Skip {
  Dims other = kRows;
  int64_t axis = -1;
  DType dtype = DType::kFloat;
  bool beta = true, read_sum = false;
  int outputs = 1;
};

PassReport skip_of(const Skip& s, int live_after = 0) {
  Builder b;
  const ValueId sum = b.op("Add", {b.input("x", kRows, s.dtype), b.input("y", s.other, s.dtype)});
  std::vector<ValueId> in{sum, b.weight({6}, s.dtype)};
  if (s.beta) in.push_back(b.weight({6}, s.dtype));
  const auto y = b.many("LayerNormalization", in, s.outputs, {{"axis", s.axis}, {"epsilon", 1e-3f}});
  for (const ValueId v : y) b.output(v);
  if (s.read_sum) b.output(b.op("Neg", {sum}));
  const PassReport report = simplified(b, only({"fuse-skip-layer-norm"}));
  if (live_after) EXPECT_EQ(count_all(b.graph), live_after) << graph::print(b.graph);
  return report;
}

TEST(FuseSkipLayerNorm, SumsOfEqualShapes) {
  EXPECT_EQ(fired(skip_of({}, 1), "fuse-skip-layer-norm"), 1);
  EXPECT_EQ(fired(skip_of({.axis = 2}, 1), "fuse-skip-layer-norm"), 1);
  EXPECT_EQ(fired(skip_of({.beta = false}, 1), "fuse-skip-layer-norm"), 1);
}

TEST(FuseSkipLayerNorm, OthersAreNamed) {
  const char* pass = "fuse-skip-layer-norm";
  EXPECT_MISS(skip_of({.other = {6}}), pass, "different shapes");
  EXPECT_MISS(skip_of({.other = {Dim::symbol("b"), 5, 6}}), pass, "different shapes");
  EXPECT_MISS(skip_of({.read_sum = true}), pass, "read elsewhere");
  EXPECT_MISS(skip_of({.outputs = 3}), pass, "further outputs");
  EXPECT_MISS(skip_of({.dtype = DType::kDouble}), pass, "is not float");
  Builder b;  // axis 1 of known lengths
  const ValueId sum = b.op("Add", {b.input("x", {2, 5, 6}), b.input("y", {2, 5, 6})});
  b.output(b.op("LayerNormalization", {sum, b.weight({5, 6})}, {{"axis", int64_t{1}}}));
  EXPECT_MISS(simplified(b, only({pass})), pass, "not over the last axis");
}

}  // namespace
}  // namespace ocior::passes
