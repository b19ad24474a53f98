// Tests of fuse-linear, fuse-bias, fuse-activation and fuse-residual: MatMul and Gemm with constant weights, and what follows
// them.
#include "passes/testing.h"

namespace ocior::passes {
namespace {

using namespace testing;

const Dims kRows{Dim::symbol("b"), Dim::symbol("s"), 4};
const std::vector<std::string> kAll{"fuse-linear", "fuse-bias", "fuse-activation", "fuse-residual"};

ValueId product(Builder& b, ValueId x, int64_t n = 6) { return b.op("MatMul", {x, b.weight({4, n})}); }

std::string attributes(const Builder& b) { return graph::to_string(maker(b.graph).op->attributes()); }

// ---- MatMul

TEST(FuseLinear, MatMulWithConstantWeights) {
  Builder b;
  b.output(product(b, b.input("x", kRows)));
  EXPECT_EQ(fired(simplified(b, only({"fuse-linear"})), "fuse-linear"), 1);
  EXPECT_EQ(count(b.graph, "Linear", ops::kOcior), 1);
  EXPECT_EQ(count_all(b.graph), 1);
}

TEST(FuseLinear, OtherMatMulsStay) {
  const auto stays = [](ValueId (*make)(Builder & b)) {
    Builder b;
    b.output(make(b));
    EXPECT_EQ(fired(simplified(b, only({"fuse-linear"})), "fuse-linear"), 0) << graph::print(b.graph);
  };
  stays([](Builder& b) { return b.op("MatMul", {b.input("x", kRows), b.input("w", {4, 6})}); });
  stays([](Builder& b) { return b.op("MatMul", {b.weight({5, 4}), b.input("x", {4, 6})}); });
  stays([](Builder& b) { return b.op("MatMul", {b.input("x", {4}), b.weight({4, 6})}); });
  stays([](Builder& b) { return b.op("MatMul", {b.input("x", kRows), b.weight({4})}); });
  stays([](Builder& b) { return b.op("MatMul", {b.input("x", kRows), b.weight({2, 4, 6})}); });
  stays([](Builder& b) { return b.op("MatMul", {b.input("x", kRows, DType::kDouble), b.weight({4, 6}, DType::kDouble)}); });
  stays([](Builder& b) {
    const ValueId w = b.weight({4, 6});
    b.graph.mutable_value(w).overridable = true;
    return b.op("MatMul", {b.input("x", kRows), w});
  });
}

// ---- Gemm

PassReport gemm(Builder& b, graph::Attributes attributes, Shape w, std::optional<Shape> c, Dims x = {Dim::symbol("s"), 4}) {
  std::vector<ValueId> in{b.input("x", std::move(x)), b.weight(std::move(w))};
  if (c) in.push_back(b.weight(*c));
  b.output(b.op("Gemm", in, std::move(attributes)));
  return simplified(b, only({"fuse-linear"}));
}

TEST(FuseLinear, GemmVariants) {
  for (const bool transposed : {false, true})
    for (const bool biased : {false, true})
      for (const float alpha : {1.0f, 0.5f}) {
        Builder b;
        const PassReport report =
            gemm(b, {{"transB", int64_t{transposed}}, {"alpha", alpha}}, transposed ? Shape{6, 4} : Shape{4, 6},
                 biased ? std::optional<Shape>(Shape{6}) : std::nullopt);
        EXPECT_EQ(fired(report, "fuse-linear"), 1);
        EXPECT_EQ(maker(b.graph).inputs.size(), biased ? 3u : 2u);
      }
  Builder unused_beta;
  EXPECT_EQ(fired(gemm(unused_beta, {{"beta", 3.0f}}, {4, 6}, std::nullopt), "fuse-linear"), 1);
}

TEST(FuseLinear, OtherGemmsAreNamed) {
  const char* reason = "C is no vector of the output's width, or beta is not 1";
  Builder a, beta, scalar, one, matrix;
  EXPECT_MISS(gemm(a, {{"transA", int64_t{1}}}, {4, 6}, std::nullopt, {4, Dim::symbol("s")}), "fuse-linear", "A is transposed");
  EXPECT_MISS(gemm(beta, {{"beta", 0.5f}}, {4, 6}, Shape{6}), "fuse-linear", reason);
  EXPECT_MISS(gemm(scalar, {}, {4, 6}, Shape{}), "fuse-linear", reason);
  EXPECT_MISS(gemm(one, {}, {4, 6}, Shape{1}), "fuse-linear", reason);
  EXPECT_MISS(gemm(matrix, {}, {4, 6}, Shape{5, 6}), "fuse-linear", reason);
}

// ---- Bias

TEST(FuseBias, OnEitherSide) {
  for (const bool left : {false, true}) {
    Builder b;
    const ValueId y = product(b, b.input("x", kRows)), bias = b.weight({6});
    b.output(left ? b.op("Add", {bias, y}) : b.op("Add", {y, bias}));
    EXPECT_EQ(fired(simplified(b, only(kAll)), "fuse-bias"), 1);
    EXPECT_EQ(count_all(b.graph), 1);
    EXPECT_EQ(maker(b.graph).inputs.size(), 3u);
  }
}

TEST(FuseBias, OtherSumsStay) {
  const auto stays = [](ValueId (*make)(Builder & b, ValueId y)) {
    Builder b;
    b.output(make(b, product(b, b.input("x", kRows))));
    EXPECT_EQ(fired(simplified(b, only({"fuse-linear", "fuse-bias"})), "fuse-bias"), 0) << graph::print(b.graph);
  };
  stays([](Builder& b, ValueId y) { return b.op("Add", {y, b.weight({1})}); });
  stays([](Builder& b, ValueId y) { return b.op("Add", {y, b.weight({})}); });
  stays([](Builder& b, ValueId y) { return b.op("Add", {y, b.weight({1, 6})}); });
  stays([](Builder& b, ValueId y) { return b.op("Add", {y, b.input("bias", {6})}); });
  stays([](Builder& b, ValueId y) { return b.op("Sub", {y, b.weight({6})}); });
  stays([](Builder& b, ValueId) {
    return b.op("Add", {product(b, b.input("z", kRows), 1), b.weight({6})});
  });  // spreads one column
}

TEST(FuseBias, ASecondBiasAndOtherReadersAreNamed) {
  const char* reason = "the product has a bias, an activation or another reader already";
  Builder two;
  two.output(two.op("Add", {two.op("Add", {product(two, two.input("x", kRows)), two.weight({6})}), two.weight({6})}));
  const PassReport report = simplified(two, only({"fuse-linear", "fuse-bias"}));
  EXPECT_EQ(fired(report, "fuse-bias"), 1);
  EXPECT_NE(misses(report, "fuse-bias").find(reason), std::string::npos);

  Builder read;
  const ValueId y = product(read, read.input("x", kRows));
  read.output(read.op("Add", {y, read.weight({6})}));
  read.output(read.op("Neg", {y}));
  EXPECT_MISS(simplified(read, only({"fuse-linear", "fuse-bias"})), "fuse-bias", reason);
}

// ---- Activation

TEST(FuseActivation, EveryActivationWithAndWithoutBias) {
  const struct {
    const char* op;
    graph::Attributes attributes;
    const char* name;
  } cases[] = {{"Relu", {}, "relu"},
               {"Tanh", {}, "tanh"},
               {"Sigmoid", {}, "sigmoid"},
               {"Gelu", {}, "gelu_erf"},
               {"Gelu", {{"approximate", std::string("tanh")}}, "gelu_tanh"}};
  for (const auto& c : cases)
    for (const bool biased : {false, true}) {
      Builder b;
      ValueId y = product(b, b.input("x", kRows));
      if (biased) y = b.op("Add", {y, b.weight({6})});
      b.output(b.op(c.op, {y}, c.attributes));
      EXPECT_EQ(fired(simplified(b, only(kAll)), "fuse-activation"), 1) << c.name;
      EXPECT_EQ(count_all(b.graph), 1);
      EXPECT_NE(attributes(b).find(std::string("\"") + c.name + "\""), std::string::npos) << attributes(b);
    }
}

TEST(FuseActivation, OfGemmKeepsItsAttributes) {
  Builder b;
  const ValueId y =
      b.op("Gemm", {b.input("x", {3, 4}), b.weight({6, 4}), b.weight({6})}, {{"transB", int64_t{1}}, {"alpha", 0.5f}});
  b.output(b.op("Relu", {y}));
  simplified(b, only(kAll));
  EXPECT_EQ(attributes(b), "activation=\"relu\", alpha=0.5f, transpose_b=1");
}

TEST(FuseActivation, ASecondOneAResidualAndOtherReadersAreNamed) {
  const char* reason = "the product has a residual, an activation or another reader already";
  Builder twice;
  twice.output(twice.op("Tanh", {twice.op("Relu", {product(twice, twice.input("x", kRows))})}));
  const PassReport report = simplified(twice, only(kAll));
  EXPECT_EQ(fired(report, "fuse-activation"), 1);
  EXPECT_NE(misses(report, "fuse-activation").find(reason), std::string::npos);
  EXPECT_EQ(count(twice.graph, "Tanh"), 1);

  Builder residual;
  residual.output(
      residual.op("Relu", {residual.op("Add", {product(residual, residual.input("x", kRows), 4), residual.input("r", kRows)})}));
  EXPECT_MISS(simplified(residual, only(kAll)), "fuse-activation", reason);
  EXPECT_EQ(count(residual.graph, "Relu"), 1);

  Builder read;
  const ValueId y = product(read, read.input("x", kRows));
  read.output(read.op("Relu", {y}));
  read.output(y);
  EXPECT_MISS(simplified(read, only(kAll)), "fuse-activation", reason);
}

// ---- Residual

TEST(FuseResidual, OnEitherSideAndBehindAnActivation) {
  for (const bool left : {false, true})
    for (const bool activated : {false, true}) {
      Builder b;
      const ValueId x = b.input("x", kRows);
      ValueId y = b.op("Add", {product(b, x, 4), b.weight({4})});
      if (activated) y = b.op("Gelu", {y});
      b.output(left ? b.op("Add", {x, y}) : b.op("Add", {y, x}));
      EXPECT_EQ(fired(simplified(b, only(kAll)), "fuse-residual"), 1);
      EXPECT_EQ(count_all(b.graph), 1) << graph::print(b.graph);
      EXPECT_EQ(maker(b.graph).inputs.size(), 4u);
    }
}

TEST(FuseResidual, SumOfTwoProductsTakesOne) {
  Builder b;
  const ValueId x = b.input("x", kRows);
  b.output(b.op("Add", {product(b, x), product(b, x)}));
  EXPECT_EQ(fired(simplified(b, only(kAll)), "fuse-residual"), 1);
  EXPECT_EQ(count_all(b.graph), 2);
}

TEST(FuseResidual, OtherShapesAndReadersAreNamed) {
  Builder row, unknown, doubled, read;
  row.output(row.op("Add", {product(row, row.input("x", kRows), 4), row.input("r", {Dim::symbol("s"), 4})}));
  EXPECT_MISS(simplified(row, only(kAll)), "fuse-residual", "another shape");

  unknown.output(
      unknown.op("Add", {product(unknown, unknown.input("x", kRows), 4), unknown.input("r", {Dim::symbol("b"), 5, 4})}));
  EXPECT_MISS(simplified(unknown, only(kAll)), "fuse-residual", "another shape, or one that is not known to be the same");

  const ValueId y = product(doubled, doubled.input("x", kRows), 4);
  doubled.output(doubled.op("Add", {y, y}));
  EXPECT_MISS(simplified(doubled, only(kAll)), "fuse-residual", "another reader");

  const ValueId z = product(read, read.input("x", kRows), 4);
  read.output(read.op("Add", {z, read.input("r", kRows)}));
  read.output(read.op("Neg", {z}));
  EXPECT_MISS(simplified(read, only(kAll)), "fuse-residual", "another reader");
}

TEST(FuseResidual, AFeedForwardBlockIsTwoNodes) {
  Builder b;
  const ValueId x = b.input("x", kRows);
  const ValueId hidden = b.op("Gelu", {b.op("Add", {product(b, x, 16), b.weight({16})})});
  b.output(b.op("Add", {b.op("Add", {b.op("MatMul", {hidden, b.weight({16, 4})}), b.weight({4})}), x}));
  simplified(b);
  EXPECT_EQ(count(b.graph, "Linear", ops::kOcior), 2);
  EXPECT_EQ(count_all(b.graph), 2);
}

}  // namespace
}  // namespace ocior::passes
