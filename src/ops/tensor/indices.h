// Checks of indices that come from tensors: every one is looked at before it addresses memory.
#pragma once

#include "ops/operator.h"

namespace ocior::ops {

// index in [-length, length) -> [0, length); `which` is the index's own position in its tensor.
inline Result<int64_t> resolve_index(int64_t index, int64_t length, std::string_view op, int64_t which) {
  if (index < -length || index >= length)
    return error(Code::kInvalidArgument, "{}: index {} (element {} of the indices) is out of range for a dimension of {}", op,
                 index, which, length);
  return index < 0 ? index + length : index;
}

}  // namespace ocior::ops
