// Hardmax along an axis: 1 at the first largest element of a lane, 0 elsewhere. Before opset 13 everything from the axis on is
// one lane, as in Softmax (https://onnx.ai/onnx/operators/onnx__Hardmax.html).
#include "ops/loops.h"
#include "ops/nn/softmax.h"
#include "ops/typed.h"

namespace ocior::ops {

struct Hardmax {
  static constexpr OpInfo info{.name = "Hardmax"};

  nn::SoftmaxAttributes attributes;

  static Hardmax parse(const NodeReader& node) { return {nn::SoftmaxAttributes::parse(node)}; }
  Status infer(ShapeContext& c) const { return attributes.infer(c); }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    if (x.count() == 0) return {};
    const nn::Lanes l = nn::lanes_of(x.shape(), attributes.axis, attributes.flatten);
    mark(x.dtype(), x.data(), c.out(0).data(), l, 0, l.outer * l.inner);
    return {};
  }
  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    if (x.count() == 0) return {};
    const nn::Lanes l = nn::lanes_of(x.shape, attributes.axis, attributes.flatten);
    for_items(c, l.outer * l.inner, l.n, [&](int64_t begin, int64_t end) {
      if (x.dtype == DType::kFloat) mark_floats(x.as<const float>(), c.out(0).as<float>(), l, begin, end);
      else mark(x.dtype, x.data, c.out(0).data, l, begin, end);
    });
    return {};
  }
  static std::vector<Sample> samples() {
    auto out = nn::SoftmaxAttributes::samples();
    out.push_back({.inputs = {{DType::kFloat, {2, 4}, Fill::kZeros, {1, 3, 3, 2, -5, -5, -7, -5}}}});
    return out;
  }

 private:
  static void mark_floats(const float* x, float* y, const nn::Lanes& l, int64_t begin, int64_t end) {
    for (int64_t lane = begin; lane < end; ++lane) {
      const int64_t first = lane / l.inner * l.n * l.inner + lane % l.inner;
      int64_t best = 0;
      float largest = x[first];
      for (int64_t i = 1; i < l.n && !std::isnan(largest); ++i)
        if (!(x[first + i * l.inner] <= largest)) best = i, largest = x[first + i * l.inner];  // greater, or NaN
      for (int64_t i = 0; i < l.n; ++i) y[first + i * l.inner] = 0;
      y[first + best * l.inner] = 1;
    }
  }

  // Lanes [begin, end). As in ArgMax, NaN counts as the largest.
  static void mark(DType t, const void* x, void* y, const nn::Lanes& l, int64_t begin, int64_t end) {
    const auto value = [&](int64_t at) {
      double buffer;
      return *load<double>(t, x, at, 1, &buffer);
    };
    const double zero = 0, one = 1;
    for (int64_t lane = begin; lane < end; ++lane) {
      const int64_t first = lane / l.inner * l.n * l.inner + lane % l.inner;
      int64_t best = 0;
      double largest = value(first);
      for (int64_t i = 1; i < l.n && !std::isnan(largest); ++i)
        if (const double v = value(first + i * l.inner); v > largest || std::isnan(v)) best = i, largest = v;
      for (int64_t i = 0; i < l.n; ++i) store<double>(t, y, first + i * l.inner, 1, i == best ? &one : &zero);
    }
  }
};

OCIOR_OPERATOR(Hardmax)

}  // namespace ocior::ops
