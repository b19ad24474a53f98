// The order of the passes, on one screen, and the runner.
#include "passes/pipeline.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "passes/pass.h"

namespace ocior::passes {

#define PASS(Name) Status Name(Rewriter& r);
#include "passes/all.inc"
#undef PASS

namespace {

// Cleaning comes before and after fusing; a round that changes nothing ends the pipeline.
constexpr Pass kPipeline[] = {
    {"fold-constants", kBasic, fold_constants},
    {"eliminate-no-ops", kBasic, eliminate_no_ops},
    {"evaluate-shapes", kBasic, evaluate_shapes},
    {"share-common", kBasic, share_common},
    {"fold-comparisons", kBasic, fold_comparisons},
    {"merge-transposes", kBasic, merge_transposes},
    // Fused operators.
    {"fuse-layer-norm", kExtended, fuse_layer_norm},
    {"fuse-gelu", kExtended, fuse_gelu},
    {"fuse-linear", kExtended, fuse_linear},
    {"fuse-bias", kExtended, fuse_bias},
    {"fuse-activation", kExtended, fuse_activation},
    {"fuse-conv", kExtended, fuse_conv},
    {"fuse-attention", kExtended, fuse_attention},
    {"fuse-qkv", kExtended, fuse_qkv},
    {"fuse-residual", kExtended, fuse_residual},
    {"fuse-skip-layer-norm", kExtended, fuse_skip_layer_norm},
};
constexpr int kMaxRounds = 8;

}  // namespace

Result<PassReport> simplify(graph::Graph& graph, const SimplifyOptions& options) {
  PassReport report;
  for (const std::string& name : options.disabled)
    if (std::none_of(std::begin(kPipeline), std::end(kPipeline), [&](const Pass& p) { return p.name == name; })) {
      std::string known;
      for (const Pass& p : kPipeline) known += (known.empty() ? "" : ", ") + std::string(p.name);
      return error(Code::kInvalidArgument, "there is no pass '{}' to switch off; the passes are {}", name, known);
    }
  for (const Pass& p : kPipeline) {
    const bool off = std::find(options.disabled.begin(), options.disabled.end(), p.name) != options.disabled.end();
    report.passes.push_back({std::string(p.name), p.level <= options.level && !off, 0, 0, {}});
  }
  Rewriter(graph).sweep();  // passes may rely on it that every node has an output that is read
  for (int round = 0; round < kMaxRounds; ++round) {
    int fired = 0;
    for (size_t i = 0; i < std::size(kPipeline); ++i) {
      PassReport::Entry& entry = report.passes[i];
      if (!entry.enabled) continue;
      const auto start = std::chrono::steady_clock::now();
      Rewriter r(graph);
      OCIOR_RETURN_IF_ERROR(with_context(kPipeline[i].run(r), fmt::format("pass {}", entry.name)));
      r.sweep();
      fired += r.fired;
      entry.fired += r.fired;
      entry.misses = std::move(r.misses);  // what still does not match at the end
      entry.milliseconds += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
#ifndef NDEBUG
      OCIOR_RETURN_IF_ERROR(with_context(graph::verify(graph), fmt::format("after pass {}", entry.name)));
#endif
    }
    if (fired == 0) break;
  }
  return report;
}

}  // namespace ocior::passes
