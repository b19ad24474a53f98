// Tests of the cleaning passes and of the runner's options.
#include "passes/testing.h"

namespace ocior::passes {
namespace {

using namespace testing;

std::vector<int64_t> target_of(const graph::Graph& g) {
  const Tensor* t = g.constant(maker(g).inputs[1]);
  return t ? std::vector<int64_t>(t->as<int64_t>(), t->as<int64_t>() + t->count()) : std::vector<int64_t>();
}

// ---- Options

TEST(Simplify, UnknownPassNameIsAnErrorThatListsTheNames) {
  Builder b;
  const auto report = simplify(b.graph, {.disabled = {"fuse-everything"}});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.status().code(), Code::kInvalidArgument);
  for (const char* word : {"'fuse-everything'", "fold-constants", "fuse-gelu", "fuse-skip-layer-norm"})
    EXPECT_NE(report.status().message().find(word), std::string::npos) << word;
}

Builder identity_and_gelu() {
  Builder b;
  const ValueId x = b.op("Identity", {b.input("x", {2, 4})});
  const ValueId erf = b.op("Add", {b.op("Erf", {b.op("Div", {x, b.full(1.41421356)})}), b.full(1)});
  b.output(b.op("Mul", {b.op("Mul", {x, erf}), b.full(0.5)}));
  return b;
}

TEST(Simplify, LevelsSwitchPassesOff) {
  const struct { int level, identities, gelus; } cases[] = {{0, 1, 0}, {1, 0, 0}, {2, 0, 1}, {99, 0, 1}};
  for (const auto& c : cases) {
    Builder b = identity_and_gelu();
    const PassReport report = simplified(b, {.level = c.level});
    EXPECT_EQ(count(b.graph, "Identity"), c.identities) << c.level;
    EXPECT_EQ(count(b.graph, "Gelu"), c.gelus) << c.level;
    EXPECT_EQ(entry(report, "fold-constants").enabled, c.level >= 1);
    EXPECT_EQ(entry(report, "fuse-gelu").enabled, c.level >= 2);
  }
}

TEST(Simplify, DisabledPassesDoNotRun) {
  Builder b = identity_and_gelu();
  const PassReport report = simplified(b, {.disabled = {"fuse-gelu"}});
  EXPECT_FALSE(entry(report, "fuse-gelu").enabled);
  EXPECT_EQ(count(b.graph, "Gelu"), 0);
  EXPECT_EQ(count(b.graph, "Identity"), 0);
}

TEST(Simplify, NodesNobodyReadsGo) {
  Builder b;
  const ValueId x = b.input("x", {2});
  b.op("Exp", {b.op("Neg", {x})});
  b.output(b.op("Relu", {x}));
  simplified(b, only({}));
  EXPECT_EQ(count_all(b.graph), 1);
}

TEST(Simplify, OutputsWithoutAValueDoNotMatter) {
  Builder b;
  const ValueId c = b.full(1, {2});
  b.graph.add_node("nameless", *ops::make_operator("", "Identity", ops::kNewestOpset, {}, 1, 1), {c}, {kNone});
  b.output(b.op("Relu", {b.input("x", {2})}));
  EXPECT_TRUE(simplify(b.graph).ok());
}

// ---- fold-constants

TEST(FoldConstants, ComputesPureOperatorsOfConstants) {
  Builder b;
  const ValueId c = b.op("Exp", {b.op("Add", {b.weight({2, 3}), b.full(1)})});
  b.output(b.op("Sub", {b.input("x", {2, 3}), c}));
  EXPECT_EQ(fired(simplified(b, only({"fold-constants"})), "fold-constants"), 2);
  EXPECT_EQ(count_all(b.graph), 1);
}

TEST(FoldConstants, GraphOutputsMayBecomeConstants) {
  Builder b;
  b.output(b.op("Neg", {b.weight({3})}));
  simplified(b, only({"fold-constants"}));
  EXPECT_EQ(count_all(b.graph), 0);
  EXPECT_NE(b.graph.constant(b.graph.outputs()[0]), nullptr);
}

TEST(FoldConstants, LeavesInputsRandomsAndHugeResults) {
  Builder b;
  const ValueId changeable = b.full(2, {2});
  b.graph.mutable_value(changeable).overridable = true;
  b.output(b.op("Neg", {changeable}));
  const PassReport report = simplified(b, only({"fold-constants"}));
  EXPECT_EQ(fired(report, "fold-constants"), 0);

  Builder huge;
  huge.output(huge.op("Expand", {huge.full(1, {1}), huge.ints({1 << 20})}));
  EXPECT_MISS(simplified(huge, only({"fold-constants"})), "fold-constants", "(Expand)");
}

// ---- eliminate-no-ops

struct NoOp {
  const char* name;
  ValueId (*make)(Builder& b, ValueId x);  // x: float[b, s, 4]
  bool gone;
};

class NoOps : public ::testing::TestWithParam<NoOp> {};

TEST_P(NoOps, GoWhereTheyGiveBackTheirInput) {
  Builder b;
  const ValueId y = GetParam().make(b, b.input("x", {Dim::symbol("b"), Dim::symbol("s"), 4}));
  const int before = count_all(b.graph);
  b.output(b.op("Relu", {y}));
  simplified(b, only({"eliminate-no-ops"}));
  EXPECT_EQ(count_all(b.graph), GetParam().gone ? 1 : before + 1) << graph::print(b.graph);
}

const NoOp kNoOps[] = {
    {"Identity", [](Builder& b, ValueId x) { return b.op("Identity", {x}); }, true},
    {"CastToSame",
     [](Builder& b, ValueId x) {
       return b.op("Cast", {x}, {{"to", int64_t{1}}});
     },
     true},
    {"CastToOther",
     [](Builder& b, ValueId x) {
       return b.op("Cast", {x}, {{"to", int64_t{11}}});
     },
     false},
    {"AddZero",
     [](Builder& b, ValueId x) {
       return b.op("Add", {x, b.full(0)});
     },
     true},
    {"ZeroAdd",
     [](Builder& b, ValueId x) {
       return b.op("Add", {b.full(0, {4}), x});
     },
     true},
    {"SubZero",
     [](Builder& b, ValueId x) {
       return b.op("Sub", {x, b.full(0)});
     },
     true},
    {"ZeroSub",
     [](Builder& b, ValueId x) {
       return b.op("Sub", {b.full(0), x});
     },
     false},
    {"MulOne",
     [](Builder& b, ValueId x) {
       return b.op("Mul", {x, b.full(1)});
     },
     true},
    {"MulAlmostOne",
     [](Builder& b, ValueId x) {
       return b.op("Mul", {x, b.full(1.0000002)});
     },
     false},
    {"DivOne",
     [](Builder& b, ValueId x) {
       return b.op("Div", {x, b.full(1)});
     },
     true},
    {"OneDiv",
     [](Builder& b, ValueId x) {
       return b.op("Div", {b.full(1), x});
     },
     false},
    {"AddZeroThatBroadcasts",
     [](Builder& b, ValueId x) {
       return b.op("Add", {x, b.full(0, {3, 1, 1, 1})});
     },
     false},
    {"ReshapeToItself",
     [](Builder& b, ValueId x) {
       return b.op("Reshape", {x, b.ints({0, 0, 4})});
     },
     true},
    {"ReshapeToOther",
     [](Builder& b, ValueId x) {
       return b.op("Reshape", {x, b.ints({0, 0, 2, 2})});
     },
     false},
    {"ExpandByOnes",
     [](Builder& b, ValueId x) {
       return b.op("Expand", {x, b.ints({1, 1, 4})});
     },
     true},
    {"TransposeInOrder",
     [](Builder& b, ValueId x) {
       return b.op("Transpose", {x}, {{"perm", std::vector<int64_t>{0, 1, 2}}});
     },
     true},
    {"TransposeSwapped",
     [](Builder& b, ValueId x) {
       return b.op("Transpose", {x}, {{"perm", std::vector<int64_t>{1, 0, 2}}});
     },
     false},
    {"ConcatOfOne",
     [](Builder& b, ValueId x) {
       return b.op("Concat", {x}, {{"axis", int64_t{0}}});
     },
     true},
    {"SliceOfAll",
     [](Builder& b, ValueId x) {
       return b.op("Slice", {x, b.ints({0}), b.ints({INT64_MAX}), b.ints({2})});
     },
     true},
    {"SliceBackwards",
     [](Builder& b, ValueId x) {
       return b.op("Slice", {x, b.ints({-1}), b.ints({INT64_MIN}), b.ints({2}), b.ints({-1})});
     },
     false},
    {"Dropout", [](Builder& b, ValueId x) { return b.op("Dropout", {x}); }, true},
    {"DropoutThatTrains",
     [](Builder& b, ValueId x) {
       return b.op("Dropout", {x, b.full(0.5), b.full(1, {}, DType::kBool)}, {{"seed", int64_t{3}}});
     },
     false},
    {"DropoutInInference",
     [](Builder& b, ValueId x) {
       return b.op("Dropout", {x, b.full(0.5), b.full(0, {}, DType::kBool)}, {{"seed", int64_t{3}}});
     },
     true},
    {"WhereTrue",
     [](Builder& b, ValueId x) {
       return b.op("Where", {b.full(1, {}, DType::kBool), x, b.full(7)});
     },
     true},
    {"WhereFalse",
     [](Builder& b, ValueId x) {
       return b.op("Where", {b.full(0, {}, DType::kBool), b.full(7), x});
     },
     true},
    {"WhereThatBroadcasts",
     [](Builder& b, ValueId x) {
       return b.op("Where", {b.full(1, {2, 1, 1, 1}, DType::kBool), x, b.full(7)});
     },
     false},
};
INSTANTIATE_TEST_SUITE_P(Cases, NoOps, ::testing::ValuesIn(kNoOps),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(EliminateNoOps, AndOrWithConstants) {
  const struct {
    const char* op;
    double constant;
    bool gone;
  } cases[] = {{"And", 1, true}, {"And", 0, false}, {"Or", 0, true}, {"Or", 1, false}};
  for (const auto& c : cases) {
    Builder b;
    b.output(b.op("Not", {b.op(c.op, {b.full(c.constant, {}, DType::kBool), b.input("m", {2, 4}, DType::kBool)})}));
    simplified(b, only({"eliminate-no-ops"}));
    EXPECT_EQ(count(b.graph, c.op), c.gone ? 0 : 1) << c.op << c.constant;
  }
}

TEST(EliminateNoOps, InputsMayBecomeOutputs) {
  Builder b;
  b.output(b.op("Identity", {b.op("Identity", {b.input("x", {2})})}));
  simplified(b, only({"eliminate-no-ops"}));
  EXPECT_EQ(b.graph.outputs()[0], b.graph.inputs()[0]);
  EXPECT_EQ(b.graph.output_names()[0], "out0");
}

TEST(EliminateNoOps, UnknownShapesStay) {
  Builder b;
  b.output(b.op("Add", {b.input_of_unknown_rank("x"), b.full(0, {2, 1})}));
  EXPECT_EQ(fired(simplified(b, only({"eliminate-no-ops"})), "eliminate-no-ops"), 0);
}

// ---- evaluate-shapes

TEST(EvaluateShapes, KnownValuesBecomeConstants) {
  Builder b;
  const ValueId x = b.input("x", {Dim::symbol("b"), 6});
  const ValueId width = b.op("Gather", {b.op("Shape", {x}), b.full(1, {1}, DType::kInt64)}, {{"axis", int64_t{0}}});
  b.output(b.op("Add", {width, b.input("n", {1}, DType::kInt64)}));
  EXPECT_EQ(fired(simplified(b, only({"evaluate-shapes"})), "evaluate-shapes"), 1);
  EXPECT_EQ(count(b.graph, "Shape"), 0);
}

TEST(EvaluateShapes, SymbolsAreNoConstants) {
  Builder b;
  b.output(b.op("Shape", {b.input("x", {Dim::symbol("b"), 6})}));
  EXPECT_EQ(fired(simplified(b, only({"evaluate-shapes"})), "evaluate-shapes"), 0);
}

TEST(EvaluateShapes, ReshapeTargetsKeepTheirDimensions) {
  Builder b;
  const ValueId x = b.input("x", {Dim::symbol("b"), Dim::symbol("s"), 12});
  const ValueId rows = b.op("Slice", {b.op("Shape", {x}), b.ints({0}), b.ints({2})});
  b.output(b.op("Reshape", {x, b.op("Concat", {rows, b.ints({3, 4})}, {{"axis", int64_t{0}}})}));
  EXPECT_GT(fired(simplified(b, only({"evaluate-shapes"})), "evaluate-shapes"), 0);
  EXPECT_EQ(count_all(b.graph), 1) << graph::print(b.graph);
  EXPECT_EQ(target_of(b.graph), (std::vector<int64_t>{0, 0, 3, 4}));
}

TEST(EvaluateShapes, OneOtherDimensionIsTheRest) {
  Builder b;
  const ValueId x = b.input("x", {Dim::symbol("b"), Dim::symbol("s"), 4});
  const ValueId shape = b.op("Shape", {x});
  const ValueId at0 = b.op("Gather", {shape, b.full(0, {1}, DType::kInt64)}),
                at1 = b.op("Gather", {shape, b.full(1, {1}, DType::kInt64)});
  b.output(b.op("Reshape", {x, b.op("Concat", {b.op("Mul", {at0, at1}), b.ints({4})}, {{"axis", int64_t{0}}})}));
  simplified(b, only({"evaluate-shapes"}));
  EXPECT_EQ(target_of(b.graph), (std::vector<int64_t>{-1, 4}));
}

TEST(EvaluateShapes, TwoUnknownDimensionsStayComputed) {
  Builder b;
  const ValueId x = b.input("x", {Dim::symbol("b"), Dim::symbol("s"), 4});
  const ValueId shape = b.op("Shape", {x});
  const ValueId at0 = b.op("Gather", {shape, b.full(0, {1}, DType::kInt64)}),
                at1 = b.op("Gather", {shape, b.full(1, {1}, DType::kInt64)});
  b.output(b.op("Reshape", {x, b.op("Concat", {at1, at0, b.ints({4})}, {{"axis", int64_t{0}}})}));
  EXPECT_EQ(fired(simplified(b, only({"evaluate-shapes"})), "evaluate-shapes"), 0);
  EXPECT_EQ(count(b.graph, "Shape"), 1);
}

// ---- share-common

TEST(ShareCommon, EqualNodesAndConstantsAreOne) {
  Builder b;
  const ValueId x = b.input("x", {2, 4});
  const ValueId one = b.op("Softmax", {b.op("Add", {x, b.full(3)})}, {{"axis", int64_t{1}}});
  const ValueId two = b.op("Softmax", {b.op("Add", {x, b.full(3)})}, {{"axis", int64_t{1}}});
  b.output(b.op("Sub", {one, two}));
  EXPECT_EQ(fired(simplified(b, only({"share-common"})), "share-common"), 3);
  EXPECT_EQ(count_all(b.graph), 3);
}

TEST(ShareCommon, OtherAttributesOpsetsTypesAndInputsStay) {
  Builder b;
  const ValueId x = b.input("x", {4, 4});
  b.output(b.op("Softmax", {x}, {{"axis", int64_t{0}}}));
  b.output(b.op("Softmax", {x}, {{"axis", int64_t{1}}}));
  b.output(b.op("Softmax", {x}, {{"axis", int64_t{1}}}, 12));
  b.output(b.op("Sub", {x, b.full(3)}));
  b.output(b.op("Sub", {b.full(3), x}));
  b.output(b.op("Sub", {x, b.full(3, {1})}));
  b.output(b.op("LeakyRelu", {x}, {{"alpha", 0.1f}}));
  b.output(b.op("LeakyRelu", {x}, {{"alpha", 0.10000001f + 1e-7f}}));
  const PassReport report = simplified(b, only({"share-common"}));
  EXPECT_EQ(count_all(b.graph), 8);
  EXPECT_EQ(fired(report, "share-common"), 1);  // the scalar 3
}

TEST(ShareCommon, ConstantsOfComplexNumbersAreToldApart) {
  const auto number = [](float re, float im) {
    Tensor t = std::move(Tensor::allocate(DType::kComplex64, {1})).value();
    t.as<float>()[0] = re;
    t.as<float>()[1] = im;
    return graph::to_string(Attributes{{"value", t}});
  };
  EXPECT_NE(number(1, 2), number(1, 3));
  EXPECT_EQ(number(1, 2), number(1, 2));
}

TEST(ShareCommon, RandomNumbersAreDrawnTwice) {
  if (!ops::find_operator("", "RandomNormalLike")) GTEST_SKIP() << "no random operator";
  Builder b;
  const ValueId x = b.input("x", {4});
  b.output(b.op("Sub", {b.op("RandomNormalLike", {x}), b.op("RandomNormalLike", {x})}));
  ASSERT_TRUE(simplify(b.graph, only({"share-common"})).ok());
  EXPECT_EQ(count(b.graph, "RandomNormalLike"), 2);
}

// ---- fold-comparisons

ValueId positions(Builder& b, double start = 0, double step = 1) {
  const ValueId n =
      b.op("Squeeze", {b.op("Gather", {b.op("Shape", {b.input("x", {Dim::symbol("s")})}), b.full(0, {1}, DType::kInt64)})});
  return b.op("Range", {b.full(start, {}, DType::kInt64), n, b.full(step, {}, DType::kInt64)});
}

TEST(FoldComparisons, PositionsAreNeverNegative) {
  Builder b;
  const ValueId always = b.op("GreaterOrEqual", {b.op("Unsqueeze", {positions(b), b.ints({0})}), b.full(0, {}, DType::kInt64)});
  b.output(b.op("Not", {b.op("And", {always, b.input("m", {1, Dim::symbol("s")}, DType::kBool)})}));
  EXPECT_EQ(fired(simplified(b, only({"fold-comparisons"})), "fold-comparisons"), 1);
  EXPECT_EQ(count(b.graph, "And"), 0);
}

TEST(FoldComparisons, OtherConditionsStay) {
  const struct {
    const char* name;
    ValueId (*make)(Builder& b);
  } cases[] = {
      {"above 0",
       [](Builder& b) {
         return b.op("GreaterOrEqual", {positions(b), b.full(1, {}, DType::kInt64)});
       }},
      {"from -1",
       [](Builder& b) {
         return b.op("GreaterOrEqual", {positions(b, -1), b.full(0, {}, DType::kInt64)});
       }},
      {"an input",
       [](Builder& b) {
         return b.op("GreaterOrEqual", {b.input("y", {Dim::symbol("s")}, DType::kInt64), b.full(0, {}, DType::kInt64)});
       }},
      {"strictly",
       [](Builder& b) {
         return b.op("Greater", {positions(b), b.full(0, {}, DType::kInt64)});
       }},
  };
  for (const auto& c : cases) {
    Builder b;
    const ValueId condition = c.make(b);
    b.output(b.op("Not", {b.op("And", {condition, b.op("Not", {condition})})}));
    EXPECT_EQ(fired(simplified(b, only({"fold-comparisons"})), "fold-comparisons"), 0) << c.name;
  }
}

TEST(FoldComparisons, TheOtherSideMustHaveTheWholeShape) {
  Builder b;
  const ValueId always = b.op("GreaterOrEqual", {positions(b), b.full(0, {}, DType::kInt64)});
  b.output(b.op("Not", {b.op("And", {always, b.input("m", {1}, DType::kBool)})}));
  EXPECT_EQ(fired(simplified(b, only({"fold-comparisons"})), "fold-comparisons"), 0);
}

TEST(FoldComparisons, DoubledOperandsCostLinearTime) {
  Builder b;
  ValueId v = b.input("m", {2}, DType::kBool);
  const ValueId other = b.input("k", {2}, DType::kBool);
  for (int i = 0; i < 16; ++i) v = b.op("Or", {v, v});
  for (int i = 0; i < 3000; ++i) b.output(b.op("And", {v, other}));
  const auto report = simplify(b.graph, only({"fold-comparisons"}));
  ASSERT_TRUE(report.ok());
  EXPECT_LT(entry(*report, "fold-comparisons").milliseconds, 1000);
}

// ---- merge-transposes

TEST(MergeTransposes, TwoAreOneOrNone) {
  Builder b;
  const ValueId x = b.input("x", {Dim::symbol("b"), 3, 4});
  const auto transpose = [&](ValueId v, std::vector<int64_t> perm) {
    return b.op("Transpose", {v}, {{"perm", std::move(perm)}});
  };
  b.output(b.op("Relu", {transpose(transpose(x, {1, 2, 0}), {0, 2, 1})}));
  b.output(b.op("Neg", {transpose(transpose(x, {1, 2, 0}), {2, 0, 1})}));
  b.output(b.op("Abs", {b.op("Transpose", {b.op("Transpose", {x})})}));  // both reversed
  EXPECT_EQ(fired(simplified(b, only({"merge-transposes"})), "merge-transposes"), 3);
  EXPECT_EQ(count(b.graph, "Transpose"), 1);
}

TEST(MergeTransposes, AChainCollapsesAndOtherReadersKeepTheirs) {
  Builder b;
  const ValueId x = b.input("x", {2, 3, 4});
  const auto cycle = [&](ValueId v) { return b.op("Transpose", {v}, {{"perm", std::vector<int64_t>{1, 2, 0}}}); };
  const ValueId one = cycle(x);
  b.output(cycle(cycle(one)));
  b.output(b.op("Relu", {one}));
  simplified(b, only({"merge-transposes"}));
  EXPECT_EQ(count(b.graph, "Transpose"), 1);
  EXPECT_EQ(b.graph.outputs()[0], x);
}

}  // namespace
}  // namespace ocior::passes
