#include "onnx/read_type.h"

#include <algorithm>

#include "base/error.h"
#include "onnx/proto_fields.h"

namespace ocior::onnx {
namespace {

Status read_nested_type(Fields fields, ReadContext& context, int depth, Type& out);

Status read_shape(Fields fields, ReadContext& context, Type& out) {
  out.has_shape = true;
  while (fields.next()) {
    if (fields.tag() != field::Shape::kDim) {
      fields.skip();
      continue;
    }
    OCIOR_RETURN_IF_ERROR(context.take());
    Dimension& dim = out.shape.emplace_back();
    for (Fields f = fields.message(); f.next();) switch (f.tag()) {  // a oneof: the last alternative counts
        case field::Dimension::kDimValue:
          dim = {.value = std::max<int64_t>(f.int64(), -1)};  // writers of negative sizes mean "unknown"
          break;
        case field::Dimension::kDimParam: dim = {.param = f.text()}; break;
        default: f.skip();
      }
    if (static_cast<int64_t>(out.shape.size()) > context.limits.max_rank)
      return error(Code::kInvalidGraph, "a shape has more than the {} dimensions allowed", context.limits.max_rank);
  }
  return {};
}

Status read_tensor_type(Fields fields, ReadContext& context, Type& out) {
  using F = field::TensorType;
  while (fields.next()) switch (fields.tag()) {
      case F::kElemType: {
        const int32_t number = fields.int32();
        if (number == 0) break;  // some writers leave the type of inner values open
        OCIOR_ASSIGN(out.dtype, checked_dtype(number));
        break;
      }
      case F::kShape: OCIOR_RETURN_IF_ERROR(read_shape(fields.message(), context, out)); break;
      default: fields.skip();
    }
  return {};
}

// The body of a sequence, optional (elem_type = 1) or map (key_type = 1, value_type = 2).
Status read_element_type(Fields fields, ReadContext& context, int depth, Type& out) {
  const bool is_map = out.kind == Type::Kind::kMap;
  const uint32_t element = is_map ? uint32_t{field::MapType::kValueType} : uint32_t{field::ElementType::kElemType};
  while (fields.next()) {
    if (fields.tag() == element) {
      out.element = std::make_shared<Type>();
      OCIOR_RETURN_IF_ERROR(read_nested_type(fields.message(), context, depth + 1, *out.element));
    } else if (is_map && fields.tag() == field::MapType::kKeyType) {
      OCIOR_ASSIGN(out.dtype, checked_dtype(fields.int32()));
    } else {
      fields.skip();
    }
  }
  if (!out.element) return error(Code::kInvalidGraph, "the element type of a sequence, optional or map is missing");
  if (is_map && out.dtype == DType::kUndefined) return error(Code::kInvalidGraph, "the key type of a map is missing");
  return {};
}

// A TypeProto is a oneof: the last alternative counts.
Status read_nested_type(Fields fields, ReadContext& context, int depth, Type& out) {
  using F = field::Type;
  if (depth > context.limits.max_depth)
    return error(Code::kInvalidGraph, "types are nested more than {} deep; raise ReadLimits::max_depth if the model is trusted",
                 context.limits.max_depth);
  while (fields.next()) {
    const uint32_t tag = fields.tag();
    Type::Kind kind = Type::Kind::kNone;
    switch (tag) {
      case F::kTensorType: kind = Type::Kind::kTensor; break;
      case F::kSparseTensorType: kind = Type::Kind::kSparseTensor; break;
      case F::kSequenceType: kind = Type::Kind::kSequence; break;
      case F::kOptionalType: kind = Type::Kind::kOptional; break;
      case F::kMapType: kind = Type::Kind::kMap; break;
      default: fields.skip(); continue;
    }
    OCIOR_RETURN_IF_ERROR(context.take());
    out = Type{.kind = kind};
    const Fields message = fields.message();
    const bool is_tensor = kind == Type::Kind::kTensor || kind == Type::Kind::kSparseTensor;
    OCIOR_RETURN_IF_ERROR(is_tensor ? read_tensor_type(message, context, out) : read_element_type(message, context, depth, out));
  }
  return {};
}

}  // namespace

Status read_type(Fields fields, ReadContext& context, Type& out) { return read_nested_type(fields, context, 1, out); }

}  // namespace ocior::onnx
