#include "run/feeds.h"

#include "base/error.h"
#include "tensor/tensor.h"

namespace ocior::run {
namespace {

std::string name_of(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kNone: return "nothing";
    case Value::Kind::kTensor: return fmt::format("a tensor({})", ocior::name_of(value.dtype()));
    case Value::Kind::kSequence: return "a sequence";
    case Value::Kind::kMap: return "a map";
    case Value::Kind::kOptional: return "an optional";
  }
  return "?";
}

// `got` inside input `whole` against what its declaration says there. Shapes inside of sequences and optionals may differ from
// element to element; nothing is taken from their declarations.
Status check_kind(const ValueInfo& whole, const Value& got, const ValueInfo& want) {
  const auto wrong = [&](const std::string& what) {
    return error(Code::kInvalidArgument, "input '{}' must be {}, but it is or holds {} where {} is expected", whole.name,
                 whole.type_string(), what, want.type_string());
  };
  if (got.kind() != want.kind) return wrong(name_of(got));
  if (got.is_tensor()) {
    if (got.dtype() != want.dtype) return wrong(name_of(got));
    if (got.memory().kind == MemoryKind::kDevice)
      return error(Code::kInvalidArgument,
                   "input '{}' lies in device memory, but the session runs on the CPU; copy it to the host first", whole.name);
    return {};
  }
  if (!want.element) return wrong("elements of an undeclared type");
  if (got.kind() == Value::Kind::kMap) {
    if (got.elements()[0].dtype() != want.dtype) return wrong("keys of " + name_of(got.elements()[0]));
    return check_kind(whole, got.elements()[1], *want.element);
  }
  for (const Value& element : got.elements()) OCIOR_RETURN_IF_ERROR(check_kind(whole, element, *want.element));
  return {};
}

}  // namespace

Status check_feed(const ValueInfo& want, const Value& got) {
  if (want.kind != Value::Kind::kTensor) return check_kind(want, got, want);
  if (!got.is_tensor()) return error(Code::kInvalidArgument, "input '{}' must be a {}", want.name, want.type_string());
  if (got.dtype() != want.dtype)
    return error(Code::kInvalidArgument,
                 "Unexpected input data type. Actual: (tensor({})) , expected: ({})\nInput '{}': convert the array to {}.",
                 name_of(got.dtype()), want.type_string(), want.name, name_of(want.dtype));
  if (got.memory().kind == MemoryKind::kDevice)
    return error(Code::kInvalidArgument,
                 "input '{}' lies in device memory, but the session runs on the CPU; copy it to the host first", want.name);
  if (!want.has_shape) return {};
  const auto shape = got.shape();
  if (shape.size() != want.shape.size())
    return error(Code::kInvalidArgument,
                 "Invalid rank for input: {} Got: {} Expected: {} Please fix either the inputs/outputs or the model.", want.name,
                 shape.size(), want.shape.size());
  std::string wrong;
  for (size_t i = 0; i < shape.size(); ++i)
    if (want.shape[i].value >= 0 && want.shape[i].value != shape[i])
      wrong += fmt::format(" index: {} Got: {} Expected: {}\n", i, shape[i], want.shape[i].value);
  if (!wrong.empty())
    return error(
        Code::kInvalidArgument,
        "Got invalid dimensions for input: {} for the following indices\n{} Please fix either the inputs/outputs or the model.",
        want.name, wrong);
  return {};
}

Value as_declared(const ValueInfo& want, const Value& got) {
  return want.kind == Value::Kind::kOptional && got.kind() != Value::Kind::kOptional ? Value::optional(got) : got;
}

Result<Value> copy_of(const Value& value) {
  if (const Tensor* t = value.get_tensor()) {
    OCIOR_ASSIGN(Tensor copy, t->clone());
    return Value(std::move(copy));
  }
  std::vector<Value> elements;
  for (const Value& element : value.elements()) {
    OCIOR_ASSIGN(Value copy, copy_of(element));
    elements.push_back(std::move(copy));
  }
  switch (value.kind()) {
    case Value::Kind::kSequence: return Value::sequence(std::move(elements));
    case Value::Kind::kOptional: return Value::optional(elements.empty() ? Value() : elements[0]);
    case Value::Kind::kMap: return Value::map(elements[0], elements[1]);
    default: return Value();
  }
}

}  // namespace ocior::run
