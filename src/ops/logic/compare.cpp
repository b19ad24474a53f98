// Equal, Greater, GreaterOrEqual, Less, LessOrEqual, And, Or, Xor and Not.
#include "ops/math/binary.h"
#include "ops/math/unary.h"

namespace ocior::ops {
namespace {

struct EqualFormula {
  template <class C>
  static C apply(C a, C b) {
    return a == b;
  }
};
struct GreaterFormula {
  template <class C>
  static C apply(C a, C b) {
    return a > b;
  }
};
struct GreaterOrEqualFormula {
  template <class C>
  static C apply(C a, C b) {
    return a >= b;
  }
};
struct LessFormula {
  template <class C>
  static C apply(C a, C b) {
    return a < b;
  }
};
struct LessOrEqualFormula {
  template <class C>
  static C apply(C a, C b) {
    return a <= b;
  }
};
struct AndFormula {
  template <class C>
  static C apply(C a, C b) {
    return (a != 0) & (b != 0);
  }
};
struct OrFormula {
  template <class C>
  static C apply(C a, C b) {
    return (a != 0) | (b != 0);
  }
};
struct XorFormula {
  template <class C>
  static C apply(C a, C b) {
    return (a != 0) != (b != 0);
  }
};
struct NotFormula {
  static double apply(double x) { return !x; }
  static int64_t apply(int64_t x) { return !x; }
};

// Equality of dims is known for equal ones, for numbers, and between a size and a negative number.
std::optional<Dim> equal(const Dim& a, const Dim& b) {
  if (a == b) return Dim(1);
  if (a.known() && b.known()) return Dim(0);
  const Dim &number = a.known() ? a : b, &other = a.known() ? b : a;
  const bool sum_of_sizes = other.text().find_first_of("-(") == std::string::npos;
  if (number.known() && number.value() < 0 && sum_of_sizes) return Dim(0);
  return std::nullopt;
}

template <class F>
std::optional<Dim> on_numbers(const Dim& a, const Dim& b) {
  if (!a.known() || !b.known()) return std::nullopt;
  return Dim(F::template apply<int64_t>(a.value(), b.value()));
}

template <class F>
constexpr BinarySpec comparison(std::string_view name, TypeSet types,
                                std::optional<Dim> (*dims)(const Dim&, const Dim&) = &on_numbers<F>) {
  BinarySpec spec = binary_spec<F>(name, types);
  spec.to_bool = true;
  spec.tests = test_strips<F>();
  spec.dims = dims;
  return spec;
}

constexpr TypeSet kEquatable = kNumbers | kBools | kStrings;

std::vector<Sample> comparison_samples(bool bools = false) {
  std::vector<Sample> out;
  if (bools) out = binary_samples({DType::kBool}, Fill::kBools, Fill::kBools);
  else
    out = binary_samples({DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16, DType::kInt8, DType::kInt32,
                          DType::kInt64, DType::kUint8, DType::kUint64},
                         Fill::kSmallInts, Fill::kSmallInts);
  if (!bools) out.push_back({.inputs = {{DType::kFloat, {203}, Fill::kSpecials}, {DType::kFloat, {203}, Fill::kSpecials}}});
  return out;
}

void equal_strings(const std::string* a, const std::string* b, uint8_t* y, const BroadcastLoop& loop) {
  loop.strips(0, loop.total(), kStrip, [&](int64_t at, const auto& offset, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[at + i] = a[offset[0] + i * loop.step(0)] == b[offset[1] + i * loop.step(1)];
  });
}

}  // namespace

// a == b; also of strings (opset 19) and bools.
struct Equal : Binary<Equal> {
  static constexpr OpInfo info{.name = "Equal", .min_inputs = 2, .max_inputs = 2};
  static constexpr BinarySpec spec = comparison<EqualFormula>("Equal", kEquatable, &equal);

