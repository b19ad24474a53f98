// Tests of the graph: order, cycles, Patch, the verifier and what errors of inference say. The operators are made up here, for
// the layer knows none.
#include <gtest/gtest.h>

#include <algorithm>

#include "graph/graph.h"
#include "graph/patch.h"

namespace ocior::graph {
namespace {

// Gives its first input's type, or fails to infer.
class FakeOp final : public Op {
 public:
  explicit FakeOp(bool fails) : fails_(fails) {}
  std::string_view name() const override { return "Fake"; }
  std::string_view domain() const override { return "test"; }
  int opset() const override { return 1; }
  const Attributes& attributes() const override { return attributes_; }
  Status infer(ShapeContext& c) const override {
    if (fails_) return Status(Code::kInvalidGraph, "its input does not suit it");
    for (int i = 0; i < c.outputs(); ++i) c.set(i, c.has(0) ? c.in(0) : Type::tensor(DType::kFloat, Dims{1}));
    return {};
  }
  Status reference(RefContext&) const override { return Status(Code::kNotImplemented, "none"); }
  bool pure() const override { return true; }
  std::span<const std::shared_ptr<Graph>> subgraphs() const override { return {}; }

 private:
  bool fails_;
  Attributes attributes_;
};

std::shared_ptr<const Op> fake(bool fails = false) { return std::make_shared<FakeOp>(fails); }

struct Fixture {
  Graph g;
  ValueId value(const std::string& name) { return g.add_value(name, {}); }
  ValueId input(const std::string& name, Dims dims = {Dim::symbol("b"), 3}) {
    const ValueId v = g.add_value(name, Type::tensor(DType::kFloat, std::move(dims)));
    g.add_input(v);
    return v;
  }
  NodeId node(const std::string& name, std::vector<ValueId> in, std::vector<ValueId> out, bool fails = false) {
    return g.add_node(name, fake(fails), std::move(in), std::move(out));
  }
};

// ---- Order

TEST(Order, ProducersComeBeforeReaders) {
  Fixture f;
  const ValueId x = f.input("x"), a = f.value("a"), b = f.value("b"), c = f.value("c");
  const NodeId last = f.node("last", {b, a}, {c}), second = f.node("second", {a}, {b}), first = f.node("first", {x}, {a});
  EXPECT_EQ(*f.g.order(), (std::vector<NodeId>{first, second, last}));
}

TEST(Order, IsStableAndLeavesDeadNodesOut) {
  Fixture f;
  const ValueId x = f.input("x");
  std::vector<NodeId> nodes;
  for (int i = 0; i < 5; ++i) {
    const ValueId y = f.value("y" + std::to_string(i));
    nodes.push_back(f.node("n" + std::to_string(i), {x, kNone}, {y}));
    if (i != 2) f.g.add_output(y, "o" + std::to_string(i));
  }
  EXPECT_EQ(*f.g.order(), nodes);
  Patch(f.g).sweep();
  EXPECT_EQ(*f.g.order(), (std::vector<NodeId>{nodes[0], nodes[1], nodes[3], nodes[4]}));
}

TEST(Order, CyclesAreErrorsThatNameANode) {
  Fixture f;
  const ValueId a = f.value("a"), b = f.value("b");
  f.node("one", {b}, {a});
  f.node("two", {a}, {b});
  const auto order = f.g.order();
  ASSERT_FALSE(order.ok());
  EXPECT_EQ(order.status().code(), Code::kInvalidGraph);
  EXPECT_NE(order.status().message().find("cycle through node 'one' (Fake)"), std::string::npos) << order.status().message();
  EXPECT_FALSE(verify(f.g).ok());
  EXPECT_FALSE(infer(f.g).ok());
  EXPECT_NE(print(f.g).find("cycle"), std::string::npos);
}

TEST(Order, ANodeThatReadsItself) {
  Fixture f;
  const ValueId a = f.value("a");
  f.node("self", {a}, {a});
  EXPECT_FALSE(f.g.order().ok());
}

TEST(Order, LongChainsNeedNoStack) {
  Fixture f;
  ValueId v = f.input("x");
  std::vector<ValueId> values{v};
  for (int i = 0; i < 200000; ++i) values.push_back(f.value("v"));
  for (int i = 200000; i-- > 0;) f.node("n", {values[static_cast<size_t>(i)]}, {values[static_cast<size_t>(i) + 1]});
  ASSERT_TRUE(f.g.order().ok());
  EXPECT_EQ(f.g.order()->front(), 199999);
}

// ---- Patch

TEST(Patch, AddTypesItsOutputs) {
  Fixture f;
  const ValueId x = f.input("x");
  Patch patch(f.g);
  const auto y = patch.add(fake(), {x}, 2, "fresh");
  ASSERT_TRUE(y.ok());
  EXPECT_EQ(f.g.value((*y)[1]).type.text(), "float[b, 3]");
  EXPECT_EQ(f.g.value((*y)[1]).name, "fresh/1");
  EXPECT_TRUE(verify(f.g).ok());
}

TEST(Patch, AddThatDoesNotInferLeavesNoTrace) {
  Fixture f;
  const ValueId x = f.input("x");
  const auto y = Patch(f.g).add(fake(true), {x, kNone, x});
  ASSERT_FALSE(y.ok());
  EXPECT_NE(y.status().message().find("its input does not suit it"), std::string::npos);
  EXPECT_TRUE(f.g.value(x).uses.empty());
  EXPECT_TRUE(f.g.order()->empty());
  EXPECT_TRUE(verify(f.g).ok());
}

TEST(Patch, ReplaceRedirectsReadersAndOutputs) {
  Fixture f;
  const ValueId x = f.input("x"), a = f.value("a"), b = f.value("b");
  f.node("old", {x}, {a});
  const NodeId reader = f.node("reader", {a, x, a}, {b});
  f.g.add_output(a, "out");
  f.g.add_output(b, "other");
  Patch patch(f.g);
  patch.replace(a, x);
  EXPECT_EQ(f.g.node(reader).inputs, (std::vector<ValueId>{x, x, x}));
  EXPECT_EQ(f.g.outputs()[0], x);
  EXPECT_EQ(f.g.output_names()[0], "out");
  EXPECT_TRUE(f.g.value(a).uses.empty());
  EXPECT_TRUE(verify(f.g).ok());
  EXPECT_EQ(patch.sweep(), 1);
  EXPECT_EQ(f.g.value(x).uses.size(), 4u);
  patch.replace(x, x);
  EXPECT_EQ(f.g.value(x).uses.size(), 4u);
}

TEST(Patch, ReplaceKeepsAKnownShape) {
  Fixture f;
  const ValueId x = f.input("x"), unknown = f.g.add_value("u", Type::tensor(DType::kFloat));
  Patch(f.g).replace(x, unknown);
  EXPECT_EQ(f.g.value(unknown).type.text(), "float[b, 3]");
}

TEST(Patch, SweepIsTransitiveAndKeepsWhatIsRead) {
  Fixture f;
  const ValueId x = f.input("x"), a = f.value("a"), b = f.value("b"), c = f.value("c"), d = f.value("d");
  f.node("a", {x}, {a});
  f.node("b", {a, a}, {b});
  f.node("c", {b, kNone}, {c});
  f.node("d", {a}, {d});
  f.g.add_output(d, "out");
  EXPECT_EQ(Patch(f.g).sweep(), 2);
  EXPECT_EQ(f.g.value(a).uses.size(), 1u);
  EXPECT_EQ(f.g.order()->size(), 2u);
  EXPECT_TRUE(verify(f.g).ok());
  EXPECT_EQ(Patch(f.g).sweep(), 0);
}

TEST(Patch, SweepOfManyReadersOfOneValueIsLinear) {
  Fixture f;
  const ValueId x = f.input("x");
  for (int i = 0; i < 300000; ++i) f.node("n", {x}, {f.value("y")});  // quadratic time would be minutes
  EXPECT_EQ(Patch(f.g).sweep(), 300000);
  EXPECT_TRUE(f.g.value(x).uses.empty());
}

TEST(Patch, SetInputMovesTheUse) {
  Fixture f;
  const ValueId x = f.input("x"), z = f.input("z"), y = f.value("y");
  const NodeId n = f.node("n", {x, x}, {y});
  Patch patch(f.g);
  patch.set_input(n, 1, z);
  EXPECT_EQ(f.g.node(n).inputs, (std::vector<ValueId>{x, z}));
  EXPECT_EQ(f.g.value(z).uses, (std::vector<Use>{{n, 1}}));
  EXPECT_EQ(f.g.value(x).uses, (std::vector<Use>{{n, 0}}));
  patch.set_input(n, 1, kNone);
  EXPECT_TRUE(f.g.value(z).uses.empty());
  EXPECT_TRUE(verify(f.g).ok());
}

// ---- Verify

TEST(Verify, CatchesABrokenUseList) {
  Fixture f;
  const ValueId x = f.input("x"), y = f.value("y");
  f.node("reader", {x}, {y});
  EXPECT_TRUE(verify(f.g).ok());
  f.g.mutable_value(x).uses.clear();
  const Status status = verify(f.g);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.message(), "node 'reader' (Fake) reads 'x', which does not list it as a use");
}

TEST(Verify, CatchesAWrongProducer) {
  Fixture f;
  const ValueId x = f.input("x"), y = f.value("y");
  f.node("maker", {x}, {y});
  f.g.mutable_value(y).producer_index = 1;
  EXPECT_EQ(verify(f.g).message(), "'y' does not know node 'maker' (Fake) as its producer");
  f.g.mutable_value(y).producer_index = 0;
  f.g.mutable_value(y).producer = kNone;
  EXPECT_FALSE(verify(f.g).ok());
}

TEST(Verify, CatchesReadersOfRemovedNodes) {
  Fixture f;
  const ValueId x = f.input("x"), y = f.value("y"), z = f.value("z");
  f.node("gone", {x}, {y});
  Patch(f.g).sweep();
  const NodeId reader = f.node("reader", {y}, {z});
  const Status status = verify(f.g);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("node 'reader' (Fake) reads 'y' of a removed node"), std::string::npos);
  EXPECT_EQ(reader, 1);
}

