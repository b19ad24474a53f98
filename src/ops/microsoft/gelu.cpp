// Gelu, BiasGelu, FastGelu and QuickGelu of com.microsoft: y = gelu(x + bias), exact, by tanh, or as x * sigmoid(alpha * x).
#include <cmath>

#include "ops/microsoft/microsoft.h"
#include "ops/nn/activation.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

enum class GeluKind { kExact, kTanh, kQuick };

struct BiasedGelu {
  GeluKind kind = GeluKind::kExact;
  float alpha = 1.702f;  // kQuick

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1}));
    if (c.shape(0)) {
      if (c.has(1) && c.shape(0)->empty()) return error(Code::kInvalidGraph, "a scalar has no axis that a bias goes with");
      if (c.has(1)) OCIOR_RETURN_IF_ERROR(check_input(c, 1, "bias", {c.shape(0)->back()}));
    }
    c.set(0, c.in(0));
    return {};
  }

  Status reference(RefContext& c) const {
    std::vector<double> x = nn::doubles(c.in(0));
    const std::vector<double> bias = c.has(1) ? nn::doubles(c.in(1)) : std::vector<double>();
    for (size_t i = 0; i < x.size(); ++i) {
      const double v = x[i] + (bias.empty() ? 0 : bias[i % bias.size()]);
      if (kind == GeluKind::kQuick) x[i] = v / (1 + std::exp(-static_cast<double>(alpha) * v));
      else x[i] = nn::apply(kind == GeluKind::kTanh ? Activation::kGeluTanh : Activation::kGeluErf, v, 0, 0);
    }
    nn::store(c.out(0), x);
    return {};
  }

  static double work(const BindContext& c) { return 20.0 * static_cast<double>(c.in(0).count()); }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    const int64_t count = c.in(0).count();
    if (count == 0) return {};
    const int64_t n = c.has(1) ? c.in(0).shape.back() : 1;
    const KernelTable& kernels = c.kernels();
    nn::parallel_rows(c, count / n, n, [&](int64_t begin, int64_t end, int) {
      const float* x = c.in(0).as<float>() + begin * n;
      float* const y = c.out(0).as<float>() + begin * n;
      const int64_t size = (end - begin) * n;
      if (c.has(1)) {
        for (int64_t row = 0; row < end - begin; ++row)
          kernels.binary_f32(BinaryFn::kAdd, x + row * n, 1, c.in(1).as<float>(), 1, y + row * n, n);
        x = y;
      }
      if (kind == GeluKind::kQuick) quick(kernels, x, y, size);
      else kernels.unary_f32(kind == GeluKind::kTanh ? UnaryFn::kGeluTanh : UnaryFn::kGeluErf, x, y, size, 0, 0);
    });
    return {};
  }

  // y = x * sigmoid(alpha * x), a strip at a time, as y may be x.
  void quick(const KernelTable& kernels, const float* x, float* y, int64_t n) const {
    constexpr int64_t kStrip = 512;
    float gate[kStrip];
    for (int64_t i = 0; i < n; i += kStrip) {
      const int64_t m = std::min(kStrip, n - i);
      kernels.binary_f32(BinaryFn::kMul, x + i, 1, &alpha, 0, gate, m);
      kernels.unary_f32(UnaryFn::kSigmoid, gate, gate, m, 0, 0);
      kernels.binary_f32(BinaryFn::kMul, x + i, 1, gate, 1, y + i, m);
    }
  }
};

std::vector<Sample> gelu_samples(bool without_bias, bool with_bias, const Attributes& attributes = {}) {
  std::vector<Sample> out;
  for (const bool biased : {false, true}) {
    if (!(biased ? with_bias : without_bias)) continue;
    for (const DType dtype : {DType::kFloat, DType::kFloat16, DType::kDouble})
      for (const Shape& shape : {Shape{7}, Shape{3, 33}, Shape{2, 3, 700}, Shape{0, 5}}) {
        Sample s{.inputs = {{.dtype = dtype, .shape = shape, .fill = Fill::kNormal}},
                 .attributes = attributes,
                 .tolerance = dtype == DType::kFloat16 ? 1e-3 : 1e-6};
        if (biased) s.inputs.push_back({.dtype = dtype, .shape = {shape.back()}});
        out.push_back(std::move(s));
      }
  }
  return out;
}

}  // namespace

struct MicrosoftGelu : BiasedGelu {
  static constexpr OpInfo info{.name = "Gelu", .domain = kMicrosoft, .in_place = 1};
  static MicrosoftGelu parse(const NodeReader&) { return {}; }
  static std::vector<Sample> samples() { return gelu_samples(true, false); }
};

struct BiasGelu : BiasedGelu {
  static constexpr OpInfo info{.name = "BiasGelu", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 2, .in_place = 1};
  static BiasGelu parse(const NodeReader&) { return {}; }
  static std::vector<Sample> samples() { return gelu_samples(false, true); }
};

struct FastGelu : BiasedGelu {
  static constexpr OpInfo info{.name = "FastGelu", .domain = kMicrosoft, .max_inputs = 2, .in_place = 1};
  static FastGelu parse(const NodeReader&) { return {{GeluKind::kTanh}}; }
  static std::vector<Sample> samples() { return gelu_samples(true, true); }
};

struct QuickGelu : BiasedGelu {
  static constexpr OpInfo info{.name = "QuickGelu", .domain = kMicrosoft, .in_place = 1};
  static QuickGelu parse(const NodeReader& node) { return {{GeluKind::kQuick, node.number("alpha", 1.702f)}}; }
  static std::vector<Sample> samples() { return gelu_samples(true, false, {{"alpha", 1.5f}}); }
};

OCIOR_OPERATOR(BiasGelu)
OCIOR_OPERATOR(FastGelu)
OCIOR_OPERATOR(MicrosoftGelu)
OCIOR_OPERATOR(QuickGelu)

}  // namespace ocior::ops
