#include "ops/nn/pool.h"

#include <algorithm>

#include "ops/shape_data.h"

namespace ocior::ops::nn {
namespace {

constexpr int64_t kMostExtent = int64_t{1} << 40;     // of an input dimension: sums and products of sizes stay in range
constexpr int64_t kMostAttribute = int64_t{1} << 20;  // of kernels, strides, dilations and pads

std::vector<int64_t> read_sizes(const NodeReader& node, const char* name, size_t count, int64_t otherwise, int64_t least) {
  std::vector<int64_t> out = node.integers(name);
  if (out.empty()) out.assign(count, otherwise);
  if (out.size() != count) node.fail("{} has {} elements; expected {}", name, out.size(), count);
  for (const int64_t v : out)
    if (v < least || v > kMostAttribute) node.fail("{} has element {}; expected {} to {}", name, v, least, kMostAttribute);
  return out;
}

AutoPad read_auto_pad(const NodeReader& node) {
  const std::string text = node.text("auto_pad", "NOTSET");
  if (text == "VALID") return AutoPad::kValid;
  if (text == "SAME_UPPER") return AutoPad::kSameUpper;
  if (text == "SAME_LOWER") return AutoPad::kSameLower;
  if (text != "NOTSET" && !text.empty()) node.fail("auto_pad is '{}'; expected NOTSET, VALID, SAME_UPPER or SAME_LOWER", text);
  return AutoPad::kNotSet;
}

}  // namespace

PoolWindow PoolWindow::parse(const NodeReader& node, int ceil_since, int dilations_since, bool has_auto_pad) {
  PoolWindow w;
  w.kernel = node.integers("kernel_shape");
  const size_t n = w.kernel.size();
  if (n == 0 || n > kMaxRank - 2) node.fail("kernel_shape has {} elements; expected 1 to {}", n, kMaxRank - 2);
  w.kernel = read_sizes(node, "kernel_shape", n, 1, 1);
  w.stride = read_sizes(node, "strides", n, 1, 1);
  w.dilation.assign(n, 1);
  if (node.opset() >= dilations_since) w.dilation = read_sizes(node, "dilations", n, 1, 1);
  if (node.opset() >= ceil_since) w.ceil = node.integer("ceil_mode", 0) != 0;
  if (has_auto_pad) w.auto_pad = read_auto_pad(node);
  w.pads = read_sizes(node, "pads", 2 * n, 0, 0);
  if (w.auto_pad != AutoPad::kNotSet) w.pads.assign(2 * n, 0);
  return w;
}

Result<PoolAxis> PoolWindow::axis(size_t i, int64_t in) const {
  if (in > kMostExtent) return error(Code::kInvalidArgument, "spatial dimension {} is {}; the limit is {}", i, in, kMostExtent);
  PoolAxis a{
      .in = in, .kernel = kernel[i], .stride = stride[i], .dilation = dilation[i], .before = pads[i], .after = pads[i + axes()]};
  const int64_t span = (a.kernel - 1) * a.dilation + 1;
  if (auto_pad == AutoPad::kSameUpper || auto_pad == AutoPad::kSameLower) {
    a.out = (in + a.stride - 1) / a.stride;
    const int64_t total = std::max<int64_t>(0, (a.out - 1) * a.stride + span - in);
    a.before = auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
    a.after = total - a.before;
    return a;
  }
  const int64_t room = in + a.before + a.after - span;
  if (room < 0)
    return error(Code::kInvalidArgument, "a window of {} elements does not fit spatial dimension {} of {} with padding {} and {}",
                 span, i, in, a.before, a.after);
  a.out = (room + (ceil ? a.stride - 1 : 0)) / a.stride + 1;
  if (ceil && (a.out - 1) * a.stride >= in + a.before) --a.out;  // a window must not begin in the padding at the end
  return a;
}

Result<std::vector<PoolAxis>> PoolWindow::plan(std::span<const int64_t> x) const {
  if (x.size() != axes() + 2)
    return error(Code::kInvalidArgument, "the input has rank {}; expected {} for a kernel_shape of {} elements", x.size(),
                 axes() + 2, axes());
  std::vector<PoolAxis> out(axes());
  for (size_t i = 0; i < axes(); ++i) {
    OCIOR_ASSIGN(out[i], axis(i, x[i + 2]));
  }
  return out;
}

Result<Dims> PoolWindow::infer(ShapeContext& c, const Dims& x) const {
  if (x.size() != axes() + 2)
    return error(Code::kInvalidGraph, "the input has rank {}; expected {} for a kernel_shape of {} elements", x.size(),
                 axes() + 2, axes());
  Dims out{x[0], x[1]};
  for (size_t i = 0; i < axes(); ++i) {
    const Dim& in = x[i + 2];
    const int64_t span = (kernel[i] - 1) * dilation[i] + 1, after = pads[i + axes()];
    if (in.known()) {
      OCIOR_ASSIGN(const PoolAxis a, axis(i, in.value()));
      out.push_back(a.out);
    } else if (auto_pad == AutoPad::kSameUpper || auto_pad == AutoPad::kSameLower) {
      out.push_back(Dim::quotient(in + Dim(stride[i] - 1), stride[i]));
    } else if (!ceil || (stride[i] == 1 && after < span)) {
      out.push_back(Dim::quotient(in + Dim(pads[i] + after - span), stride[i]) + 1);
    } else {
      out.push_back(c.fresh("pool"));
    }
  }
  return out;
}

double PoolWindow::work(const BindContext& c) const {
  double n = static_cast<double>(c.out(0).count());
  for (const int64_t k : kernel) n *= static_cast<double>(k);
  return n;
}

}  // namespace ocior::ops::nn