// ---- Infer

TEST(Infer, ErrorsNameTheNode) {
  Fixture f;
  f.node("layer.3/attention", {f.input("x")}, {f.value("y")}, true);
  const Status status = infer(f.g);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.message(), "node 'layer.3/attention' (Fake): its input does not suit it");
}

TEST(Infer, InputsWithoutATypeAreErrors) {
  Fixture f;
  f.node("n", {f.value("from nowhere")}, {f.value("y")});
  const Status status = infer(f.g);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.message(), "node 'n' (Fake): the type of its input 'from nowhere' is unknown");
}

TEST(Infer, DeclaredTypesFillWhatIsUnknownAndMustAgree) {
  Fixture f;
  const ValueId x = f.g.add_value("x", Type::tensor(DType::kFloat));
  f.g.add_input(x);
  const ValueId y = f.g.add_value("y", Type::tensor(DType::kFloat, Dims{7}));
  f.node("n", {x}, {y});
  ASSERT_TRUE(infer(f.g).ok());
  EXPECT_EQ(f.g.value(y).type.text(), "float[7]");

  Fixture wrong;
  const ValueId z = wrong.g.add_value("z", Type::tensor(DType::kInt64));
  wrong.node("n", {wrong.input("x")}, {z});
  EXPECT_EQ(infer(wrong.g).message(), "node 'n' (Fake) gives float for 'z', but the model declares int64");
}

