// Writes an onnx::Graph node by node and hides what differs between opsets 11 and 23. Values are known by name.
// Called by encoder.cpp; one owner, one thread.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "checkpoint/config.h"
#include "onnx/model.h"

namespace ocior::checkpoint {

inline constexpr int kMinOpset = 11, kMaxOpset = 23;

class GraphBuilder {
 public:
  using Value = std::string;

  // `compute` is float or float16: the type of every value between the casts at the graph's borders.
  GraphBuilder(int opset, DType compute) : opset_(opset), compute_(compute) {}

  void input(const std::string& name, DType dtype, std::initializer_list<std::string_view> dims);
  // Makes `value`, which nothing has used yet, an output called `name`; a graph that computes in float16 casts it to float.
  // A dimension that is a number has that size, any other is symbolic.
  void output(Value& value, const std::string& name, std::initializer_list<std::string> dims);
  Value weight(onnx::Tensor tensor);

  // A node called `name` with one output.
  Value node(const std::string& name, std::string_view op, std::vector<Value> inputs,
             std::vector<onnx::Attribute> attributes = {});

  // Operators whose form depends on the opset. `name` is the prefix of their nodes' names.
  Value layer_norm(const std::string& name, const Value& x, const Value& scale, const Value& bias, double eps);
  Value activation(const std::string& name, Activation kind, const Value& x);
  Value unsqueeze(const std::string& name, const Value& x, std::vector<int64_t> axes);
  Value squeeze(const std::string& name, const Value& x, int64_t axis);
  std::vector<Value> split_in_two(const std::string& name, const Value& x);  // two slices of size 1 along the last axis

  Value cast(const std::string& name, const Value& x, DType to);
  Value softmax(const std::string& name, const Value& x);  // along the last axis
  Value transpose(const std::string& name, const Value& x, std::vector<int64_t> permutation);
  Value gather(const std::string& name, const Value& x, const Value& indices, int64_t axis);

  // Constants, shared by all nodes that ask for the same name.
  Value integers(const std::string& name, std::vector<int64_t> values);                          // int64 [n]
  Value integer(const std::string& name, int64_t value);                                         // int64 scalar
  Value number(const std::string& name, double value) { return number(name, value, compute_); }  // scalar of the computing type

  DType compute() const { return compute_; }
  onnx::Graph take() { return std::move(graph_); }

 private:
  Value number(const std::string& name, double value, DType dtype);
  Value constant(const std::string& name, DType dtype, std::vector<int64_t> dims, std::vector<std::byte> bytes);
  Value decomposed_layer_norm(const std::string& name, const Value& x, const Value& scale, const Value& bias, double eps);
  Value gelu(const std::string& name, const Value& x);
  Value gelu_tanh(const std::string& name, const Value& x);

  int opset_;
  DType compute_;
  onnx::Graph graph_;
  std::unordered_set<std::string> constants_;
};

onnx::Attribute attribute(std::string name, int64_t value);
onnx::Attribute attribute(std::string name, std::vector<int64_t> values);
onnx::Attribute attribute(std::string name, std::string_view value);
onnx::Attribute attribute(std::string name, float value);

}  // namespace ocior::checkpoint
