// Constant: a value from an attribute. Exactly one of value, value_int(s), value_float(s), value_string(s); sparse_value as a
// dense tensor.
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

template <class T, class V>
Result<Tensor> list(DType dtype, const V& values) {
  OCIOR_ASSIGN(Tensor t, Tensor::allocate(dtype, {static_cast<int64_t>(values.size())}));
  for (size_t i = 0; i < values.size(); ++i) t.as<T>()[i] = values[i];
  return t;
}

template <class T>
Result<Tensor> scalar(DType dtype, const T& value) {
  OCIOR_ASSIGN(Tensor t, Tensor::allocate(dtype, {}));
  t.as<T>()[0] = value;
  return t;
}

Result<Tensor> read_value(const NodeReader& node, std::string_view name) {
  if (name == "value_int") return scalar(DType::kInt64, node.integer(name, 0));
  if (name == "value_ints") return list<int64_t>(DType::kInt64, node.integers(name));
  if (name == "value_float") return scalar(DType::kFloat, node.number(name, 0));
  if (name == "value_floats") return list<float>(DType::kFloat, node.numbers(name));
  if (name == "value_string") return scalar(DType::kString, node.text(name, ""));
  if (name == "value_strings") return list<std::string>(DType::kString, node.texts(name));
  const Tensor* t = node.tensor(name);
  if (!t || t->dense()) return t ? *t : Tensor();
  return t->clone();
}

}  // namespace

struct Constant {
  static constexpr OpInfo info{.name = "Constant", .min_inputs = 0, .max_inputs = 0};
  Tensor value;

  static Constant parse(const NodeReader& node) {
    Constant op;
    int found = 0;
    for (const std::string_view name :
         {"value", "value_int", "value_ints", "value_float", "value_floats", "value_string", "value_strings", "sparse_value"}) {
      if (!node.has(name)) continue;
      ++found;
      auto value = read_value(node, name);
      if (value.ok()) op.value = std::move(*value);
      else node.fail("{}: {}", name, value.status().message());
    }
    if (found != 1)
      node.fail("expected exactly one of the attributes value, value_int(s), value_float(s), value_string(s), got {}", found);
    return op;
  }

  Status infer(ShapeContext& c) const {
    c.set(0, value.dtype(), Dims(value.shape().begin(), value.shape().end()));
    if (auto data = constant_data(value)) c.set_data(0, std::move(*data));
    return {};
  }
  Status reference(RefContext& c) const {
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, value.dtype(), value.shape()));
    copy_elements(value.dtype(), c.out(0).data(), 0, value.data(), 0, value.count());
    return {};
  }
  Status run(CpuContext& c) const {
    copy_elements(value.dtype(), c.out(0).data, 0, value.data(), 0, value.count());
    return {};
  }

  static std::vector<Sample> samples() {
    return {{.attributes = {{"value", Tensor::of<float>({2, 2}, {1, 2, 3, 4})}}},
            {.attributes = {{"value_int", int64_t{7}}}},
            {.attributes = {{"value_ints", std::vector<int64_t>{1, -2}}}},
            {.attributes = {{"value_float", 0.5f}}},
            {.attributes = {{"value_floats", std::vector<float>{}}}},
            {.attributes = {{"value_string", std::string("a")}}},
            {.attributes = {{"value_strings", std::vector<std::string>{"a", "b"}}}}};
  }
};
OCIOR_OPERATOR(Constant)

}  // namespace ocior::ops
