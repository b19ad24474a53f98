// LogSoftmax along an axis: y = x - max - log(sum(exp(x - max))) (https://onnx.ai/onnx/operators/onnx__LogSoftmax.html).
#include "ops/nn/softmax.h"

namespace ocior::ops {

struct LogSoftmax {
  static constexpr OpInfo info{.name = "LogSoftmax", .in_place = 1};

  nn::SoftmaxAttributes attributes;

  static LogSoftmax parse(const NodeReader& node) { return {nn::SoftmaxAttributes::parse(node)}; }
  Status infer(ShapeContext& c) const { return attributes.infer(c); }
  Status reference(RefContext& c) const {
    return attributes.reference(c, [](double x, double, double sum) { return x - std::log(sum); });
  }
  size_t scratch(const BindContext& c) const { return attributes.scratch(c); }
  double work(const BindContext& c) const { return nn::SoftmaxAttributes::work(c); }
  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    attributes.run(c, c.kernels().log_softmax_f32);
    return {};
  }
  static std::vector<Sample> samples() { return nn::SoftmaxAttributes::samples(); }
};

OCIOR_OPERATOR(LogSoftmax)

}  // namespace ocior::ops
