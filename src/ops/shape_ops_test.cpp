// What inference knows of shapes and of shape arithmetic, and the errors of wrong nodes and wrong values. Right results are the
// business of conformance_test.cpp and tests/ops.
#include <gtest/gtest.h>

#include "ops/evaluate.h"
#include "ops/harness.h"

namespace ocior::ops {
namespace {

Dim s(const char* name) { return Dim::symbol(name); }

// One input of a question to infer().
struct In {
  Type type;
  std::optional<Tensor> constant = std::nullopt;
  std::optional<Dims> data = std::nullopt;
};
In floats(Dims shape) { return {Type::tensor(DType::kFloat, std::move(shape))}; }
In bools(Dims shape) { return {Type::tensor(DType::kBool, std::move(shape))}; }
In ints(std::vector<int64_t> values) {
  Tensor t = Tensor::allocate(DType::kInt64, {static_cast<int64_t>(values.size())}).value();
  std::copy(values.begin(), values.end(), t.as<int64_t>());
  return {Type::tensor(DType::kInt64, Dims{static_cast<int64_t>(values.size())}), t};
}
In dims(Dims values) { return {Type::tensor(DType::kInt64, Dims{static_cast<int64_t>(values.size())}), std::nullopt, values}; }
In scalar(Dim value) { return {Type::tensor(DType::kInt64, Dims{}), std::nullopt, Dims{std::move(value)}}; }
In unknown(int64_t length) { return {Type::tensor(DType::kInt64, Dims{length})}; }

Result<std::vector<InferredOutput>> ask(std::string_view op, const std::vector<In>& inputs, const Attributes& attributes = {},
                                        int outputs = 1, int opset = kNewestOpset) {
  OCIOR_ASSIGN(const auto made, make_operator("", op, opset, attributes, static_cast<int>(inputs.size()), outputs));
  std::vector<OpInput> given;
  for (const In& i : inputs) given.push_back({&i.type, i.constant ? &*i.constant : nullptr, i.data ? &*i.data : nullptr});
  return infer_op(*made, given, outputs);
}

// "float[batch, 768]", or the error.
std::string shape_of(std::string_view op, const std::vector<In>& inputs, const Attributes& attributes = {},
                     int opset = kNewestOpset) {
  const auto out = ask(op, inputs, attributes, 1, opset);
  if (!out.ok()) return out.status().message();
  const auto& shape = (*out)[0].type.shape;
  return shape ? to_string(*shape) : "unranked";
}
std::string data_of(std::string_view op, const std::vector<In>& inputs, const Attributes& attributes = {}) {
  const auto out = ask(op, inputs, attributes);
  if (!out.ok()) return out.status().message();
  return (*out)[0].data ? to_string(*(*out)[0].data) : "nothing";
}

TEST(Infer, ReshapeSolvesForTheMissingDimension) {
  const Dim b = s("batch"), n = s("seq");
  EXPECT_EQ(shape_of("Reshape", {floats({b, n, 768}), ints({0, -1, 12, 64})}), "[batch, seq, 12, 64]");
  EXPECT_EQ(shape_of("Reshape", {floats({b, n, 768}), dims({b, n, 12, 64})}), "[batch, seq, 12, 64]");
  EXPECT_EQ(shape_of("Reshape", {floats({b, n, 12, 64}), dims({b, -1, 768})}), "[batch, seq, 768]");
  EXPECT_EQ(shape_of("Reshape", {floats({b, n, 768}), ints({-1, 768})}), "[batch*seq, 768]");
  EXPECT_EQ(shape_of("Reshape", {floats({b, n + n, 768}), dims({b, n + n, -1, 64})}), "[batch, 2*seq, 12, 64]");
  EXPECT_EQ(shape_of("Reshape", {floats({b + n, 6}), dims({b + n, -1})}), to_string(Dims{b + n, 6}));
  EXPECT_EQ(shape_of("Reshape", {floats({b, 6}), unknown(3)}).size(), std::string("[?reshape0, ?reshape1, ?reshape2]").size());
  EXPECT_EQ(shape_of("Reshape", {floats({2, 6}), ints({5, -1})}),
            "Reshape: an input of shape [2, 6] (12 elements) cannot become [5, -1]");
  EXPECT_EQ(shape_of("Reshape", {floats({2, 0}), ints({0, -1})}), "[2, 0]");
  EXPECT_EQ(shape_of("Reshape", {floats({2, 0}), ints({-1, 0})}),
            "Reshape: an input of shape [2, 0] (0 elements) cannot become [-1, 0]");
}

TEST(Infer, ShapeArithmeticOfExporters) {
  const Dim b = s("batch"), n = s("seq");
  EXPECT_EQ(data_of("Shape", {floats({b, n, 768})}), "[batch, seq, 768]");
  EXPECT_EQ(data_of("Shape", {floats({b, n, 768})}, {{"start", int64_t{-2}}}), "[seq, 768]");
  EXPECT_EQ(data_of("Size", {floats({b, 3})}), "[3*batch]");
  EXPECT_EQ(data_of("Gather", {dims({b, n, 768}), ints({1})}), "[seq]");
  EXPECT_EQ(data_of("Gather", {dims({b, n}), ints({-1, 0})}), "[seq, batch]");
  EXPECT_EQ(data_of("Concat", {dims({b}), ints({-1}), dims({n})}, {{"axis", int64_t{0}}}), "[batch, -1, seq]");
  EXPECT_EQ(data_of("Slice", {dims({b, n, 768}), ints({1}), ints({INT64_MAX})}), "[seq, 768]");
  EXPECT_EQ(data_of("Slice", {dims({b, n, 768}), ints({-1}), ints({-9}), ints({0}), ints({-1})}), "[768, seq, batch]");
  EXPECT_EQ(data_of("Unsqueeze", {scalar(n), ints({0})}), "[seq]");
  EXPECT_EQ(data_of("Squeeze", {dims({n}), ints({0})}), "[seq]");
  EXPECT_EQ(data_of("Add", {dims({b, n}), scalar(1)}), "[batch + 1, seq + 1]");
  EXPECT_EQ(data_of("Sub", {scalar(n), scalar(n)}), "[0]");
  EXPECT_EQ(data_of("Mul", {dims({b}), dims({n})}), "[batch*seq]");
  EXPECT_EQ(data_of("Div", {scalar(Dim(12) * n), ints({12})}), "[seq]");
  EXPECT_EQ(data_of("Div", {scalar(n), scalar(0)}), "nothing");
  EXPECT_EQ(data_of("Mod", {scalar(7), scalar(-3)}), "[-2]");
  EXPECT_EQ(data_of("Neg", {scalar(n)}), "[-seq]");
  EXPECT_EQ(data_of("Max", {scalar(3), scalar(9)}), "[9]");
  EXPECT_EQ(data_of("Equal", {dims({b, -1, 3}), dims({b, -1, 4})}), "[1, 1, 0]");
  EXPECT_EQ(data_of("Equal", {dims({b}), ints({-1})}), "[0]");
  EXPECT_EQ(data_of("Equal", {dims({b}), ints({1})}), "nothing");
  EXPECT_EQ(data_of("Cast", {dims({b, 2})}, {{"to", int64_t{6}}}), "[batch, 2]");
  EXPECT_EQ(data_of("Cast", {dims({b, 2})}, {{"to", int64_t{1}}}), "nothing");
  EXPECT_EQ(data_of("Identity", {dims({b})}), "[batch]");
  EXPECT_EQ(data_of("Expand", {scalar(n), ints({3})}), "[seq, seq, seq]");
  EXPECT_EQ(data_of("ConstantOfShape", {ints({2})}, {{"value", Tensor::of<int64_t>({1}, {-1})}}), "[-1, -1]");
  EXPECT_EQ(data_of("Range", {scalar(2), scalar(8), scalar(3)}), "[2, 5]");
  EXPECT_EQ(data_of("ReduceProd", {dims({b, n, 2})}, {{"keepdims", int64_t{0}}}), "[2*batch*seq]");
  const In condition{Type::tensor(DType::kBool, Dims{2}), std::nullopt, Dims{1, 0}};
  EXPECT_EQ(data_of("Where", {condition, dims({b, b}), dims({n, n})}), "[batch, seq]");
}

TEST(Infer, SymbolicShapes) {
  const Dim b = s("batch"), n = s("seq");
  EXPECT_EQ(shape_of("Slice", {floats({b, n, 8}), ints({0}), ints({INT64_MAX}), ints({1})}), "[batch, seq, 8]");
  EXPECT_EQ(shape_of("Slice", {floats({b, n, 8}), ints({-1}), ints({INT64_MAX}), ints({1})}), "[batch, 1, 8]");
  EXPECT_EQ(shape_of("Slice", {floats({b, n, 8}), ints({1}), ints({INT64_MAX}), ints({1})}), "[batch, seq - 1, 8]");
  EXPECT_EQ(shape_of("Slice", {floats({b, n, 8}), dims({0}), dims({n}), ints({1})}), "[batch, seq, 8]");
  EXPECT_EQ(shape_of("Expand", {floats({1, 1, 1, n}), dims({b, 1, n, n})}), "[batch, 1, seq, seq]");
  EXPECT_EQ(shape_of("Range", {scalar(0), scalar(n), scalar(1)}), "[seq]");
  EXPECT_EQ(shape_of("Range", {scalar(n), scalar(n + Dim(4)), scalar(2)}), "[2]");
  EXPECT_EQ(shape_of("Concat", {floats({b, n, 8}), floats({b, 5, 8})}, {{"axis", int64_t{1}}}), "[batch, seq + 5, 8]");
  EXPECT_EQ(shape_of("Transpose", {floats({b, n, 12, 64})}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}}),
            "[batch, 12, 64, seq]");
  EXPECT_EQ(shape_of("Flatten", {floats({b, n, 4})}, {{"axis", int64_t{2}}}), "[batch*seq, 4]");
  EXPECT_EQ(shape_of("Gather", {floats({30522, 384}), {Type::tensor(DType::kInt64, Dims{b, n})}}), "[batch, seq, 384]");
  EXPECT_EQ(shape_of("Tile", {floats({b, 3}), dims({2, n})}), "[2*batch, 3*seq]");
  EXPECT_EQ(shape_of("Pad", {floats({b, n}), ints({0, 1, 0, 2})}), "[batch, seq + 3]");
  EXPECT_EQ(shape_of("ReduceMean", {floats({b, n, 4}), ints({-1})}), "[batch, seq, 1]");
  EXPECT_EQ(shape_of("ReduceSum", {floats({b, n, 4}), ints({1})}, {{"keepdims", int64_t{0}}}), "[batch, 4]");
  EXPECT_EQ(shape_of("Unsqueeze", {floats({b, n}), ints({1, -1})}), "[batch, 1, seq, 1]");
  EXPECT_EQ(shape_of("ConstantOfShape", {dims({b, n})}), "[batch, seq]");
  EXPECT_EQ(shape_of("OneHot", {{Type::tensor(DType::kInt64, Dims{b})}, scalar(n), floats({2})}), "[batch, seq]");
  EXPECT_EQ(shape_of("NonZero", {floats({b, n})}), "[2, ?nonzero0]");
  EXPECT_EQ(shape_of("Add", {floats({b, n, 4}), floats({4})}), "[batch, seq, 4]");
  EXPECT_EQ(shape_of("Add", {floats({b, 1}), floats({1, n})}), "[batch, seq]");
  EXPECT_EQ(shape_of("And", {bools({b, n}), bools({1, n})}, {}, 1), "[1, seq]");  // without broadcasting both must be equal
  const Attributes broadcast{{"broadcast", int64_t{1}}};                          // the shape is input 0's
  EXPECT_EQ(shape_of("Add", {floats({b, n}), floats({n})}, broadcast, 6), "[batch, seq]");
  EXPECT_EQ(shape_of("Add", {floats({b, n}), floats({s("other")})}, broadcast, 6), "[batch, seq]");
  EXPECT_EQ(shape_of("Mul", {floats({b, n}), floats({4})}, broadcast, 6), "[batch, 4]");
  EXPECT_EQ(shape_of("And", {bools({1}), bools({n})}, {{"broadcast", int64_t{1}}, {"axis", int64_t{0}}}, 6), "[1]");
  EXPECT_EQ(shape_of("And", {bools({b}), bools({n})}, {}, 1), "[?equal0]");
}

