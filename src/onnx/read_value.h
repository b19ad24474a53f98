// The files of ONNX's test data sets (input_0.pb, output_0.pb): one TensorProto, SequenceProto or OptionalProto each. Files are
// untrusted: they are checked as models are.
#pragma once

#include <string>

#include "ocior/value.h"

namespace ocior::onnx {

// The value in `path`; which message the file holds, only the model's declaration can tell: `kind` is a tensor, a sequence or an
// optional, and `element` what is inside of the latter two. Errors name the file. The value owns its memory.
Result<Value> read_value_file(const std::string& path, Value::Kind kind, Value::Kind element = Value::Kind::kTensor);

}  // namespace ocior::onnx
