#include "checkpoint/graph_builder.h"

#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>

#include "checkpoint/weights.h"

namespace ocior::checkpoint {
namespace {

onnx::Type tensor_type(DType dtype, std::vector<onnx::Dimension> shape) {
  return {.kind = onnx::Type::Kind::kTensor, .dtype = dtype, .has_shape = true, .shape = std::move(shape)};
}

onnx::Dimension dimension(std::string_view text) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string_view::npos) return {.param = std::string(text)};
  return {.value = std::stoll(std::string(text))};
}

template <class T>
std::vector<std::byte> bytes_of(const T* values, size_t count) {
  std::vector<std::byte> bytes(count * sizeof(T));
  if (count) std::memcpy(bytes.data(), values, bytes.size());
  return bytes;
}

}  // namespace

onnx::Attribute attribute(std::string name, int64_t value) {
  return {.name = std::move(name), .kind = onnx::Attribute::Kind::kInt, .i = value};
}
onnx::Attribute attribute(std::string name, std::vector<int64_t> values) {
  return {.name = std::move(name), .kind = onnx::Attribute::Kind::kInts, .ints = std::move(values)};
}
onnx::Attribute attribute(std::string name, std::string_view value) {
  return {.name = std::move(name), .kind = onnx::Attribute::Kind::kString, .s = std::string(value)};
}
onnx::Attribute attribute(std::string name, float value) {
  return {.name = std::move(name), .kind = onnx::Attribute::Kind::kFloat, .f = value};
}

void GraphBuilder::input(const std::string& name, DType dtype, std::initializer_list<std::string_view> dims) {
  std::vector<onnx::Dimension> shape;
  for (const std::string_view dim : dims) shape.push_back(dimension(dim));
  graph_.inputs.push_back({.name = name, .type = tensor_type(dtype, std::move(shape))});
}

void GraphBuilder::output(Value& value, const std::string& name, std::initializer_list<std::string> dims) {
  std::vector<onnx::Dimension> shape;
  for (const std::string& dim : dims) shape.push_back(dimension(dim));
  graph_.outputs.push_back({.name = name, .type = tensor_type(DType::kFloat, std::move(shape))});
  if (compute_ != DType::kFloat) {
    cast("/" + name + "/Cast", value, DType::kFloat);
    graph_.nodes.back().outputs[0] = name;
    return;
  }
  for (size_t i = graph_.nodes.size(); i-- > 0;) {
    for (std::string& made : graph_.nodes[i].outputs) {
      if (made != value) continue;
      made = value = name;
      return;
    }
  }
}

GraphBuilder::Value GraphBuilder::weight(onnx::Tensor tensor) {
  graph_.initializers.push_back(std::move(tensor));
  return graph_.initializers.back().name;
}

GraphBuilder::Value GraphBuilder::node(const std::string& name, std::string_view op, std::vector<Value> inputs,
                                       std::vector<onnx::Attribute> attributes) {
  graph_.nodes.push_back({.name = name,
                          .op_type = std::string(op),
                          .inputs = std::move(inputs),
                          .outputs = {name + "_output_0"},
                          .attributes = std::move(attributes)});
  return graph_.nodes.back().outputs[0];
}

GraphBuilder::Value GraphBuilder::layer_norm(const std::string& name, const Value& x, const Value& scale, const Value& bias,
                                             double eps) {
  if (opset_ < 17) return decomposed_layer_norm(name, x, scale, bias, eps);
  return node(name + "/LayerNormalization", "LayerNormalization", {x, scale, bias},
              {attribute("axis", int64_t{-1}), attribute("epsilon", static_cast<float>(eps))});
}

// In float16 the statistics are taken in float, as LayerNormalization does by default: eps = 1e-12 is 0 in float16.
GraphBuilder::Value GraphBuilder::decomposed_layer_norm(const std::string& name, const Value& x, const Value& scale,
                                                        const Value& bias, double eps) {
  const bool wide = compute_ != DType::kFloat;
  const std::vector<onnx::Attribute> last_axis{attribute("axes", std::vector<int64_t>{-1})};
  const Value in = wide ? cast(name + "/Cast", x, DType::kFloat) : x;
  const Value mean = node(name + "/ReduceMean", "ReduceMean", {in}, last_axis);
  const Value centred = node(name + "/Sub", "Sub", {in, mean});
  const Value squares = node(name + "/Mul", "Mul", {centred, centred});
  const Value variance = node(name + "/ReduceMean_1", "ReduceMean", {squares}, last_axis);
  const Value padded = node(name + "/Add", "Add", {variance, number("layer_norm_eps", eps, DType::kFloat)});
  const Value deviation = node(name + "/Sqrt", "Sqrt", {padded});
  Value normal = node(name + "/Div", "Div", {centred, deviation});
  if (wide) normal = cast(name + "/Cast_1", normal, compute_);
  return node(name + "/Add_1", "Add", {node(name + "/Mul_1", "Mul", {normal, scale}), bias});
}

