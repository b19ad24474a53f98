// Element-wise functions of every table against double precision: all magnitudes with the stated error, special values, tails,
// aliasing.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "kernels/test_memory.h"
#include "kernels/test_tables.h"

namespace ocior {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

double sigmoid(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
double clip(double x, double lo, double hi) { return std::isnan(x) ? x : std::min(hi, std::max(lo, x)); }

struct Function {
  const char* name;
  UnaryFn fn;
  std::function<double(double)> exact;
  double ulp;                // allowed error in units of the last place …
  double absolute = 0;       // … or, where that is smaller, as an absolute number …
  double relative_to_x = 0;  // … or as a multiple of |x|
  float p = 0, q = 0;
  bool total = true;  // right at infinities too
};

// Below these bounds e^x is flushed to zero.
constexpr double kTiny = 1.7e-38;

const std::vector<Function>& functions() {
  static const std::vector<Function> all = {
      {"neg", UnaryFn::kNeg, [](double x) { return -x; }, 0},
      {"abs", UnaryFn::kAbs, [](double x) { return std::fabs(x); }, 0},
      {"sqrt", UnaryFn::kSqrt, [](double x) { return std::sqrt(x); }, 0.51},
      {"reciprocal", UnaryFn::kReciprocal, [](double x) { return 1 / x; }, 0.51},
      {"exp", UnaryFn::kExp, [](double x) { return std::exp(x); }, 1.01},
      {"log", UnaryFn::kLog, [](double x) { return std::log(x); }, 1},
      {"erf", UnaryFn::kErf, [](double x) { return std::erf(x); }, 2},
      {"tanh", UnaryFn::kTanh, [](double x) { return std::tanh(x); }, 2},
      {"sigmoid", UnaryFn::kSigmoid, sigmoid, 5, kTiny},
      {"relu", UnaryFn::kRelu, [](double x) { return std::isnan(x) ? x : std::max(0.0, x); }, 0},
      {"gelu_erf", UnaryFn::kGeluErf, [](double x) { return 0.5 * x * (1 + std::erf(x * M_SQRT1_2)); }, 1, 0, 2e-7},
      {"gelu_tanh", UnaryFn::kGeluTanh,
       [](double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }, 1, 0, 3e-7},
      {"silu", UnaryFn::kSilu, [](double x) { return x * sigmoid(x); }, 6, 90 * kTiny},
      {"hard_swish", UnaryFn::kHardSwish, [](double x) { return x * clip(x / 6 + 0.5, 0, 1); }, 2, 0, 2e-7},
      {"hard_sigmoid", UnaryFn::kHardSigmoid, [](double x) { return clip(0.25f * x + 0.375f, 0, 1); }, 1, 6e-8, 0, 0.25f, 0.375f},
      {"leaky_relu", UnaryFn::kLeakyRelu, [](double x) { return x < 0 ? 0.25 * x : x; }, 0.51, 0, 0, 0.25f},
      {"elu", UnaryFn::kElu, [](double x) { return x < 0 ? 1.5 * std::expm1(x) : x; }, 2, 0, 0, 1.5f},
      {"softplus", UnaryFn::kSoftplus, [](double x) { return x > 40 ? x : std::log1p(std::exp(x)); }, 5, kTiny},
      {"clip", UnaryFn::kClip, [](double x) { return clip(x, -0.5, 2.25); }, 0, 0, 0, -0.5f, 2.25f},
      {"floor", UnaryFn::kFloor, [](double x) { return std::floor(x); }, 0},
      {"ceil", UnaryFn::kCeil, [](double x) { return std::ceil(x); }, 0},
      {"round", UnaryFn::kRound, [](double x) { return std::nearbyint(x); }, 0},
      {"sign", UnaryFn::kSign, [](double x) { return std::isnan(x) ? x : static_cast<double>((x > 0) - (x < 0)); }, 0},
      {"sin", UnaryFn::kSin, [](double x) { return std::sin(x); }, 1.6},
      {"cos", UnaryFn::kCos, [](double x) { return std::cos(x); }, 1.6},
  };
  return all;
}

bool right(const Function& f, float x, float got) {
  const double want = f.exact(x), error = ulps(got, want);
  if (error <= f.ulp) return true;
  return std::isfinite(got) && std::isfinite(want) &&
         std::fabs(got - want) <= std::max(f.absolute, f.relative_to_x * std::fabs(x));
}

class Unary : public testing::TestWithParam<const KernelTable*> {
 protected:
  std::vector<float> run(const Function& f, const std::vector<float>& x) {
    std::vector<float> y(x.size());
    GetParam()->unary_f32(f.fn, x.data(), y.data(), static_cast<int64_t>(x.size()), f.p, f.q);
    return y;
  }
  void expect_right(const Function& f, const std::vector<float>& x) {
    const std::vector<float> y = run(f, x);
    int wrong = 0;
    for (size_t i = 0; i < x.size() && wrong < 5; ++i)
      if (!right(f, x[i], y[i])) {
        ++wrong;
        ADD_FAILURE() << f.name << "(" << x[i] << ") = " << y[i] << ", expected " << f.exact(x[i]) << " ("
                      << ulps(y[i], f.exact(x[i])) << " ULP)";
      }
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, Unary, testing::ValuesIn(tables_under_test()), TableName());

// Floats of all signs and magnitudes; every NaN and infinity among them.
TEST_P(Unary, EveryMagnitude) {
  std::vector<float> x;
  for (uint64_t bits = 0; bits < 1ull << 32; bits += 65521) {
    const uint32_t b = static_cast<uint32_t>(bits);
    float value;
    std::memcpy(&value, &b, sizeof value);
    x.push_back(value);
  }
  for (const Function& f : functions()) {
    std::vector<float> domain;
    // x³ of the GELU formula overflows in float where the result is plainly x or 0; sums of e^x and x² as well in the reference.
    const float limit = f.fn == UnaryFn::kGeluTanh || f.fn == UnaryFn::kGeluErf ? 1e12f : kInfinity;
    for (const float v : x)
      if (!(std::fabs(v) > limit)) domain.push_back(v);
    expect_right(f, domain);
  }
}

TEST_P(Unary, WhereTheFunctionsBend) {
  const std::vector<float> x = random_floats(20000, 1, -20, 20), near = random_floats(20000, 2, -1.2f, 1.2f);
  for (const Function& f : functions()) {
    expect_right(f, x);
    expect_right(f, near);
  }
}

TEST_P(Unary, SpecialValues) {
  const std::vector<float> x = {0.0f,    -0.0f,       1,      -1,      0.5f,   -0.5f, 1.5f,      2.5f,      -2.5f,   8388607.5f,
                                8388609, -8388607.5f, 1e-40f, -1e-40f, 1e-45f, 88.7f, 88.8f,     -87.3f,    -103.9f, -104.1f,
                                1e6f,    -1e6f,       1e7f,   3e38f,   -3e38f, NAN,   kInfinity, -kInfinity};
  for (const Function& f : functions()) {
    std::vector<float> domain;
    for (const float v : x) {
      const bool minus_infinity_times_zero = std::isinf(v) && v < 0 && std::isnan(f.exact(v));
      const bool overflows = f.fn == UnaryFn::kGeluTanh && std::fabs(v) > 1e12f && std::isfinite(v);
      if (!minus_infinity_times_zero && !overflows) domain.push_back(v);
    }
    expect_right(f, domain);
  }
  for (const UnaryFn fn :
       {UnaryFn::kSqrt, UnaryFn::kErf, UnaryFn::kTanh, UnaryFn::kFloor, UnaryFn::kCeil, UnaryFn::kRound, UnaryFn::kSin}) {
    const float minus_zero = -0.0f;
    float y = 1;
    GetParam()->unary_f32(fn, &minus_zero, &y, 1, 0, 0);
    EXPECT_TRUE(y == 0 && std::signbit(y)) << static_cast<int>(fn);
  }
}

TEST_P(Unary, EveryTailInPlaceAndBetweenGuardPages) {
  for (const Function& f : functions())
    for (int64_t n = 0; n <= 50; ++n)
      for (const bool at_start : {false, true}) {
        const std::vector<float> x = random_floats(static_cast<size_t>(n), static_cast<uint32_t>(n), -3, 3);
        const Guarded<float> in(x, at_start), out(static_cast<size_t>(n), at_start);
        GetParam()->unary_f32(f.fn, in.data(), out.data(), n, f.p, f.q);
        for (size_t i = 0; i < x.size(); ++i) ASSERT_TRUE(right(f, x[i], out[i])) << f.name << " n " << n << " x " << x[i];
        GetParam()->unary_f32(f.fn, in.data(), in.data(), n, f.p, f.q);
        ASSERT_TRUE(same_bits(in.values(), out.values())) << f.name << " in place, n " << n;
      }
}

// An element's bits do not depend on where it stands.
TEST_P(Unary, PositionDoesNotMatter) {
  const std::vector<float> x = random_floats(100, 3, -9, 9);
  for (const Function& f : functions()) {
    const std::vector<float> all = run(f, x), rest = run(f, std::vector<float>(x.begin() + 3, x.end()));
    EXPECT_TRUE(same_bits(std::vector<float>(all.begin() + 3, all.end()), rest)) << f.name;
  }
}

TEST_P(Unary, ClipKeepsNanAndPrefersTheUpperBound) {
  const std::vector<float> x = {NAN, -5, 5, 0};
  std::vector<float> y(4);
  GetParam()->unary_f32(UnaryFn::kClip, x.data(), y.data(), 4, 2, 1);
  EXPECT_TRUE(std::isnan(y[0]));
  for (size_t i = 1; i < 4; ++i) EXPECT_EQ(y[i], 1);
}

}  // namespace
}  // namespace ocior
