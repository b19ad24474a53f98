#include "ocior/value.h"

#include "base/error.h"
#include "tensor/tensor.h"
#include "tensor/value_rep.h"

namespace ocior {

Value::Value(Tensor tensor) : rep_(std::make_shared<ValueRep>()) {
  rep_->kind = Kind::kTensor;
  rep_->tensor = std::move(tensor);
}

Result<Value> Value::tensor(DType dtype, std::span<const int64_t> shape, Allocator* allocator) {
  OCIOR_ASSIGN(Tensor t, Tensor::allocate(dtype, Shape(shape.begin(), shape.end()), allocator));
  return Value(std::move(t));
}

Result<Value> Value::view(DType dtype, std::span<const int64_t> shape, void* data, size_t bytes, std::shared_ptr<const void> keep,
                          MemoryInfo memory) {
  OCIOR_ASSIGN(const int64_t count, checked_element_count(shape));
  if (dtype == DType::kString || dtype == DType::kUndefined)
    return error(Code::kInvalidArgument, "Value::view: a {} tensor cannot be a view of bytes", name_of(dtype));
  const size_t need = byte_count(dtype, count);
  if (bytes < need)
    return error(Code::kInvalidArgument, "Value::view: a {} tensor of shape {} needs {} bytes, but the memory has {}",
                 name_of(dtype), to_string(shape), need, bytes);
  return Value(Tensor::borrow(dtype, Shape(shape.begin(), shape.end()), data, bytes, std::move(keep), memory));
}

Result<Value> Value::strings(std::span<const int64_t> shape, std::vector<std::string> values) {
  OCIOR_ASSIGN(Tensor t, Tensor::allocate(DType::kString, Shape(shape.begin(), shape.end())));
  if (t.count() != static_cast<int64_t>(values.size()))
    return error(Code::kInvalidArgument, "Value::strings: shape {} has {} elements but {} strings came", to_string(shape),
                 t.count(), values.size());
  for (size_t i = 0; i < values.size(); ++i) t.as<std::string>()[i] = std::move(values[i]);
  return Value(std::move(t));
}

Value Value::sequence(std::vector<Value> elements) {
  Value out;
  out.rep_ = std::make_shared<ValueRep>();
  out.rep_->kind = Kind::kSequence;
  out.rep_->elements = std::move(elements);
  return out;
}

Value Value::optional(Value element) {
  Value out;
  out.rep_ = std::make_shared<ValueRep>();
  out.rep_->kind = Kind::kOptional;
  if (element.kind() != Kind::kNone) out.rep_->elements.push_back(std::move(element));
  return out;
}

Result<Value> Value::map(Value keys, Value values) {
  if (!keys.is_tensor() || !values.is_tensor() || keys.element_count() != values.element_count())
    return error(Code::kInvalidArgument, "Value::map: expected two tensors with as many elements, one of keys and one of values");
  if (is_floating(keys.dtype()))
    return error(Code::kInvalidArgument, "Value::map: the keys are {}; expected integers or strings", name_of(keys.dtype()));
  Value out;
  out.rep_ = std::make_shared<ValueRep>();
  out.rep_->kind = Kind::kMap;
  out.rep_->elements = {std::move(keys), std::move(values)};
  return out;
}

std::span<const Value> Value::elements() const {
  return rep_ ? std::span<const Value>(rep_->elements) : std::span<const Value>();
}
Value::Kind Value::kind() const { return rep_ ? rep_->kind : Kind::kNone; }
DType Value::dtype() const { return rep_->tensor.dtype(); }
std::span<const int64_t> Value::shape() const { return rep_->tensor.shape(); }
int64_t Value::element_count() const { return rep_->tensor.count(); }
size_t Value::byte_size() const { return rep_->tensor.bytes(); }
void* Value::data() { return rep_->tensor.data(); }
const void* Value::data() const { return std::as_const(rep_->tensor).data(); }
MemoryInfo Value::memory() const { return rep_->tensor.memory(); }
std::span<const std::string> Value::string_data() const {
  return {std::as_const(rep_->tensor).as<std::string>(), static_cast<size_t>(element_count())};
}
const Tensor* Value::get_tensor() const { return is_tensor() ? &rep_->tensor : nullptr; }

}  // namespace ocior
