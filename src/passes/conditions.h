// What is known of conditions without values; shared by the passes that simplify masks.
#pragma once

#include "passes/pass.h"

namespace ocior::passes {

// Whether the boolean value v is true everywhere, whatever the inputs.
bool always_true(const Rewriter& r, ValueId v, int depth = 16);

}  // namespace ocior::passes
