// Add, Sub, Mul, Div, Pow and Mod. Integers wrap around as two's complement does.
#include <cmath>

#include "ops/math/binary.h"

namespace ocior::ops {
namespace {

// Signed arithmetic that wraps.
template <class C, class F>
C wrapping(C a, C b, F f) {
  if constexpr (std::is_same_v<C, double>) return f(a, b);
  else return static_cast<C>(f(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
}

struct AddFormula {
  template <class C>
  static C apply(C a, C b) {
    return wrapping(a, b, [](auto x, auto y) { return x + y; });
  }
};
struct SubFormula {
  template <class C>
  static C apply(C a, C b) {
    return wrapping(a, b, [](auto x, auto y) { return x - y; });
  }
};
struct MulFormula {
  template <class C>
  static C apply(C a, C b) {
    return wrapping(a, b, [](auto x, auto y) { return x * y; });
  }
};

struct DivFormula {  // truncates; divisors of 0 were refused before
  static double apply(double a, double b) { return a / b; }
  static uint64_t apply(uint64_t a, uint64_t b) { return a / b; }
  static int64_t apply(int64_t a, int64_t b) { return b == -1 ? static_cast<int64_t>(-static_cast<uint64_t>(a)) : a / b; }
};

struct PowFormula {
  static double apply(double a, double b) { return std::pow(a, b); }
  static uint64_t apply(uint64_t a, uint64_t b) {
    uint64_t power = 1;
    for (; b; b >>= 1, a *= a)
      if (b & 1) power *= a;
    return power;
  }
  static int64_t apply(int64_t a, int64_t b) {  // a negative power is a fraction: truncated, 1 / 0 gives the largest
    if (b >= 0) return static_cast<int64_t>(apply(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
    if (a == 0) return INT64_MAX;
    return a == 1 ? 1 : a == -1 ? (b % 2 ? -1 : 1) : 0;
  }
};

struct ModFormula {  // Python's %: the sign of the divisor
  static double apply(double a, double b) {
    const double r = std::fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  }
  static uint64_t apply(uint64_t a, uint64_t b) { return a % b; }
  static int64_t apply(int64_t a, int64_t b) {
    if (b == -1) return 0;
    const int64_t r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  }
};

struct FmodFormula {  // C's fmod: the sign of the dividend
  static double apply(double a, double b) { return std::fmod(a, b); }
  static uint64_t apply(uint64_t a, uint64_t b) { return a % b; }
  static int64_t apply(int64_t a, int64_t b) { return b == -1 ? 0 : a % b; }
};

constexpr BinarySpec spec_of(BinarySpec spec, std::optional<BinaryFn> kernel, std::optional<Dim> (*dims)(const Dim&, const Dim&),
                             bool divides = false) {
  spec.kernel = kernel;
  spec.dims = dims;
  spec.divides = divides;
  return spec;
}

std::optional<Dim> add(const Dim& a, const Dim& b) { return a + b; }
std::optional<Dim> subtract(const Dim& a, const Dim& b) { return a - b; }
std::optional<Dim> multiply(const Dim& a, const Dim& b) { return a * b; }
std::optional<Dim> divide(const Dim& a, const Dim& b) {
  if (b.known() && b.value() == 0) return std::nullopt;
  return Dim::quotient(a, b);
}
std::optional<Dim> modulo(const Dim& a, const Dim& b) {
  if (!a.known() || !b.known() || b.value() == 0) return std::nullopt;
  return Dim(ModFormula::apply(a.value(), b.value()));
}

const std::initializer_list<DType> kEveryNumber = {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16,
                                                   DType::kInt8,  DType::kInt16,  DType::kInt32,   DType::kInt64,
                                                   DType::kUint8, DType::kUint16, DType::kUint32,  DType::kUint64};

}  // namespace

// a + b.
struct Add : Binary<Add> {
  static constexpr OpInfo info{.name = "Add", .min_inputs = 2, .max_inputs = 2, .in_place = 3};
  static constexpr BinarySpec spec = spec_of(binary_spec<AddFormula>("Add", kNumbers), BinaryFn::kAdd, &add);
  static std::vector<Sample> samples() { return binary_samples(kEveryNumber); }
};
OCIOR_OPERATOR(Add)

// a - b.
struct Sub : Binary<Sub> {
  static constexpr OpInfo info{.name = "Sub", .min_inputs = 2, .max_inputs = 2, .in_place = 3};
  static constexpr BinarySpec spec = spec_of(binary_spec<SubFormula>("Sub", kNumbers), BinaryFn::kSub, &subtract);
  static std::vector<Sample> samples() { return binary_samples(kEveryNumber); }
};
OCIOR_OPERATOR(Sub)

// a * b.
struct Mul : Binary<Mul> {
  static constexpr OpInfo info{.name = "Mul", .min_inputs = 2, .max_inputs = 2, .in_place = 3};
  static constexpr BinarySpec spec = spec_of(binary_spec<MulFormula>("Mul", kNumbers), BinaryFn::kMul, &multiply);
  static std::vector<Sample> samples() {
    auto out = binary_samples(kEveryNumber);
    out.push_back({.inputs = {{DType::kFloat, {97}, Fill::kSpecials}, {DType::kFloat, {97}, Fill::kUniform}}});
    return out;
  }
};
OCIOR_OPERATOR(Mul)

// a / b; integers truncate.
struct Div : Binary<Div> {
  static constexpr OpInfo info{.name = "Div", .min_inputs = 2, .max_inputs = 2, .in_place = 3};
  static constexpr BinarySpec spec = spec_of(binary_spec<DivFormula>("Div", kNumbers), BinaryFn::kDiv, &divide, true);
  static std::vector<Sample> samples() {
    auto out = binary_samples(kEveryNumber, Fill::kUniform, Fill::kPositive);
    out.push_back({.inputs = {{DType::kFloat, {97}, Fill::kSpecials}, {DType::kFloat, {97}, Fill::kPositive}}});
    out.push_back({.inputs = {{DType::kFloat, {3}, Fill::kZeros, {1, -1, 0}}, {DType::kFloat, {3}, Fill::kZeros}}});
    out.push_back(
        {.inputs = {{DType::kInt64, {4}, Fill::kZeros, {-7, 7, -7, 7}}, {DType::kInt64, {4}, Fill::kZeros, {2, -2, -2, -1}}}});
    return out;
  }
};
OCIOR_OPERATOR(Div)

// a to the power of b, in a's element type.
struct Pow : Binary<Pow> {
  static constexpr OpInfo info{.name = "Pow", .min_inputs = 2, .max_inputs = 2, .in_place = 1};
  static constexpr BinarySpec spec = spec_of(binary_spec<PowFormula>("Pow", kNumbers), BinaryFn::kPow, nullptr);
  static std::vector<Sample> samples() {
    auto out = binary_samples({DType::kFloat, DType::kDouble, DType::kFloat16, DType::kInt32, DType::kInt64}, Fill::kPositive,
                              Fill::kSmallInts);
    for (Sample& s : out) s.tolerance = 1e-5;
    out.push_back(
        {.inputs = {{DType::kFloat, {7}, Fill::kZeros, {-2, -1, 0, 0.5, 2, 3, -3}}, {DType::kFloat, {}, Fill::kZeros, {2}}}});
    out.push_back({.inputs = {{DType::kFloat, {5}, Fill::kZeros, {-8, 0, 1, 4, 9}}, {DType::kFloat, {}, Fill::kZeros, {0.5}}}});
    out.push_back(
        {.inputs = {{DType::kFloat, {2, 3}, Fill::kPositive}, {DType::kInt64, {3}, Fill::kSmallInts}}, .tolerance = 1e-5});
    out.push_back({.inputs = {{DType::kInt32, {2, 3}, Fill::kPositive}, {DType::kFloat, {3}, Fill::kPositive}}});
    return out;
  }
};
OCIOR_OPERATOR(Pow)

// The remainder with the divisor's sign, or with the dividend's where fmod = 1.
struct Mod {
  static constexpr OpInfo info{.name = "Mod", .since = 10, .min_inputs = 2, .max_inputs = 2, .in_place = 3};
  static constexpr BinarySpec python = spec_of(binary_spec<ModFormula>("Mod", kNumbers), std::nullopt, &modulo, true);
  static constexpr BinarySpec fmod = spec_of(binary_spec<FmodFormula>("Mod", kNumbers), std::nullopt, nullptr, true);
  const BinarySpec* spec = &python;

  static Mod parse(const NodeReader& node) { return {node.integer("fmod", 0) ? &fmod : &python}; }
  Status infer(ShapeContext& c) const { return binary_infer(*spec, {}, c); }
  Status reference(RefContext& c) const { return binary_reference(*spec, {}, c); }
  Status run(CpuContext& c) const { return binary_run(*spec, {}, c); }

  static std::vector<Sample> samples() {
    const std::vector<double> a = {-7, 7, -7, 7, 6, -128}, b = {3, -3, -3, 3, 2, -1};
    std::vector<Sample> out;
    for (const DType t : {DType::kInt8, DType::kInt32, DType::kInt64, DType::kFloat, DType::kDouble, DType::kFloat16})
      for (const int64_t fmod : {0, 1})
        out.push_back({.inputs = {{t, {6}, Fill::kZeros, a}, {t, {6}, Fill::kZeros, b}}, .attributes = {{"fmod", fmod}}});
    for (const DType t : {DType::kUint8, DType::kUint64, DType::kInt64})
      out.push_back({.inputs = {{t, {3, 4}, Fill::kPositive}, {t, {4}, Fill::kPositive}}});
    return out;
  }
};
OCIOR_OPERATOR(Mod)

}  // namespace ocior::ops
