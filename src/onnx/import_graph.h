// Stage 2: wire format -> Graph. Attributes become operator structs; opset differences end here. Nothing is optimised.
#pragma once

#include <map>
#include <string>

#include "graph/graph.h"
#include "onnx/model.h"

namespace ocior::onnx {

struct ImportOptions {
  std::map<std::string, int64_t> free_dimensions;  // symbol -> value
  int max_depth = 64;                              // nesting of subgraphs and of function calls
  size_t max_inlined_nodes = size_t{1} << 18;      // that calls of the model's functions may add
};

// The graph borrows the bytes of large initializers from the model's storage, which it keeps alive; small ones are copied.
// The model's own functions are put in the place of the nodes that call them; they come before operators of the same name.
// Errors name the node, its operator and the value. The model's own structs are not needed afterwards.
Result<graph::Graph> import_graph(const Model& model, const ImportOptions& options = {});

// The tensor of the file as an engine tensor; borrows raw bytes above `copy_below` bytes and keeps `storage` alive for them.
Result<ocior::Tensor> import_tensor(const Tensor& tensor, const Model& model, size_t copy_below = 4096);

}  // namespace ocior::onnx
