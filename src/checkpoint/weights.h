// Tensors of a checkpoint as ONNX initializers: element type changed, strides resolved, matrices transposed where the graph wants
// it. Called by the converter; plain functions, thread-safe.
#pragma once

#include <string>

#include "checkpoint/state_dict.h"
#include "ocior/status.h"
#include "onnx/model.h"

namespace ocior::checkpoint {

// `entry` (float, float16, bfloat16 or double; one or two dimensions) as a dense initializer `name` of type `dtype` (float or
// float16); `transposed` swaps the two dimensions. Widening is exact; narrowing rounds to nearest, ties to even. The payload is a
// view of `entry.data` when the bytes are right as they are, otherwise owned. Errors: an element type that is no floating-point
// number; a finite value beyond `dtype`'s range.
Result<onnx::Tensor> to_initializer(const TensorEntry& entry, std::string name, DType dtype, bool transposed);

// Whether two matrices have the same type, shape and values, bit for bit, however they are laid out.
bool same_values(const TensorEntry& a, const TensorEntry& b);

// IEEE 754 binary16 bits of `value`, rounded to nearest, ties to even.
uint16_t half_bits(float value);

}  // namespace ocior::checkpoint
