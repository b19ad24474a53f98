// Inputs and outputs of models in words and in JSON.
#pragma once

#include <span>
#include <string>

#include "json_text.h"
#include "ocior/session.h"
#include "onnx/model.h"

namespace ocior::cli {

// ONNX Runtime's words: "tensor(float)", "seq(tensor(int64))".
std::string type_text(const onnx::Type& type);
// "input_ids  tensor(int64)  [batch, 128]"
std::string value_text(const onnx::ValueInfo& value);
std::string value_text(const ValueInfo& value);
// {"name", "type", "shape"}; a dimension is a number, a symbol or null, an unknown shape is null.
Json value_json(const onnx::ValueInfo& value);

// A tensor's shape: "[2, 3]".
std::string shape_text(std::span<const int64_t> shape);

}  // namespace ocior::cli
