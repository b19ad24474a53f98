// Reductions over axes, written once: parsing of the axes, inference, reference and the float path. Thread-safe.
#pragma once

#include <optional>
#include <vector>

#include "ops/operator.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

enum class Reduction { kSum, kMean, kMax, kMin, kProd, kL1, kL2, kSumSquare, kLogSum, kLogSumExp };

struct ReduceSpec {
  std::string_view name;
  Reduction kind;
  int axes_input_since = 18;  // opset from which the axes are input 1
  TypeSet types = kNumbers;
  std::optional<ReduceFn> kernel = std::nullopt;  // the float kernel of the sum, without what follows it
};

// Which axes go, and whether they stay as 1.
struct ReduceAxes {
  bool keep = true;
  bool none_means_none = false;  // noop_with_empty_axes: without axes each element is its own group
  bool input = false;
  std::vector<int64_t> fixed;

  static ReduceAxes parse(const ReduceSpec& spec, const NodeReader& node);
};

Status reduce_infer(const ReduceSpec& spec, const ReduceAxes& axes, ShapeContext& c);
Status reduce_reference(const ReduceSpec& spec, const ReduceAxes& axes, RefContext& c);
Status reduce_run(const ReduceSpec& spec, const ReduceAxes& axes, CpuContext& c);
std::vector<Sample> reduce_samples(const ReduceSpec& spec);

// The operator struct: T gives `info` and `static constexpr ReduceSpec spec`.
template <class T>
struct Reduce {
  ReduceAxes axes;

  static T parse(const NodeReader& node) {
    T op;
    op.axes = ReduceAxes::parse(T::spec, node);
    return op;
  }
  Status infer(ShapeContext& c) const { return reduce_infer(T::spec, axes, c); }
  Status reference(RefContext& c) const { return reduce_reference(T::spec, axes, c); }
  Status run(CpuContext& c) const { return reduce_run(T::spec, axes, c); }
  static std::vector<Sample> samples() { return reduce_samples(T::spec); }
};

}  // namespace ocior::ops
