#include "ops/sequence/types.h"

#include "ops/control/subgraph.h"

namespace ocior::ops {

Type sequence_type(DType dtype) {
  return {Value::Kind::kSequence, DType::kUndefined, std::nullopt, std::make_shared<const Type>(Type::tensor(dtype))};
}

Result<DType> sequence_dtype(const ShapeContext& c, int i) {
  if (!c.has(i)) return error(Code::kInvalidGraph, "input {} is missing; expected a sequence of tensors", i);
  const Type& type = c.in(i);
  if (type.kind == Value::Kind::kSequence && type.element && type.element->is_tensor() &&
      type.element->dtype != DType::kUndefined)
    return type.element->dtype;
  return error(Code::kInvalidGraph, "input {} is {}; expected a sequence of tensors", i, type.text());
}

Status check_integers(const ShapeContext& c, int i, std::string_view what) {
  if (!c.has(i)) return {};
  const Type& type = c.in(i);
  if (type.is_tensor() && (type.dtype == DType::kInt64 || type.dtype == DType::kInt32)) return {};
  return error(Code::kInvalidGraph, "{} is {}; expected int32 or int64", what, type.text());
}

Result<int64_t> resolve_position(const RefContext& c, int i, int64_t count, int64_t extra, int64_t otherwise) {
  const Value given = c.value(i);
  if (!given.is_tensor()) return otherwise;
  OCIOR_ASSIGN(const int64_t position, one_integer(given, "the position"));
  if (position < -count || position >= count + extra)
    return error(Code::kInvalidArgument, "the position is {}, but the sequence has {} elements; expected {} to {}", position,
                 count, -count, count - 1 + extra);
  return position < 0 ? position + count : position;
}

}  // namespace ocior::ops
