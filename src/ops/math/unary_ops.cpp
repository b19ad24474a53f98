// The one-line functions of one input: Neg to IsInf. Formulas as the ONNX operator documentation gives them.
#include "ops/math/unary.h"

namespace ocior::ops {
namespace {

struct NegFormula {
  static double apply(double x) { return -x; }
  static int64_t apply(int64_t x) { return static_cast<int64_t>(-static_cast<uint64_t>(x)); }
};
struct AbsFormula {
  static double apply(double x) { return std::fabs(x); }
  static int64_t apply(int64_t x) { return x < 0 ? NegFormula::apply(x) : x; }
};
struct SignFormula {
  static double apply(double x) { return std::isnan(x) ? x : (x > 0) - (x < 0); }
  static int64_t apply(int64_t x) { return (x > 0) - (x < 0); }
  static uint64_t apply(uint64_t x) { return x > 0; }
};
struct SqrtFormula {
  static double apply(double x) { return std::sqrt(x); }
};
struct ReciprocalFormula {
  static double apply(double x) { return 1 / x; }
};
struct ExpFormula {
  static double apply(double x) { return std::exp(x); }
};
struct LogFormula {
  static double apply(double x) { return std::log(x); }
};
struct ErfFormula {
  static double apply(double x) { return std::erf(x); }
  static int64_t apply(int64_t x) { return static_cast<int64_t>(std::erf(static_cast<double>(x))); }
  static uint64_t apply(uint64_t x) { return static_cast<uint64_t>(std::erf(static_cast<double>(x))); }
};
struct FloorFormula {
  static double apply(double x) { return std::floor(x); }
};
struct CeilFormula {
  static double apply(double x) { return std::ceil(x); }
};
struct RoundFormula {
  static double apply(double x) { return std::nearbyint(x); }
};  // halves to even
struct SinFormula {
  static double apply(double x) { return std::sin(x); }
};
struct CosFormula {
  static double apply(double x) { return std::cos(x); }
};
struct IsNanFormula {
  static double apply(double x) { return std::isnan(x); }
};
struct IsInfFormula {
  static double apply(double x, const UnaryParameters& detect) { return std::isinf(x) && (x > 0 ? detect.p : detect.q) != 0; }
};

std::optional<Dim> negate(const Dim& x) { return Dim(-1) * x; }

constexpr UnarySpec with_dims(UnarySpec spec, std::optional<Dim> (*dims)(const Dim&)) {
  spec.dims = dims;
  return spec;
}
constexpr UnarySpec test_spec(UnarySpec spec, TypeSet types) {
  spec.to_bool = true;
  spec.types = types;
  return spec;
}
template <class F>
constexpr UnarySpec every_spec(std::string_view name, UnaryFn kernel) {
  UnarySpec spec = number_spec<F>(name, kernel);
  spec.natural = &unary_strip<F, uint64_t>;
  return spec;
}

constexpr TypeSet kSmallFloats = types(DType::kFloat8E4M3FN, DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2, DType::kFloat8E5M2FNUZ);
constexpr std::initializer_list<DType> kSignedTypes = {DType::kInt8, DType::kInt16, DType::kInt32, DType::kInt64};
constexpr std::initializer_list<DType> kIntTypes = {DType::kInt8,  DType::kInt16,  DType::kInt32,  DType::kInt64,
                                                    DType::kUint8, DType::kUint16, DType::kUint32, DType::kUint64};

}  // namespace

struct Neg : Unary<Neg> {
  static constexpr OpInfo info{.name = "Neg", .in_place = 1};
  static constexpr UnarySpec spec = with_dims(number_spec<NegFormula>("Neg", UnaryFn::kNeg), &negate);
  static std::vector<Sample> samples() { return unary_samples(Fill::kNormal, kSignedTypes); }
};
OCIOR_OPERATOR(Neg)

struct Abs : Unary<Abs> {
  static constexpr OpInfo info{.name = "Abs", .in_place = 1};
  static constexpr UnarySpec spec = number_spec<AbsFormula>("Abs", UnaryFn::kAbs);
  static std::vector<Sample> samples() { return unary_samples(Fill::kNormal, kIntTypes); }
};
OCIOR_OPERATOR(Abs)

struct Sign : Unary<Sign> {
  static constexpr OpInfo info{.name = "Sign", .since = 9, .in_place = 1};
  static constexpr UnarySpec spec = every_spec<SignFormula>("Sign", UnaryFn::kSign);
  static std::vector<Sample> samples() { return unary_samples(Fill::kNormal, kIntTypes); }
};
OCIOR_OPERATOR(Sign)

struct Sqrt : Unary<Sqrt> {
  static constexpr OpInfo info{.name = "Sqrt", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<SqrtFormula>("Sqrt", UnaryFn::kSqrt);
  static std::vector<Sample> samples() { return unary_samples(Fill::kPositive); }
};
OCIOR_OPERATOR(Sqrt)

struct Reciprocal : Unary<Reciprocal> {
  static constexpr OpInfo info{.name = "Reciprocal", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<ReciprocalFormula>("Reciprocal", UnaryFn::kReciprocal);
  static std::vector<Sample> samples() { return unary_samples(Fill::kPositive); }
};
OCIOR_OPERATOR(Reciprocal)

struct Exp : Unary<Exp> {
  static constexpr OpInfo info{.name = "Exp", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<ExpFormula>("Exp", UnaryFn::kExp);
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Exp)

struct Log : Unary<Log> {
  static constexpr OpInfo info{.name = "Log", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<LogFormula>("Log", UnaryFn::kLog);
  static std::vector<Sample> samples() { return unary_samples(Fill::kPositive); }
};
OCIOR_OPERATOR(Log)

// erf(x) = 2 / sqrt(pi) * the integral of exp(-t²) from 0 to x.
struct Erf : Unary<Erf> {
  static constexpr OpInfo info{.name = "Erf", .since = 9, .in_place = 1};
  static constexpr UnarySpec spec = every_spec<ErfFormula>("Erf", UnaryFn::kErf);
  static std::vector<Sample> samples() { return unary_samples(Fill::kNormal, kIntTypes); }
};
OCIOR_OPERATOR(Erf)

struct Floor : Unary<Floor> {
  static constexpr OpInfo info{.name = "Floor", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<FloorFormula>("Floor", UnaryFn::kFloor);
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Floor)

struct Ceil : Unary<Ceil> {
  static constexpr OpInfo info{.name = "Ceil", .in_place = 1};
  static constexpr UnarySpec spec = real_spec<CeilFormula>("Ceil", UnaryFn::kCeil);
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Ceil)

// To the nearest integer, halves to the even one.
struct Round : Unary<Round> {
  static constexpr OpInfo info{.name = "Round", .since = 11, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<RoundFormula>("Round", UnaryFn::kRound);
  static std::vector<Sample> samples() {
    auto out = unary_samples();
    out.push_back({.inputs = {{DType::kFloat, {8}, Fill::kZeros, {0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.4999999, 8388609}}}});
    return out;
  }
};
OCIOR_OPERATOR(Round)

struct Sin : Unary<Sin> {
  static constexpr OpInfo info{.name = "Sin", .since = 7, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<SinFormula>("Sin", UnaryFn::kSin);
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Sin)

struct Cos : Unary<Cos> {
  static constexpr OpInfo info{.name = "Cos", .since = 7, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<CosFormula>("Cos", UnaryFn::kCos);
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Cos)

struct IsNaN : Unary<IsNaN> {
  static constexpr OpInfo info{.name = "IsNaN", .since = 9};
  static constexpr UnarySpec spec = test_spec(real_spec<IsNanFormula>("IsNaN"), kFloats | kSmallFloats);
  static std::vector<Sample> samples() { return unary_samples(Fill::kSpecials); }
};
OCIOR_OPERATOR(IsNaN)

struct IsInf : Unary<IsInf> {
  static constexpr OpInfo info{.name = "IsInf", .since = 10};
  static constexpr UnarySpec spec = test_spec(real_spec<IsInfFormula>("IsInf"), kFloats | kSmallFloats);
  static UnaryParameters read(const NodeReader& node) {
    return {static_cast<double>(node.integer("detect_positive", 1)), static_cast<double>(node.integer("detect_negative", 1))};
  }
  static std::vector<Sample> samples() {
    auto out = unary_samples(Fill::kSpecials);
    out.push_back({.inputs = {{DType::kFloat, {99}, Fill::kSpecials}}, .attributes = {{"detect_negative", int64_t{0}}}});
    out.push_back({.inputs = {{DType::kFloat, {99}, Fill::kSpecials}}, .attributes = {{"detect_positive", int64_t{0}}}});
    return out;
  }
};
OCIOR_OPERATOR(IsInf)

}  // namespace ocior::ops
