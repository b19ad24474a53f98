// Stage 4: simplify a graph, the same on every machine. One runner for all passes: each is named, switchable, timed and verified.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"

namespace ocior::passes {

struct SimplifyOptions {
  int level = 99;                     // OptimizationLevel: 0 none, 1 basic, 2 extended, 99 all
  std::vector<std::string> disabled;  // names of passes
};

// What every pass did, for `ocior explain`.
struct PassReport {
  struct Entry {
    std::string name;
    bool enabled = true;
    int fired = 0;
    double milliseconds = 0;
    std::vector<std::string> misses;  // "node 'x' (Mul): looked like GELU, but the constant is 0.4 instead of 0.5"
  };
  std::vector<Entry> passes;
};

// Runs the pipeline until nothing changes (a bounded number of rounds). Errors: an unknown name in `disabled` (the known ones are
// listed), or a pass that left the graph inconsistent.
Result<PassReport> simplify(graph::Graph& graph, const SimplifyOptions& options = {});

}  // namespace ocior::passes