  Status reference(RefContext& c) const {
    if (c.in(0).dtype() != DType::kString) return binary_reference(spec, old, c);
    BroadcastLoop loop;
    OCIOR_RETURN_IF_ERROR(loop.plan(c.out(0).shape(), {c.in(0).shape(), c.in(1).shape()}));
    equal_strings(c.in(0).as<std::string>(), c.in(1).as<std::string>(), c.out(0).as<uint8_t>(), loop);
    return {};
  }
  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kString) return binary_run(spec, old, c);
    BroadcastLoop loop;
    OCIOR_RETURN_IF_ERROR(loop.plan(c.out(0).shape, {c.in(0).shape, c.in(1).shape}));
    equal_strings(c.in(0).as<const std::string>(), c.in(1).as<const std::string>(), c.out(0).as<uint8_t>(), loop);
    return {};
  }
  static std::vector<Sample> samples() {
    auto out = comparison_samples();
    out.push_back({.inputs = {{DType::kString, {3, 4}, Fill::kSmallInts}, {DType::kString, {4}, Fill::kSmallInts}}});
    out.push_back({.inputs = {{DType::kBool, {9}, Fill::kBools}, {DType::kBool, {9}, Fill::kBools}}});
    return out;
  }
};
OCIOR_OPERATOR(Equal)

struct Greater : Binary<Greater> {
  static constexpr OpInfo info{.name = "Greater", .min_inputs = 2, .max_inputs = 2};
  static constexpr BinarySpec spec = comparison<GreaterFormula>("Greater", kNumbers);
  static std::vector<Sample> samples() { return comparison_samples(); }
};
OCIOR_OPERATOR(Greater)

struct GreaterOrEqual : Binary<GreaterOrEqual> {
  static constexpr OpInfo info{.name = "GreaterOrEqual", .since = 12, .min_inputs = 2, .max_inputs = 2};
  static constexpr BinarySpec spec = comparison<GreaterOrEqualFormula>("GreaterOrEqual", kNumbers);
  static std::vector<Sample> samples() { return without_old(comparison_samples()); }
  static std::vector<Sample> without_old(std::vector<Sample> all) {
    std::erase_if(all, [](const Sample& s) { return s.opset != 0; });
    return all;
  }
};
OCIOR_OPERATOR(GreaterOrEqual)

struct Less : Binary<Less> {
  static constexpr OpInfo info{.name = "Less", .min_inputs = 2, .max_inputs = 2};
  static constexpr BinarySpec spec = comparison<LessFormula>("Less", kNumbers);
  static std::vector<Sample> samples() { return comparison_samples(); }
};
OCIOR_OPERATOR(Less)

struct LessOrEqual : Binary<LessOrEqual> {
  static constexpr OpInfo info{.name = "LessOrEqual", .since = 12, .min_inputs = 2, .max_inputs = 2};
  static constexpr BinarySpec spec = comparison<LessOrEqualFormula>("LessOrEqual", kNumbers);
  static std::vector<Sample> samples() { return GreaterOrEqual::without_old(comparison_samples()); }
};
OCIOR_OPERATOR(LessOrEqual)

struct And : Binary<And> {
  static constexpr OpInfo info{.name = "And", .min_inputs = 2, .max_inputs = 2, .in_place = 3};
  static constexpr BinarySpec spec = comparison<AndFormula>("And", kBools);
  static std::vector<Sample> samples() { return comparison_samples(true); }
};
OCIOR_OPERATOR(And)

struct Or : Binary<Or> {
  static constexpr OpInfo info{.name = "Or", .min_inputs = 2, .max_inputs = 2, .in_place = 3};
  static constexpr BinarySpec spec = comparison<OrFormula>("Or", kBools);
  static std::vector<Sample> samples() { return comparison_samples(true); }
};
OCIOR_OPERATOR(Or)

struct Xor : Binary<Xor> {
  static constexpr OpInfo info{.name = "Xor", .min_inputs = 2, .max_inputs = 2, .in_place = 3};
  static constexpr BinarySpec spec = comparison<XorFormula>("Xor", kBools);
  static std::vector<Sample> samples() { return comparison_samples(true); }
};
OCIOR_OPERATOR(Xor)

struct Not : Unary<Not> {
  static constexpr OpInfo info{.name = "Not", .in_place = 1};
  static constexpr UnarySpec spec{
      .name = "Not",
      .types = kBools,
      .real = &unary_strip<NotFormula, double>,
      .integer = &unary_strip<NotFormula, int64_t>,
      .to_bool = true,
      .dims = [](const Dim& x) { return x.known() ? std::optional<Dim>(x.value() == 0) : std::nullopt; }};
  static std::vector<Sample> samples() {
    return {{.inputs = {{DType::kBool, {3, 5}, Fill::kBools}}},
            {.inputs = {{DType::kBool, {}, Fill::kBools}}},
            {.inputs = {{DType::kBool, {0}}}}};
  }
};
OCIOR_OPERATOR(Not)

}  // namespace ocior::ops
