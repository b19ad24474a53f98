// What Cast and CastLike share: conversion of every element type into every other.
#pragma once

#include "ops/operator.h"

namespace ocior::ops {

// How values become powers of two (float8e8m0).
enum class PowerRounding { kUp, kDown, kNearest };

struct CastRules {
  bool saturate = true;  // to float8: beyond the range is the largest value, else NaN or infinity
  PowerRounding rounding = PowerRounding::kUp;
};

// Whether elements of `from` can be cast to `to`.
bool can_cast(DType from, DType to);

// Elements [begin, end). Floats to integers: truncated, saturated, NaN gives 0; integers to integers: low bits; to bool: not
// zero; strings are read as decimal numbers. Errors: a string that is no number.
Status cast_elements(const CastRules& rules, DType from, const void* x, DType to, void* y, int64_t begin, int64_t end);

}  // namespace ocior::ops
