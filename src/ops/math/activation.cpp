// Activations of one input: Tanh to Mish, and Clip. Formulas as the ONNX operator documentation gives them.
#include <limits>

#include "ops/math/unary.h"

namespace ocior::ops {
namespace {

double clamp(double x, double lo, double hi) { return std::isnan(x) ? x : std::fmin(std::fmax(x, lo), hi); }

struct TanhFormula {
  static double apply(double x) { return std::tanh(x); }
};
struct SigmoidFormula {
  static double apply(double x) { return 1 / (1 + std::exp(-x)); }
};
struct ReluFormula {
  static double apply(double x) { return x < 0 ? 0 : x; }
  static int64_t apply(int64_t x) { return x < 0 ? 0 : x; }
};
struct LeakyReluFormula {
  static double apply(double x, const UnaryParameters& a) { return x < 0 ? a.p * x : x; }
};
struct EluFormula {
  static double apply(double x, const UnaryParameters& a) { return x < 0 ? a.p * std::expm1(x) : x; }
};
struct SoftplusFormula {
  static double apply(double x) { return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x))) + (std::isnan(x) ? x : 0); }
};
struct HardSwishFormula {
  static double apply(double x) { return x * clamp(x / 6 + 0.5, 0, 1); }
};
struct HardSigmoidFormula {
  static double apply(double x, const UnaryParameters& a) { return clamp(a.p * x + a.q, 0, 1); }
};
struct CeluFormula {
  static double apply(double x, const UnaryParameters& a) { return x < 0 ? a.p * std::expm1(x / a.p) : x; }
};
struct SeluFormula {
  static double apply(double x, const UnaryParameters& a) { return a.q * (x <= 0 ? a.p * std::expm1(x) : x); }
};
struct SoftsignFormula {
  static double apply(double x) { return x / (1 + std::fabs(x)); }
};
struct ThresholdedReluFormula {
  static double apply(double x, const UnaryParameters& a) { return x > a.p ? x : 0; }
};
struct ShrinkFormula {
  static double apply(double x, const UnaryParameters& a) { return x < -a.p ? x + a.q : x > a.p ? x - a.q : 0; }
  static int64_t apply(int64_t x, const UnaryParameters& a) { return shrink(x, a); }
  static uint64_t apply(uint64_t x, const UnaryParameters& a) { return shrink(x, a); }

