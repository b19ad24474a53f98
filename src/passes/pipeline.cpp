#include "passes/pipeline.h"

namespace ocior::passes {

Result<PassReport> simplify(graph::Graph&, const SimplifyOptions&) { return PassReport(); }

}  // namespace ocior::passes
