// The trigonometric and hyperbolic functions that the kernel table does not have: Tan, Sinh, Cosh and all inverses.
#include "ops/math/unary.h"

namespace ocior::ops {
namespace {

struct TanFormula {
  static double apply(double x) { return std::tan(x); }
};
struct AsinFormula {
  static double apply(double x) { return std::asin(x); }
};
struct AcosFormula {
  static double apply(double x) { return std::acos(x); }
};
struct AtanFormula {
  static double apply(double x) { return std::atan(x); }
};
struct SinhFormula {
  static double apply(double x) { return std::sinh(x); }
};
struct CoshFormula {
  static double apply(double x) { return std::cosh(x); }
};
struct AsinhFormula {
  static double apply(double x) { return std::asinh(x); }
};
struct AcoshFormula {
  static double apply(double x) { return std::acosh(x); }
};
struct AtanhFormula {
  static double apply(double x) { return std::atanh(x); }
};

// Both sides of the ends of [-1, 1], where the inverses stop.
std::vector<Sample> inverse_samples(Fill fill = Fill::kUniform) {
  auto out = unary_samples(fill);
  out.push_back({.inputs = {{DType::kFloat, {9}, Fill::kZeros, {-2, -1, -0.999, -0.5, 0, 0.5, 0.999, 1, 2}}}});
  return out;
}

}  // namespace

struct Tan : Unary<Tan> {
  static constexpr OpInfo info{.name = "Tan", .since = 7, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<TanFormula>("Tan");
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Tan)

struct Asin : Unary<Asin> {
  static constexpr OpInfo info{.name = "Asin", .since = 7, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<AsinFormula>("Asin");
  static std::vector<Sample> samples() { return inverse_samples(); }
};
OCIOR_OPERATOR(Asin)

struct Acos : Unary<Acos> {
  static constexpr OpInfo info{.name = "Acos", .since = 7, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<AcosFormula>("Acos");
  static std::vector<Sample> samples() { return inverse_samples(); }
};
OCIOR_OPERATOR(Acos)

struct Atan : Unary<Atan> {
  static constexpr OpInfo info{.name = "Atan", .since = 7, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<AtanFormula>("Atan");
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Atan)

struct Sinh : Unary<Sinh> {
  static constexpr OpInfo info{.name = "Sinh", .since = 9, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<SinhFormula>("Sinh");
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Sinh)

struct Cosh : Unary<Cosh> {
  static constexpr OpInfo info{.name = "Cosh", .since = 9, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<CoshFormula>("Cosh");
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Cosh)

struct Asinh : Unary<Asinh> {
  static constexpr OpInfo info{.name = "Asinh", .since = 9, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<AsinhFormula>("Asinh");
  static std::vector<Sample> samples() { return unary_samples(); }
};
OCIOR_OPERATOR(Asinh)

struct Acosh : Unary<Acosh> {
  static constexpr OpInfo info{.name = "Acosh", .since = 9, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<AcoshFormula>("Acosh");
  static std::vector<Sample> samples() { return inverse_samples(Fill::kPositive); }
};
OCIOR_OPERATOR(Acosh)

struct Atanh : Unary<Atanh> {
  static constexpr OpInfo info{.name = "Atanh", .since = 9, .in_place = 1};
  static constexpr UnarySpec spec = real_spec<AtanhFormula>("Atanh");
  static std::vector<Sample> samples() { return inverse_samples(); }
};
OCIOR_OPERATOR(Atanh)

}  // namespace ocior::ops