GraphBuilder::Value GraphBuilder::activation(const std::string& name, Activation kind, const Value& x) {
  switch (kind) {
    case Activation::kGelu: return gelu(name, x);
    case Activation::kGeluTanh: return gelu_tanh(name, x);
    case Activation::kRelu: return node(name + "/Relu", "Relu", {x});
    case Activation::kTanh: return node(name + "/Tanh", "Tanh", {x});
    case Activation::kSilu: break;
  }
  return node(name + "/Mul", "Mul", {x, node(name + "/Sigmoid", "Sigmoid", {x})});
}

// x · (1 + erf(x / √2)) / 2
GraphBuilder::Value GraphBuilder::gelu(const std::string& name, const Value& x) {
  if (opset_ >= 20) return node(name + "/Gelu", "Gelu", {x});
  const Value scaled = node(name + "/Div", "Div", {x, number("sqrt_2", std::numbers::sqrt2)});
  const Value erf = node(name + "/Erf", "Erf", {scaled});
  const Value gate = node(name + "/Add", "Add", {erf, number("one", 1)});
  return node(name + "/Mul_1", "Mul", {node(name + "/Mul", "Mul", {x, gate}), number("half", 0.5)});
}

// x · (1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2
GraphBuilder::Value GraphBuilder::gelu_tanh(const std::string& name, const Value& x) {
  if (opset_ >= 20) return node(name + "/Gelu", "Gelu", {x}, {attribute("approximate", "tanh")});
  const Value square = node(name + "/Mul", "Mul", {x, x});
  const Value cube = node(name + "/Mul_1", "Mul", {square, x});
  const Value part = node(name + "/Mul_2", "Mul", {cube, number("gelu_cubic", 0.044715)});
  const Value sum = node(name + "/Add", "Add", {x, part});
  const Value inner = node(name + "/Mul_3", "Mul", {sum, number("sqrt_2_over_pi", std::sqrt(2 * std::numbers::inv_pi))});
  const Value gate = node(name + "/Add_1", "Add", {node(name + "/Tanh", "Tanh", {inner}), number("one", 1)});
  return node(name + "/Mul_5", "Mul", {node(name + "/Mul_4", "Mul", {x, gate}), number("half", 0.5)});
}

GraphBuilder::Value GraphBuilder::unsqueeze(const std::string& name, const Value& x, std::vector<int64_t> axes) {
  if (opset_ < 13) return node(name, "Unsqueeze", {x}, {attribute("axes", std::move(axes))});
  const Value where = integers(name + "/axes", std::move(axes));
  return node(name, "Unsqueeze", {x, where});
}

GraphBuilder::Value GraphBuilder::squeeze(const std::string& name, const Value& x, int64_t axis) {
  if (opset_ < 13) return node(name, "Squeeze", {x}, {attribute("axes", std::vector<int64_t>{axis})});
  return node(name, "Squeeze", {x, integers("squeeze_axes", {axis})});
}

std::vector<GraphBuilder::Value> GraphBuilder::split_in_two(const std::string& name, const Value& x) {
  std::vector<onnx::Attribute> attributes{attribute("axis", int64_t{-1})};
  std::vector<Value> inputs{x};
  if (opset_ < 13) {
    attributes.push_back(attribute("split", std::vector<int64_t>{1, 1}));
  } else {
    inputs.push_back(integers("split_sizes", {1, 1}));
  }
  node(name, "Split", std::move(inputs), std::move(attributes));
  graph_.nodes.back().outputs.push_back(name + "_output_1");
  return graph_.nodes.back().outputs;
}

GraphBuilder::Value GraphBuilder::cast(const std::string& name, const Value& x, DType to) {
  return node(name, "Cast", {x}, {attribute("to", static_cast<int64_t>(to))});
}

GraphBuilder::Value GraphBuilder::softmax(const std::string& name, const Value& x) {
  return node(name, "Softmax", {x}, {attribute("axis", int64_t{-1})});
}

GraphBuilder::Value GraphBuilder::transpose(const std::string& name, const Value& x, std::vector<int64_t> permutation) {
  return node(name, "Transpose", {x}, {attribute("perm", std::move(permutation))});
}

GraphBuilder::Value GraphBuilder::gather(const std::string& name, const Value& x, const Value& indices, int64_t axis) {
  return node(name, "Gather", {x, indices}, {attribute("axis", axis)});
}

GraphBuilder::Value GraphBuilder::constant(const std::string& name, DType dtype, std::vector<int64_t> dims,
                                           std::vector<std::byte> bytes) {
  if (!constants_.insert(name).second) return name;
  auto owned = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  graph_.initializers.push_back({.name = name, .dtype = dtype, .dims = std::move(dims), .raw = *owned, .owned = owned});
  return name;
}

GraphBuilder::Value GraphBuilder::integers(const std::string& name, std::vector<int64_t> values) {
  return constant(name, DType::kInt64, {static_cast<int64_t>(values.size())}, bytes_of(values.data(), values.size()));
}

GraphBuilder::Value GraphBuilder::integer(const std::string& name, int64_t value) {
  return constant(name, DType::kInt64, {}, bytes_of(&value, 1));
}

GraphBuilder::Value GraphBuilder::number(const std::string& name, double value, DType dtype) {
  const auto narrow = static_cast<float>(value);
  const uint16_t half = half_bits(narrow);
  return constant(name, dtype, {}, dtype == DType::kFloat16 ? bytes_of(&half, 1) : bytes_of(&narrow, 1));
}

}  // namespace ocior::checkpoint
