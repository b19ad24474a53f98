// Gradient (ai.onnx.preview.training): the node becomes the nodes that compute the derivatives, so that what comes after the
// import sees plain operators only. Used by import_graph, one graph at a time.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"

namespace ocior::onnx {

struct GradientNode {
  std::string name;
  std::vector<graph::ValueId> xs, zs;  // what y is a function of; it is differentiated by the xs
  graph::ValueId y = graph::kNone;
  std::vector<graph::ValueId> inputs;   // the values of xs, then of zs, at which the derivatives are taken
  std::vector<graph::ValueId> outputs;  // one per x; kNone where nobody asked
};

// Adds to `g` the nodes that give the outputs: reverse mode, d sum(y) / dx of the shape of x, zeros where y does not depend on x.
// Where the inputs are other values than xs and zs, the nodes between them and y are computed again. All producers of y must be
// in `g`. `work` counts the nodes that were visited and added, which may not exceed `most`. Errors name the node and the operator
// that cannot be differentiated.
Status expand_gradient(graph::Graph& g, const GradientNode& node, size_t& work, size_t most);

}  // namespace ocior::onnx
