// Tests of fuse-conv: which activations join the convolution before them, and which stay.
#include "passes/testing.h"

namespace ocior::passes {
namespace {

using namespace testing;

const Dims kImage{Dim::symbol("b"), 3, 5, 6};

ValueId convolution(Builder& b) { return b.op("Conv", {b.input("x", kImage), b.weight({4, 3, 2, 2}), b.weight({4})}); }

PassReport fused(Builder& b, ValueId y) {
  b.output(y);
  return simplified(b, only({"fuse-conv"}));
}

std::string attributes(const Builder& b) { return graph::to_string(maker(b.graph).op->attributes()); }

TEST(FuseConv, Activations) {
  const auto joins = [](const char* text, ValueId (*make)(Builder & b, ValueId y)) {
    Builder b;
    EXPECT_EQ(fired(fused(b, make(b, convolution(b))), "fuse-conv"), 1) << text;
    EXPECT_EQ(count(b.graph, "FusedConv", ops::kOcior), 1) << text;
    EXPECT_EQ(count_all(b.graph), 1) << text;
    EXPECT_NE(attributes(b).find(text), std::string::npos) << attributes(b);
  };
  joins("relu", [](Builder& b, ValueId y) { return b.op("Relu", {y}); });
  joins("sigmoid", [](Builder& b, ValueId y) { return b.op("Sigmoid", {y}); });
  joins("hard_swish", [](Builder& b, ValueId y) { return b.op("HardSwish", {y}); });
  joins("leaky_relu", [](Builder& b, ValueId y) { return b.op("LeakyRelu", {y}, {{"alpha", 0.3f}}); });
  joins("hard_sigmoid", [](Builder& b, ValueId y) { return b.op("HardSigmoid", {y}); });
  joins("clip", [](Builder& b, ValueId y) { return b.op("Clip", {y, b.full(0), b.full(6)}); });
  joins("clip", [](Builder& b, ValueId y) { return b.op("Clip", {y, kNone, b.full(0.5)}); });
  joins("clip", [](Builder& b, ValueId y) { return b.op("Clip", {y}, {{"min", -0.5f}, {"max", 0.5f}}, 6); });
}

TEST(FuseConv, OthersStay) {
  const auto stays = [](ValueId (*make)(Builder & b)) {
    Builder b;
    EXPECT_EQ(fired(fused(b, make(b)), "fuse-conv"), 0) << graph::print(b.graph);
  };
  stays([](Builder& b) { return b.op("Tanh", {convolution(b)}); });
  stays([](Builder& b) { return b.op("Relu", {b.input("x", kImage)}); });
  stays([](Builder& b) { return b.op("Clip", {convolution(b), b.input("lo", {})}); });
  stays([](Builder& b) { return b.op("Clip", {convolution(b), b.full(1), b.full(0)}); });
  stays([](Builder& b) {
    const ValueId x = b.input("x", kImage, DType::kDouble);
    return b.op("Relu", {b.op("Conv", {x, b.weight({4, 3, 2, 2}, DType::kDouble)})});
  });
}

TEST(FuseConv, AnotherReaderIsNamed) {
  Builder b;
  const ValueId y = convolution(b);
  b.output(y);
  EXPECT_MISS(fused(b, b.op("Relu", {y})), "fuse-conv", "the convolution has another reader");
}

const Dims kResult{Dim::symbol("b"), 4, 4, 5};

TEST(FuseConv, ResidualAndActivation) {
  for (const bool first : {false, true})
    for (const bool relu : {false, true}) {
      Builder b;
      const ValueId y = convolution(b), r = b.input("r", kResult);
      const ValueId sum = first ? b.op("Add", {r, y}) : b.op("Add", {y, r});
      EXPECT_EQ(fired(fused(b, relu ? b.op("Relu", {sum}) : sum), "fuse-conv"), relu ? 2 : 1);
      EXPECT_EQ(count(b.graph, "FusedConv", ops::kOcior), 1);
      EXPECT_EQ(count_all(b.graph), 1);
      EXPECT_EQ(maker(b.graph).inputs.size(), 4U);
      EXPECT_NE(attributes(b).find(relu ? "relu" : "none"), std::string::npos) << attributes(b);
    }
}

TEST(FuseConv, ResidualOfTwoConvolutionsJoinsOne) {
  Builder b;
  const ValueId x = b.input("x", kImage);
  const auto conv = [&] { return b.op("Conv", {x, b.weight({4, 3, 2, 2})}); };
  EXPECT_EQ(fired(fused(b, b.op("Add", {conv(), conv()})), "fuse-conv"), 1);
  EXPECT_EQ(count(b.graph, "Conv"), 1);
  EXPECT_EQ(maker(b.graph).inputs[2], kNone);
}

// An activation before the sum stays before it.
TEST(FuseConv, ResidualBehindAnActivationStays) {
  Builder b;
  const ValueId y = b.op("Add", {b.op("Relu", {convolution(b)}), b.input("r", kResult)});
  EXPECT_EQ(fired(fused(b, y), "fuse-conv"), 1);
  EXPECT_EQ(count(b.graph, "Add"), 1);
}

TEST(FuseConv, MissedResidualsAreNamed) {
  Builder doubled;
  const ValueId y = convolution(doubled);
  EXPECT_MISS(fused(doubled, doubled.op("Add", {y, y})), "fuse-conv", "the convolution has another reader");
  Builder row;
  EXPECT_MISS(fused(row, row.op("Add", {convolution(row), row.input("r", {5})})), "fuse-conv",
              "the other operand has another shape, or one that is not known to be the same");
}

}  // namespace
}  // namespace ocior::passes