// ---- Text

TEST(Print, ShowsTypesConstantsAndOutputs) {
  Fixture f;
  f.g.name = "small";
  const ValueId x = f.input("x"), y = f.value("y");
  f.node("the node", {x, f.g.add_constant("two", std::make_shared<const Tensor>(Tensor::of<float>({1}, {2}))), kNone}, {y});
  f.g.add_output(y, "result");
  ASSERT_TRUE(infer(f.g).ok());
  EXPECT_EQ(print(f.g),
            "graph small(\n  %x: float[b, 3]\n) {\n  %y = test:Fake(%x, float[1]{2}, _)  // float[b, 3]  the node\n  return "
            "result=%y\n}\n");
}

TEST(AttributesText, TellsValuesApart) {
  EXPECT_EQ(to_string(Attributes{{"axis", int64_t{1}}, {"epsilon", 1e-5f}, {"mode", std::string("edge")}}),
            "axis=1, epsilon=1e-05f, mode=\"edge\"");
  EXPECT_EQ(to_string(Attributes{{"p", std::vector<int64_t>{0, 2}}}), "p=[0, 2]");
  Tensor a = std::move(Tensor::allocate(DType::kFloat, {100})).value();
  std::fill_n(a.as<float>(), 100, 1.0f);
  Tensor b = std::move(a.clone()).value();
  EXPECT_EQ(to_string(Attributes{{"value", a}}), to_string(Attributes{{"value", b}}));
  b.as<float>()[99] = 2;
  EXPECT_NE(to_string(Attributes{{"value", a}}), to_string(Attributes{{"value", b}}));
}

TEST(TypeText, CoversContainers) {
  Type sequence{Value::Kind::kSequence, DType::kUndefined, std::nullopt,
                std::make_shared<const Type>(Type::tensor(DType::kInt64))};
  EXPECT_EQ(sequence.text(), "seq(int64[?])");
  EXPECT_EQ(Type::tensor(DType::kFloat, Dims{}).text(), "float[]");
}

}  // namespace
}  // namespace ocior::graph
