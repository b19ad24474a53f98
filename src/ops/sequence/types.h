// Types and positions that the operators on sequences and optionals share.
#pragma once

#include <string_view>

#include "ops/operator.h"

namespace ocior::ops {

// seq(tensor(dtype)); shapes of elements are not followed, as they may differ.
Type sequence_type(DType dtype);

// Input i as a sequence of tensors: their element type. Errors name `i` and its type.
Result<DType> sequence_dtype(const ShapeContext& c, int i);

// Checks that input i is a tensor of int32 or int64, when it is given.
Status check_integers(const ShapeContext& c, int i, std::string_view what);

// The one integer of input i in [-count, count - 1 + extra] as an index from the front; `otherwise` when it is omitted.
Result<int64_t> resolve_position(const RefContext& c, int i, int64_t count, int64_t extra, int64_t otherwise);

}  // namespace ocior::ops
