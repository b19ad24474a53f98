// TypeProto → Type: element types, shapes, nesting. Used by read.cpp only; throws and fails as read_tensor.h says.
#pragma once

#include "ocior/status.h"
#include "onnx/model.h"
#include "onnx/read_tensor.h"
#include "onnx/wire.h"

namespace ocior::onnx {

Status read_type(Fields fields, ReadContext& context, Type& out);

}  // namespace ocior::onnx