 private:
  // In long double, whose 64 bits hold every integer and the bias.
  template <class T>
  static T shrink(T x, const UnaryParameters& a) {
    const auto wide = static_cast<long double>(x);
    const long double y = wide < -a.p ? wide + a.q : wide > a.p ? wide - a.q : 0;
    if (!(y == y)) return 0;
    if (y <= static_cast<long double>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
    if (y >= static_cast<long double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
    return static_cast<T>(y);
  }
};
struct SwishFormula {
  static double apply(double x, const UnaryParameters& a) { return x * SigmoidFormula::apply(a.p * x); }
};
struct MishFormula {
  static double apply(double x) { return x * std::tanh(SoftplusFormula::apply(x)); }
};

UnaryParameters read_alpha(const NodeReader& node, float otherwise) { return {node.number("alpha", otherwise), 0}; }

}  // namespace

struct Tanh : Unary<Tanh> {
  static constexpr OpInfo info{.name = "Tanh", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<TanhFormula>("Tanh", UnaryFn::kTanh);
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Tanh)

struct Sigmoid : Unary<Sigmoid> {
  static constexpr OpInfo info{.name = "Sigmoid", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<SigmoidFormula>("Sigmoid", UnaryFn::kSigmoid);
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Sigmoid)

struct Relu : Unary<Relu> {
  static constexpr OpInfo info{.name = "Relu", .in_place = 1};
  static constexpr UnarySpec spec = number_spec<ReluFormula>("Relu", UnaryFn::kRelu);
  static std::vector<Sample> samples() { return unary_samples(Fill::kNormal, {DType::kInt8, DType::kInt32, DType::kInt64}); }
};
OCIOR_OPERATOR(Relu)

// x where x >= 0, alpha * x below.
struct LeakyRelu : Unary<LeakyRelu> {
  static constexpr OpInfo info{.name = "LeakyRelu", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<LeakyReluFormula>("LeakyRelu", UnaryFn::kLeakyRelu);
  static UnaryParameters read(const NodeReader& node) { return read_alpha(node, 0.01f); }
  static std::vector<Sample> samples() {
    auto out = unary_samples();
    out.push_back({.inputs = {{DType::kFloat, {33}, Fill::kNormal}}, .attributes = {{"alpha", 0.3f}}});
    return out;
  }
};
OCIOR_OPERATOR(LeakyRelu)

// x where x >= 0, alpha * (exp(x) - 1) below.
struct Elu : Unary<Elu> {
  static constexpr OpInfo info{.name = "Elu", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<EluFormula>("Elu", UnaryFn::kElu);
  static UnaryParameters read(const NodeReader& node) { return read_alpha(node, 1); }
  static std::vector<Sample> samples() {
    auto out = unary_samples();
    out.push_back({.inputs = {{DType::kFloat, {33}, Fill::kNormal}}, .attributes = {{"alpha", 2.0f}}});
    return out;
  }
};
OCIOR_OPERATOR(Elu)

// log(1 + exp(x)).
struct Softplus : Unary<Softplus> {
  static constexpr OpInfo info{.name = "Softplus", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<SoftplusFormula>("Softplus", UnaryFn::kSoftplus);
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Softplus)

// x * clamp(x / 6 + 1 / 2, 0, 1).
struct HardSwish : Unary<HardSwish> {
  static constexpr OpInfo info{.name = "HardSwish", .since = 14, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<HardSwishFormula>("HardSwish", UnaryFn::kHardSwish);
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(HardSwish)

// clamp(alpha * x + beta, 0, 1).
struct HardSigmoid : Unary<HardSigmoid> {
  static constexpr OpInfo info{.name = "HardSigmoid", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<HardSigmoidFormula>("HardSigmoid", UnaryFn::kHardSigmoid);
  static UnaryParameters read(const NodeReader& node) { return {node.number("alpha", 0.2f), node.number("beta", 0.5f)}; }
  static std::vector<Sample> samples() {
    auto out = unary_samples();
    out.push_back({.inputs = {{DType::kFloat, {33}, Fill::kNormal}}, .attributes = {{"alpha", 0.5f}, {"beta", 0.6f}}});
    return out;
  }
};
OCIOR_OPERATOR(HardSigmoid)

// max(0, x) + min(0, alpha * (exp(x / alpha) - 1)).
struct Celu : Unary<Celu> {
  static constexpr OpInfo info{.name = "Celu", .since = 12, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<CeluFormula>("Celu");
  static constexpr UnarySpec elu = real_spec<CeluFormula>("Celu", UnaryFn::kElu);  // alpha is 1
  static UnaryParameters read(const NodeReader& node) { return read_alpha(node, 1); }
  Status run(CpuContext& c) const { return unary_run(parameters.p == 1 ? elu : spec, parameters, c); }
  static std::vector<Sample> samples() {
    auto out = unary_samples();
    out.push_back({.inputs = {{DType::kFloat, {33}, Fill::kNormal}}, .attributes = {{"alpha", 2.0f}}, .opset = 12});
    return out;
  }
};
OCIOR_OPERATOR(Celu)

// gamma * x where x > 0, gamma * alpha * (exp(x) - 1) elsewhere.
struct Selu : Unary<Selu> {
  static constexpr OpInfo info{.name = "Selu", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<SeluFormula>("Selu");
  static UnaryParameters read(const NodeReader& node) {  // opset 1 rounded its defaults to four digits
    const bool first = node.opset() < 6;
    return {node.number("alpha", first ? 1.6732f : 1.67326319217681884765625f),
            node.number("gamma", first ? 1.0507f : 1.05070102214813232421875f)};
  }
  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return unary_run(spec, parameters, c);
    const auto alpha = static_cast<float>(parameters.p), gamma = static_cast<float>(parameters.q);
    const KernelTable& k = c.kernels();
    for_items(c, c.in(0).count(), 1, [&](int64_t begin, int64_t end) {
      float* y = c.out(0).as<float>() + begin;
      k.unary_f32(UnaryFn::kElu, c.in(0).as<const float>() + begin, y, end - begin, alpha, 0);
      k.binary_f32(BinaryFn::kMul, y, 1, &gamma, 0, y, end - begin);
    });
    return {};
  }
  static std::vector<Sample> samples() {
    auto out = unary_samples();
    out.push_back({.inputs = {{DType::kFloat, {33}, Fill::kNormal}}, .attributes = {{"alpha", 2.0f}, {"gamma", 3.0f}}});
    out.push_back({.inputs = {{DType::kFloat, {33}, Fill::kNormal}},
                   .attributes = {{"consumed_inputs", std::vector<int64_t>{0}}},
                   .opset = 1});
    return out;
  }
};
OCIOR_OPERATOR(Selu)

// x / (1 + |x|).
struct Softsign : Unary<Softsign> {
  static constexpr OpInfo info{.name = "Softsign", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<SoftsignFormula>("Softsign");
  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return unary_run(spec, parameters, c);
    for_items(c, c.in(0).count(), 1, [&](int64_t begin, int64_t end) {
      const auto* x = c.in(0).as<const float>();
      auto* y = c.out(0).as<float>();
      for (int64_t i = begin; i < end; ++i) y[i] = x[i] / (1 + std::fabs(x[i]));
    });
    return {};
  }
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Softsign)

// x where x > alpha, 0 elsewhere.
struct ThresholdedRelu : Unary<ThresholdedRelu> {
  static constexpr OpInfo info{.name = "ThresholdedRelu", .since = 10, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<ThresholdedReluFormula>("ThresholdedRelu");
  static UnaryParameters read(const NodeReader& node) { return read_alpha(node, 1); }
  static std::vector<Sample> samples() {
    auto out = unary_samples();
    out.push_back({.inputs = {{DType::kFloat, {4}, Fill::kZeros, {-1, 0.5, 0.75, 2}}}, .attributes = {{"alpha", 0.5f}}});
    return out;
  }
};
OCIOR_OPERATOR(ThresholdedRelu)

// x + bias where x < -lambd, x - bias where x > lambd, 0 between.
struct Shrink : Unary<Shrink> {
  static constexpr OpInfo info{.name = "Shrink", .since = 9, .in_place = 1};
  static constexpr UnarySpec spec = [] {
    UnarySpec all = number_spec<ShrinkFormula>("Shrink");
    all.natural = &unary_strip<ShrinkFormula, uint64_t>;
    return all;
  }();
  static UnaryParameters read(const NodeReader& node) { return {node.number("lambd", 0.5f), node.number("bias", 0)}; }
  static std::vector<Sample> samples() {
    const std::initializer_list<DType> integers = {DType::kInt8,  DType::kInt16,  DType::kInt32,  DType::kInt64,
                                                   DType::kUint8, DType::kUint16, DType::kUint32, DType::kUint64};
    auto out = unary_samples(Fill::kNormal, integers);
    for (const DType t : {DType::kFloat, DType::kInt32, DType::kInt64, DType::kUint8})
      out.push_back({.inputs = {{t, {33}, Fill::kNormal}}, .attributes = {{"lambd", 1.5f}, {"bias", 1.5f}}});
    return out;
  }
};
OCIOR_OPERATOR(Shrink)

// x * sigmoid(alpha * x).
struct Swish : Unary<Swish> {
  static constexpr OpInfo info{.name = "Swish", .since = 24, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<SwishFormula>("Swish");
  static constexpr UnarySpec silu = real_spec<SwishFormula>("Swish", UnaryFn::kSilu);  // alpha is 1
  static UnaryParameters read(const NodeReader& node) { return read_alpha(node, 1); }
  Status run(CpuContext& c) const { return unary_run(parameters.p == 1 ? silu : spec, parameters, c); }
  static std::vector<Sample> samples() {
    auto out = unary_samples();
    for (const float alpha : {0.5f, -1.0f, 0.0f})
      out.push_back({.inputs = {{DType::kFloat, {33}, Fill::kNormal}}, .attributes = {{"alpha", alpha}}});
    return out;
  }
};
OCIOR_OPERATOR(Swish)

// x * tanh(log(1 + exp(x))).
struct Mish : Unary<Mish> {
  static constexpr OpInfo info{.name = "Mish", .since = 18, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<MishFormula>("Mish");
  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return unary_run(spec, parameters, c);
    const KernelTable& k = c.kernels();
    for_items(c, c.in(0).count(), 1, [&](int64_t begin, int64_t end) {
      alignas(64) float gate[kStrip];
      for (int64_t at = begin; at < end; at += kStrip) {
        const int64_t n = std::min(kStrip, end - at);
        const float* x = c.in(0).as<const float>() + at;
        k.unary_f32(UnaryFn::kSoftplus, x, gate, n, 0, 0);
        k.unary_f32(UnaryFn::kTanh, gate, gate, n, 0, 0);
        k.binary_f32(BinaryFn::kMul, x, 1, gate, 1, c.out(0).as<float>() + at, n);
      }
    });
    return {};
  }
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Mish)

// min(max(x, lo), hi); bounds are attributes before opset 11 and scalar inputs, both optional, since. With lo > hi all become hi.
struct Clip {
  static constexpr OpInfo info{.name = "Clip", .max_inputs = 3, .in_place = 1};
  std::optional<float> lo, hi;

  static Clip parse(const NodeReader& node) {
    Clip op;
    if (node.opset() >= 11) return op;
    if (node.opset() < 6) node.ignore("consumed_inputs");
    if (node.inputs() > 1) node.fail("bounds are attributes before opset 11, got {} inputs", node.inputs());
    // Opset 6 says that without bounds those of float hold, which infinity is beyond of.
    const float most = std::numeric_limits<float>::max();
    if (node.has("min") || node.opset() >= 6) op.lo = node.number("min", -most);
    if (node.has("max") || node.opset() >= 6) op.hi = node.number("max", most);
    return op;
  }

  Status infer(ShapeContext& c) const {
    for (int i = 0; i < 3; ++i) {
      OCIOR_RETURN_IF_ERROR(check_type(c, i, kNumbers, "Clip"));
      if (i == 0 || !c.has(i)) continue;
      OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, i, "Clip"));
      const auto count = ranked(c, i) ? known_product(*c.shape(i)) : std::nullopt;
      if (count && *count != 1)
        return error(Code::kInvalidArgument, "Clip: input {} must be a scalar, got {}", i, c.in(i).text());
    }
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    return apply(x.dtype(), x.data(), c.out(0).data(), bound(c, 1), bound(c, 2), 0, x.count());
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    const void *low = bound(c, 1), *high = bound(c, 2);
    if (x.dtype == DType::kFloat) {
      const float infinity = std::numeric_limits<float>::infinity();
      const float p = low ? *static_cast<const float*>(low) : lo.value_or(-infinity);
      const float q = high ? *static_cast<const float*>(high) : hi.value_or(infinity);
      if (!std::isnan(p) && !std::isnan(q)) {
        const auto kernel = c.kernels().unary_f32;
        for_items(c, x.count(), 1, [&](int64_t begin, int64_t end) {
          kernel(UnaryFn::kClip, x.as<const float>() + begin, c.out(0).as<float>() + begin, end - begin, p, q);
        });
        return {};
      }
    }
    for_items(c, x.count(), 1,
              [&](int64_t begin, int64_t end) { (void)apply(x.dtype, x.data, c.out(0).data, low, high, begin, end); });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16, DType::kInt8, DType::kInt32,
                          DType::kInt64, DType::kUint8, DType::kUint64}) {
      const SampleInput low{t, {}, Fill::kZeros, {is_floating(t) ? -0.25 : 2}},
          high{t, {}, Fill::kZeros, {is_floating(t) ? 0.5 : 7}};
      const SampleInput none{.omitted = true};
      for (const Shape& shape : {Shape{3, 17}, Shape{}, Shape{0}}) {
        out.push_back({.inputs = {{t, shape}, low, high}});
        out.push_back({.inputs = {{t, shape}, low}});
        out.push_back({.inputs = {{t, shape}, none, high}});
        out.push_back({.inputs = {{t, shape}}});
      }
      out.push_back({.inputs = {{t, {9}}, high, low}});
    }
    out.push_back(
        {.inputs = {{DType::kFloat, {77}, Fill::kSpecials}}, .attributes = {{"min", -1.0f}, {"max", 1.0f}}, .opset = 6});
    out.push_back({.inputs = {{DType::kFloat, {200, 700}}}, .attributes = {{"max", 0.5f}}, .opset = 1});
    out.push_back({.inputs = {{DType::kFloat, {77}, Fill::kSpecials}}, .opset = 6});
    out.push_back({.inputs = {{DType::kDouble, {77}, Fill::kSpecials}}, .opset = 6});
    return out;
  }

 private:
  static const void* bound(RefContext& c, int i) { return c.has(i) && c.in(i).count() == 1 ? c.in(i).data() : nullptr; }
  static const void* bound(CpuContext& c, int i) { return c.has(i) && c.in(i).count() == 1 ? c.in(i).data : nullptr; }

  Status apply(DType t, const void* x, void* y, const void* low, const void* high, int64_t begin, int64_t end) const {
    visit_kind(kind_of(t), [&](auto zero) {
      using C = decltype(zero);
      alignas(64) C in[kStrip], out[kStrip];
      C p = 0, q = 0;
      if (low) p = *load<C>(t, low, 0, 1, &p);
      else if (lo) p = static_cast<C>(*lo);
      if (high) q = *load<C>(t, high, 0, 1, &q);
      else if (hi) q = static_cast<C>(*hi);
      for (int64_t at = begin; at < end; at += kStrip) {
        const int64_t n = std::min(kStrip, end - at);
        const C* values = load<C>(t, x, at, n, in);
        for (int64_t i = 0; i < n; ++i) {
          out[i] = values[i];
          if ((low || lo) && out[i] < p) out[i] = p;
          if ((high || hi) && out[i] > q) out[i] = q;
        }
        store<C>(t, y, at, n, out);
      }
    });
    return {};
  }
};
OCIOR_OPERATOR(Clip)

}  // namespace ocior::ops
