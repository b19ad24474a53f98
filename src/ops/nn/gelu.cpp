// Gelu: x * Phi(x), exact or by tanh (https://onnx.ai/onnx/operators/onnx__Gelu.html).
#include <cmath>

#include "ops/nn/activation.h"
#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct Gelu {
  static constexpr OpInfo info{.name = "Gelu", .since = 20, .in_place = 1};

  bool by_tanh = false;

  static Gelu parse(const NodeReader& node) {
    const std::string approximate = node.text("approximate", "none");
    if (approximate != "none" && approximate != "tanh") node.fail("approximate is '{}'; expected 'none' or 'tanh'", approximate);
    return {approximate == "tanh"};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0}));
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    std::vector<double> x = nn::doubles(c.in(0));
    for (double& v : x) v = nn::apply(by_tanh ? Activation::kGeluTanh : Activation::kGeluErf, v, 0, 0);
    nn::store(c.out(0), x);
    return {};
  }

  double work(const BindContext& c) const { return 20.0 * static_cast<double>(c.in(0).count()); }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    const UnaryFn fn = by_tanh ? UnaryFn::kGeluTanh : UnaryFn::kGeluErf;
    nn::parallel_rows(c, c.in(0).count(), 1, [&](int64_t begin, int64_t end, int) {
      c.kernels().unary_f32(fn, c.in(0).as<float>() + begin, c.out(0).as<float>() + begin, end - begin, 0, 0);
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const char* approximate : {"none", "tanh"}) {
      const Attributes attributes{{"approximate", std::string(approximate)}};
      for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{7}, Shape{3, 33}, Shape{2, 3, 100}})
        out.push_back({.inputs = {{.shape = shape, .fill = Fill::kNormal}}, .attributes = attributes});
      out.push_back({.inputs = {{.shape = {64}, .fill = Fill::kSpecials}}, .attributes = attributes});
      out.push_back({.inputs = {{.dtype = DType::kDouble, .shape = {9}, .fill = Fill::kNormal}}, .attributes = attributes});
      out.push_back({.inputs = {{.dtype = DType::kFloat16, .shape = {9}, .fill = Fill::kNormal}},
                     .attributes = attributes,
                     .tolerance = 1e-3});
      out.push_back({.inputs = {{.shape = {128, 3072}, .fill = Fill::kNormal}}, .attributes = attributes, .bench = true});
    }
    return out;
  }
};

OCIOR_OPERATOR(Gelu)

}  // namespace ocior::ops
