// What callers feed a session, compared with what the model declares; and copies of what a run hands out. Stateless.
#pragma once

#include "ocior/session.h"

namespace ocior::run {

// `got` as the value of the input `want`: a bare value is taken for an optional that holds it, kNone for an empty one.
Value as_declared(const ValueInfo& want, const Value& got);

// Kind, element types and, of a tensor, rank and known dimensions. The error is a sentence that names the input.
Status check_feed(const ValueInfo& want, const Value& got);

// A value that shares no bytes with `value`, whatever its kind.
Result<Value> copy_of(const Value& value);

}  // namespace ocior::run
