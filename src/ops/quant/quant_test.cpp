// What samples cannot say of the quantizing operators: known values, shapes that inference knows, and the errors of wrong nodes.
#include <gtest/gtest.h>

#include "ops/evaluate.h"
#include "ops/harness.h"

namespace ocior::ops {
namespace {

using Inputs = std::vector<Tensor>;

Tensor floats(Shape shape, std::initializer_list<float> values) { return Tensor::of<float>(std::move(shape), values); }
Tensor bytes(Shape shape, std::initializer_list<uint8_t> values) { return Tensor::of<uint8_t>(std::move(shape), values); }

// The elements of output 0 by the reference and by the run, which are equal; or the error.
std::string values_of(std::string_view op, const Inputs& inputs, const Attributes& attributes = {}, int opset = kNewestOpset) {
  const auto made = make_operator("", op, opset, attributes, static_cast<int>(inputs.size()), 1);
  if (!made.ok()) return made.status().message();
  const auto want = run_reference(**made, pointers(inputs), 1);
  const auto got = run_cpu(**made, pointers(inputs), 1);
  if (!want.ok() || !got.ok()) return (want.ok() ? got : want).status().message();
  if (const std::string d = difference((*want)[0], (*got)[0], 0); !d.empty()) return "the run differs: " + d;
  std::string out;
  const Tensor& y = (*want)[0];
  for (int64_t i = 0; i < y.count(); ++i) out += fmt::format("{}{}", i ? " " : "", get_double(y.dtype(), y.data(), i));
  return out;
}

std::string shape_of(std::string_view op, const std::vector<Type>& types, const Attributes& attributes = {}) {
  const auto made = make_operator("", op, kNewestOpset, attributes, static_cast<int>(types.size()), 1);
  if (!made.ok()) return made.status().message();
  std::vector<OpInput> inputs;
  for (const Type& t : types) inputs.push_back({.type = &t});
  const auto out = infer_op(**made, inputs, 1);
  if (!out.ok()) return out.status().message();
  const Type& y = (*out)[0].type;
  return std::string(name_of(y.dtype)) + (y.shape ? to_string(*y.shape) : " unranked");
}

TEST(Quantize, HalvesGoToTheEvenNeighbourBeforeTheZeroPoint) {
  const Tensor x = floats({9}, {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 300, -300, INFINITY, NAN});
  EXPECT_EQ(values_of("QuantizeLinear", {x, floats({}, {1}), bytes({}, {3})}), "3 5 5 3 1 255 0 255 0");
  EXPECT_EQ(values_of("QuantizeLinear", {x, floats({}, {1}), Tensor::of<int8_t>({}, {-1})}), "-1 1 1 -1 -3 127 -128 127 -128");
  EXPECT_EQ(values_of("QuantizeLinear", {x, floats({}, {1})}, {{"output_dtype", int64_t{22}}}), "0 2 2 0 -2 7 -8 7 -8");
}

TEST(Quantize, ADivisorOfZeroSaturates) {
  EXPECT_EQ(values_of("QuantizeLinear", {floats({3}, {1, -1, 0}), floats({}, {0})}), "255 0 0");
}

TEST(Quantize, Granularities) {
  const Tensor x = bytes({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(values_of("DequantizeLinear", {x, floats({}, {2}), bytes({}, {1})}), "0 2 4 6 8 10");
  EXPECT_EQ(values_of("DequantizeLinear", {x, floats({2}, {1, 10})}, {{"axis", int64_t{0}}}), "1 2 3 40 50 60");
  EXPECT_EQ(values_of("DequantizeLinear", {x, floats({3}, {1, 10, 100})}, {{"axis", int64_t{-1}}}), "1 20 300 4 50 600");
  EXPECT_EQ(
      values_of("DequantizeLinear", {x, floats({2, 2}, {1, 10, 2, 20})}, {{"axis", int64_t{1}}, {"block_size", int64_t{2}}}),
      "1 2 30 8 10 120");
}

TEST(Quantize, ErrorsOfWrongScales) {
  const Tensor x = floats({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(values_of("QuantizeLinear", {x, floats({2}, {1, 1})}),
            "QuantizeLinear: scales of shape [2] for an input of shape [2, 3]; expected 3, one per index of axis 1");
  EXPECT_EQ(values_of("QuantizeLinear", {x, floats({2}, {1, 1})}, {{"axis", int64_t{2}}}),
            "axis 2 is out of range for rank 2; expected -2 to 1");
  EXPECT_EQ(values_of("QuantizeLinear", {x, floats({2, 1}, {1, 1})}),
            "QuantizeLinear: scales of shape [2, 1] for an input of shape [2, 3]; expected at most one axis without attribute "
            "block_size");
  EXPECT_EQ(values_of("QuantizeLinear", {x, floats({2, 1}, {1, 1})}, {{"block_size", int64_t{2}}}),
            "QuantizeLinear: scales of shape [2, 1] for an input of shape [2, 3]; expected [2, 2]: blocks of 2 along axis 1");
  EXPECT_EQ(values_of("QuantizeLinear", {x, floats({2, 1}, {1, 1})}, {{"block_size", INT64_MAX}}), "1 2 3 4 5 6");
  EXPECT_EQ(values_of("QuantizeLinear", {x, floats({3}, {1, 1, 1}), bytes({}, {0})}),
            "QuantizeLinear: zero points of shape [] and scales of shape [3]; expected equal shapes");
  EXPECT_EQ(values_of("QuantizeLinear", {floats({}, {1}), floats({2}, {1, 1})}),
            "QuantizeLinear: scales of shape [2] for an input of shape []; expected a single one");
  EXPECT_EQ(values_of("QuantizeLinear", {x, floats({}, {1})}, {{"block_size", int64_t{-1}}}),
            "QuantizeLinear: block_size is -1; expected a positive number, or 0 for none");
}

TEST(Quantize, ErrorsOfWrongTypes) {
  const Tensor x = floats({2}, {1, 2}), one = floats({}, {1});
  EXPECT_EQ(values_of("QuantizeLinear", {x, one, bytes({}, {0})}, {{"output_dtype", int64_t{3}}}),
            "QuantizeLinear: output_dtype is int8, but the zero point is uint8; expected the same type");
  EXPECT_EQ(values_of("QuantizeLinear", {x, one}, {{"output_dtype", int64_t{1}}}),
            "QuantizeLinear: output_dtype is 1, which is not an element type of the output");
  EXPECT_EQ(values_of("QuantizeLinear", {x, one}, {{"precision", int64_t{6}}}),
            "QuantizeLinear: precision is 6; expected float, float16, bfloat16 or double");
  EXPECT_EQ(values_of("QuantizeLinear", {x, one}, {{"axis", int64_t{0}}}, 10),
            "QuantizeLinear: unknown attribute 'axis' at opset 10; remove it or check the operator's version");
  EXPECT_EQ(shape_of("DequantizeLinear", {Type::tensor(DType::kInt8, Dims{2}), Type::tensor(DType::kFloat8E8M0, Dims{})}),
            "DequantizeLinear: scales are float8e8m0, which the output cannot be; expected output_dtype");
}

TEST(IntegerProduct, SumsAreExactAndWrap) {
  const int64_t k = 40000;  // 40000 * 255 * 255 is beyond 31 bits
  for (const int64_t rows : {int64_t{1}, int64_t{7}}) {
    const auto filled = [](Shape shape) {
      Tensor t = Tensor::allocate(DType::kUint8, std::move(shape)).value();
      std::fill_n(t.as<uint8_t>(), t.count(), uint8_t{255});
      return t;
    };
    const std::string one = fmt::format("{}", static_cast<int32_t>(static_cast<uint32_t>(k * 255 * 255)));
    std::string want = one;
    for (int64_t i = 1; i < rows; ++i) want += " " + one;
    EXPECT_EQ(values_of("MatMulInteger", {filled({rows, k}), filled({k, 1})}), want);
  }
}

TEST(IntegerProduct, ShapesAndErrors) {
  const Dim n = Dim::symbol("n"), m = Dim::symbol("m");
  const auto matrix = [](DType t, Dims shape) { return Type::tensor(t, std::move(shape)); };
  EXPECT_EQ(shape_of("MatMulInteger", {matrix(DType::kUint8, {n, 2, 4}), matrix(DType::kInt8, {4, m})}), "int32[n, 2, m]");
  EXPECT_EQ(shape_of("MatMulInteger", {Type::tensor(DType::kUint8, std::nullopt), matrix(DType::kInt8, {4, m})}),
            "int32 unranked");
  EXPECT_EQ(shape_of("MatMulInteger", {matrix(DType::kUint8, {2, 3}), matrix(DType::kInt8, {4, m})}),
            "MatMulInteger of [2, 3] and [4, m]: the inner dimensions 3 and 4 differ");
  EXPECT_EQ(shape_of("MatMulInteger", {matrix(DType::kUint8, {}), matrix(DType::kInt8, {4, m})}),
            "MatMulInteger needs operands of rank 1 or more, got [] and [4, m]");
  EXPECT_EQ(values_of("MatMulInteger", {bytes({2, 1}, {1, 2}), bytes({1, 2}, {1, 2}), bytes({3}, {0, 0, 0})}),
            "MatMulInteger: zero points or scales of shape [3] for an operand of shape [2, 1]; expected one, or one per row");
  EXPECT_EQ(values_of("MatMulInteger", {bytes({2, 1}, {1, 2}), bytes({1, 2}, {1, 2}), bytes({2}, {1, 0})}), "0 0 2 4");
}

TEST(Losses, LabelsBeyondTheClasses) {
  const Tensor x = floats({2, 3}, {1, 2, 3, 4, 5, 6});
  for (const char* op : {"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"}) {
    const auto made = make_operator("", op, 13, {{"ignore_index", int64_t{-1}}}, 2, 1);
    ASSERT_TRUE(made.ok());
    const Inputs inputs = {x, Tensor::of<int64_t>({2}, {-1, 3})};
    EXPECT_EQ(run_reference(**made, pointers(inputs), 1).status().message(),
              fmt::format("{}: label 1 is 3; expected 0 to 2, or -1 (ignore_index)", op));
  }
}

}  // namespace
}  // namespace ocior::ops
