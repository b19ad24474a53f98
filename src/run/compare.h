// Whether a value is what was expected, within a tolerance: for `ocior verify`. Plain functions, thread-safe.
#pragma once

#include <string>

#include "ocior/value.h"

namespace ocior::run {

struct Tolerance {
  double relative = 1e-3, absolute = 1e-5;
};

// What differs most, measured against the tolerance. `where` is an index "[1, 2]", after the number of the element for sequences.
struct Difference {
  bool equal = true;
  double largest = 0;  // |got - want| there
  std::string where, got, want;
  std::string text() const;  // "largest difference 0.5 at [1, 2]: got 1, expected 1.5", or which types or shapes differ
};

// Floats agree when |got - want| <= absolute + relative * |want|, or when they are the same infinity or both NaN; 16-bit floats
// have a relative tolerance of at least two units of the last place. Integers agree within the whole part of `absolute`; bools
// and strings are equal. Types and shapes are equal.
Difference compare(const Value& want, const Value& got, const Tolerance& tolerance);

}  // namespace ocior::run