TEST(Infer, SplitCarriesDataAndSizes) {
  const auto out = ask("Split", {dims({s("a"), 2, 3}), ints({1, 2})}, {}, 2);
  ASSERT_TRUE(out.ok()) << out.status().message();
  EXPECT_EQ(to_string(*(*out)[0].data), "[a]");
  EXPECT_EQ(to_string(*(*out)[1].data), "[2, 3]");
  const auto even = ask("Split", {floats({s("n"), 768})}, {{"axis", int64_t{1}}}, 3);
  ASSERT_TRUE(even.ok());
  EXPECT_EQ(to_string(*(*even)[2].type.shape), "[n, 256]");
}

// Wrong nodes: the message says which input or attribute, what was expected and what came.
TEST(Errors, OfWrongNodes) {
  const auto says = [](const std::string& message, std::string_view part) { return message.find(part) != std::string::npos; };
  const std::pair<std::string, std::string_view> cases[] = {
      {shape_of("Add", {floats({2, 3}), floats({4})}), "do not broadcast"},
      {shape_of("Add", {floats({2}), ints({1, 2})}), "must have one element type"},
      {shape_of("And", {floats({2}), floats({2})}), "expected one of bool"},
      {shape_of("Gather", {floats({2}), ints({0})}, {{"axis", int64_t{1}}}), "out of range"},
      {shape_of("Gather", {floats({2}), floats({1})}), "input 1 is of type float"},
      {shape_of("Concat", {floats({2, 3}), floats({3, 4})}, {{"axis", int64_t{1}}}), "expected 2 at dimension 0"},
      {shape_of("Concat", {floats({2, 3}), floats({3})}, {{"axis", int64_t{0}}}), "rank 2"},
      {shape_of("Concat", {floats({2})}), "attribute 'axis' is required"},
      {shape_of("Transpose", {floats({2, 3})}, {{"perm", std::vector<int64_t>{0, 0}}}), "does not name axis 1"},
      {shape_of("Transpose", {floats({2, 3})}, {{"perm", std::vector<int64_t>{0}}}), "for rank 1"},
      {shape_of("Squeeze", {floats({2, 3}), ints({0})}), "dimension 0 is 2; expected 1"},
      {shape_of("Unsqueeze", {floats({2}), ints({0, 0})}), "twice"},
      {shape_of("Slice", {floats({4}), ints({0}), ints({4}), ints({0}), ints({0})}), "step of axis 0 is 0"},
      {shape_of("Slice", {floats({4}), ints({0, 1}), ints({4})}), "expected as many each"},
      {shape_of("Expand", {floats({3}), ints({4})}), "do not broadcast"},
      {shape_of("Expand", {floats({3}), ints({-1})}), "negative"},
      {shape_of("ConstantOfShape", {ints({-3})}), "negative"},
      {shape_of("Range", {ints({0}), ints({5}), ints({0})}), "delta is 0"},
      {shape_of("Range", {ints({0}), ints({INT64_MAX}), ints({1})}), "2^40"},
      {shape_of("Split", {floats({5}), ints({2, 2})}), "2 sizes for 1 outputs"},
      {shape_of("Tile", {floats({5, 5}), ints({INT64_MAX, 1})}), "63 bits"},
      {shape_of("Pad", {floats({5}), ints({-3, -3})}), "would become -1"},
      {shape_of("Pad", {floats({5}), ints({1})}), "expected two for each"},
      {shape_of("Pad", {floats({5}), ints({1, 1})}, {{"mode", std::string("mirror")}}), "mode is 'mirror'"},
      {shape_of("Cast", {floats({5})}, {{"to", int64_t{99}}}), "names no element type"},
      {shape_of("Cast", {floats({5})}), "attribute 'to' is required"},
      {shape_of("Constant", {}), "exactly one"},
      {shape_of("OneHot", {ints({1}), ints({-1}), floats({2})}), "depth is -1"},
      {shape_of("Trilu", {floats({5})}), "rank 1"},
      {shape_of("GatherND", {floats({5}), ints({0, 0})}), "tuples of 2"},
      {shape_of("ReduceSum", {floats({5}), ints({3})}), "out of range"},
      {shape_of("ArgMax", {floats({0})}), "no elements"},
      {shape_of("Clip", {floats({5}), floats({2})}), "must be a scalar"},
      {shape_of("Reshape", {floats({5}), ints({-1, -1})}), "more than one -1"},
      {shape_of("Reshape", {floats({5}), ints({-2})}), "is -2"},
      {shape_of("Reshape", {floats({5}), ints({1, 0})}), "copies one"},
      {shape_of("Slice", {floats({5})}), "at least 3 inputs"},
      {shape_of("Slice", {floats({}), scalar(s("a")), scalar(s("b"))}), "bounds of 1 axes for an input of shape []"},
      {shape_of("Slice", {floats({4, 4}), unknown(1), unknown(2)}), "expected as many each"},
      {shape_of("And", {bools({17}), bools({1})}, {}, 1), "'broadcast' is not set"},
      {shape_of("Or", {bools({s("n"), 2}), bools({})}, {}, 6), "'broadcast' is not set"},
      {shape_of("Add", {floats({1, 3}), floats({2, 3})}, {{"broadcast", int64_t{1}}}, 6), "only input 1 is broadcast"},
      {shape_of("Less", {floats({3}), floats({s("n"), 3})}, {{"broadcast", int64_t{1}}}, 1), "only input 1 is broadcast"},
      {shape_of("LinearAttention", {floats({1}), floats({1}), floats({1})}, {}, 26), "exists since opset 27"},
      {shape_of("CausalConvWithState", {floats({1}), floats({1})}, {}, 26), "exists since opset 27"},
      {shape_of("SwiGLU", {floats({1}), floats({1})}, {}, 27), "exists since opset 28"},
      {shape_of("Range", {scalar(0), scalar(3), scalar(1)}, {{"stash_type", int64_t{1}}}, 26), "unknown attribute 'stash_type'"},
      {shape_of("SpaceToDepth", {floats({1, 1, 2, 2})}, {{"blocksize", int64_t{2}}, {"mode", std::string("CRD")}}, 27),
       "unknown attribute 'mode'"},
      {shape_of("Relu", {floats({5})}, {{"alpha", 1.0f}}), "unknown attribute 'alpha'"},
  };
  for (size_t i = 0; i < std::size(cases); ++i)
    EXPECT_TRUE(says(cases[i].first, cases[i].second)) << "case " << i << ": " << cases[i].first;
}

