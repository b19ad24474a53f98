#include "ops/nn/normalization.h"

#include <cmath>

#include "ops/shapes.h"

namespace ocior::ops::nn {

NormalizedRow normalize(std::span<const double> s, double epsilon, bool rms, std::span<double> y) {
  const double n = static_cast<double>(s.size());
  double sum = 0, squares = 0;
  for (double v : s) sum += v;
  const double mean = rms ? 0 : sum / n;
  for (double v : s) squares += (v - mean) * (v - mean);
  const double inv_std = 1 / std::sqrt(squares / n + epsilon);
  for (size_t i = 0; i < s.size(); ++i) y[i] = (s[i] - mean) * inv_std;
  return {mean, inv_std};
}

void run_layer_norm(CpuContext& c, const LayerNormArgs& args, int64_t rows) {
  if (args.n > 0)
    parallel_rows(c, rows, args.n, [&](int64_t begin, int64_t end, int) { c.kernels().layer_norm(args, begin, end); });
}

Status NormAxes::infer(ShapeContext& c, DType output) const {
  if (!c.shape(0)) {
    c.set(0, output, std::nullopt);
    return {};
  }
  const Dims& x = *c.shape(0);
  OCIOR_RETURN_IF_ERROR(resolve_axis(axis, std::ssize(x)).status());
  for (int i = 1; i < c.inputs(); ++i) {  // scale and bias broadcast to x and never widen it
    if (!c.has(i) || !c.shape(i)) continue;
    OCIOR_ASSIGN(const Dims both, broadcast(c, x, *c.shape(i)));
    bool wider = both.size() != x.size();
    for (size_t d = 0; d < x.size() && !wider; ++d) wider = x[d].known() && both[d].known() && !(x[d] == both[d]);
    if (wider)
      return error(Code::kInvalidArgument, "input {} of shape {} does not broadcast to x of shape {}", i, to_string(*c.shape(i)),
                   to_string(x));
  }
  c.set(0, output, x);
  return {};
}

std::optional<Dims> NormAxes::reduced(const std::optional<Dims>& shape) const {
  if (!shape) return std::nullopt;
  Dims out = *shape;
  for (auto i = static_cast<size_t>(axis < 0 ? axis + std::ssize(out) : axis); i < out.size(); ++i) out[i] = 1;
  return out;
}

int64_t NormAxes::row(std::span<const int64_t> shape) const {
  const auto rank = std::ssize(shape);
  return extent(shape, axis < 0 ? axis + rank : axis, rank);
}

int64_t NormAxes::rows(std::span<const int64_t> shape) const {
  return extent(shape, 0, axis < 0 ? axis + std::ssize(shape) : axis);
}

bool NormAxes::per_element(std::span<const int64_t> x, std::span<const int64_t> scale) const {
  if (element_count(scale) != row(x)) return false;
  for (size_t from_end = 0; from_end < scale.size(); ++from_end) {
    const int64_t own = scale[scale.size() - 1 - from_end];
    if (own != 1 && own != x[x.size() - 1 - from_end]) return false;
  }
  return true;
}

}  // namespace ocior::ops::nn
