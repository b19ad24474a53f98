// TensorProto → Tensor: shape and payload checks, typed fields normalised to raw bytes, external data. Used by read.cpp only.
// Malformed protobuf throws protozero::exception (see wire.h); everything else is a Status. Not shared by threads.
#pragma once

#include "ocior/status.h"
#include "onnx/external_data.h"
#include "onnx/model.h"
#include "onnx/wire.h"

namespace ocior::onnx {

// What one reading of a model shares: its limits, its external files and how much of the limits is used up.
struct ReadContext {
  const ReadLimits& limits;
  ExternalData external;
  int64_t items = 0;

  // Counts one more thing that takes memory.
  Status take();
};

// One StringStringEntryProto.
std::pair<std::string, std::string> read_entry(Fields fields);

// Reads `fields` into `out`. Errors name the shape, the bytes expected and the bytes found; the caller names the tensor.
Status read_tensor(Fields fields, ReadContext& context, Tensor& out);

// The bytes that a dense tensor of this type and shape takes (sub-byte types rounded up as a whole); 0 for strings.
// `elements` receives the element count. Fails on negative dimensions and products beyond int64 (zero dimensions left out).
Result<int64_t> payload_bytes(DType dtype, std::span<const int64_t> dims, int64_t& elements);

// Checks a type number of the file.
Result<DType> checked_dtype(int64_t number);

}  // namespace ocior::onnx
