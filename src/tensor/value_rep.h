// What a Value holds. Internal to the engine.
#pragma once

#include <vector>

#include "ocior/value.h"
#include "tensor/tensor.h"

namespace ocior {

struct ValueRep {
  Value::Kind kind = Value::Kind::kNone;
  Tensor tensor;                // kTensor
  std::vector<Value> elements;  // kSequence; kOptional: none or one; kMap: keys tensor, values tensor
};

}  // namespace ocior
