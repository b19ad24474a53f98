// Runs a model by the Python package onnxruntime, in a process of its own that reads and writes .npz files. For the main thread.
#pragma once

#include "npy.h"
#include "ocior/session.h"

namespace ocior::cli {

// The outputs in the model's order. kNotImplemented, saying what to install, when python3 has no onnxruntime; kFail with its
// words when it does not run the model.
Result<std::vector<Value>> run_onnx_runtime(const std::string& model, const NamedValues& inputs);

}  // namespace ocior::cli