// Wrong values that only a run can see. Reference and run() refuse them alike.
std::string failure(std::string_view op, const std::vector<Tensor>& inputs, const Attributes& attributes = {}) {
  const auto made = make_operator("", op, kNewestOpset, attributes, static_cast<int>(inputs.size()), 1);
  if (!made.ok()) return "not made: " + made.status().message();
  const auto reference = run_reference(**made, pointers(inputs), 1);
  const auto run = run_cpu(**made, pointers(inputs), 1, {.hide_values = true});
  if (reference.ok() || run.ok()) return reference.ok() ? "the reference succeeded" : "run() succeeded";
  return run.status().message();
}

TEST(Errors, OfWrongValues) {
  const Tensor four = Tensor::of<float>({4}, {1, 2, 3, 4});
  const auto ints = [](std::initializer_list<int64_t> v) { return Tensor::of<int64_t>({static_cast<int64_t>(v.size())}, v); };
  const std::pair<std::string, std::string_view> cases[] = {
      {failure("Gather", {four, ints({0, 4})}),
       "Gather: index 4 (element 1 of the indices) is out of range for a dimension of 4"},
      {failure("Gather", {four, ints({-5})}), "index -5"},
      {failure("GatherElements", {four, ints({9})}), "index 9"},
      {failure("GatherND", {four, Tensor::of<int64_t>({1, 1}, {-9})}), "index -9"},
      {failure("ScatterND", {four, Tensor::of<int64_t>({1, 1}, {4}), Tensor::of<float>({1}, {0})}), "index 4"},
      {failure("ScatterND", {four, Tensor::of<int64_t>({1, 1}, {0}), Tensor::of<float>({2}, {0, 0})}), "do not fit"},
      {failure("Div", {ints({1, 2}), ints({1, 0})}), "Div: division by zero: element 1 of input 1 is 0"},
      {failure("Mod", {ints({1}), ints({0})}), "Mod: division by zero"},
      {failure("Reshape", {four, ints({3})}), "cannot become [3]"},
      {failure("Reshape", {four, ints({INT64_MAX, 4})}), "too large"},
      {failure("Expand", {four, ints({3})}), "broadcast"},
      {failure("Expand", {four, ints({int64_t{1} << 40, int64_t{1} << 40, 4})}), "63 bits"},
      {failure("Tile", {four, ints({INT64_MAX})}), "no dimension"},
      {failure("ConstantOfShape", {ints({int64_t{1} << 40, int64_t{1} << 40})}), "63 bits"},
      {failure("ConstantOfShape", {ints({-1})}), "negative"},
      {failure("Range", {ints({0}), ints({INT64_MAX}), ints({1})}), "2^40"},
      {failure("Range", {ints({0}), ints({5}), ints({0})}), "delta is 0"},
      {failure("Slice", {four, ints({0}), ints({4}), ints({0}), ints({0})}), "step"},
      {failure("Slice", {four, ints({0}), ints({4}), ints({7})}), "out of range"},
      {failure("Squeeze", {four, ints({0})}), "expected 1"},
      {failure("Unsqueeze", {four, ints({5})}), "out of range"},
      {failure("Split", {four, ints({5})}), "Split"},
      {failure("Pad", {four, ints({INT64_MAX, INT64_MAX})}), "Pad"},
      {failure("CumSum", {four, ints({1})}), "out of range"},
      {failure("ReduceSum", {four, ints({-2})}), "out of range"},
      {failure("OneHot", {ints({1}), ints({-4}), four}), "OneHot"},
      {failure("Trilu", {four}), "rank"},
  };
  for (size_t i = 0; i < std::size(cases); ++i)
    EXPECT_NE(cases[i].first.find(cases[i].second), std::string::npos) << "case " << i << ": " << cases[i].first;
}

TEST(Evaluate, RefusesWhatIsTooLarge) {
  const auto op = make_operator("", "ConstantOfShape", 21, {}, 1, 1).value();
  const Tensor shape = Tensor::of<int64_t>({1}, {1000});
  const Tensor* inputs[] = {&shape};
  EXPECT_TRUE(run_reference(*op, inputs, 1, 4000).ok());
  EXPECT_FALSE(run_reference(*op, inputs, 1, 3999).ok());
}

TEST(Evaluate, GathersStridedInputs) {
  const Tensor dense = Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor turned(DType::kFloat, {3, 2}, dense.buffer(), 0, {1, 3});
  const auto op = make_operator("", "Neg", 13, {}, 1, 1).value();
  const Tensor* inputs[] = {&turned};
  const auto out = run_reference(*op, inputs, 1);
  ASSERT_TRUE(out.ok()) << out.status().message();
  EXPECT_EQ(difference(Tensor::of<float>({3, 2}, {-1, -4, -2, -5, -3, -6}), (*out)[0], 0), "");
}

}  // namespace
}  // namespace ocior::ops
