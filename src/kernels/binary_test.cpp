// Element-wise functions of two operands, every table: all steps, tails, aliasing, NaN, and powers with C's special cases.
#include <gtest/gtest.h>

#include <string>

#include "kernels/test_memory.h"
#include "kernels/test_tables.h"

namespace ocior {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr BinaryFn kAll[] = {BinaryFn::kAdd, BinaryFn::kSub, BinaryFn::kMul, BinaryFn::kDiv,
                             BinaryFn::kPow, BinaryFn::kMax, BinaryFn::kMin};

double exact(BinaryFn fn, double a, double b) {
  switch (fn) {
    case BinaryFn::kAdd: return a + b;
    case BinaryFn::kSub: return a - b;
    case BinaryFn::kMul: return a * b;
    case BinaryFn::kDiv: return a / b;
    case BinaryFn::kPow: return std::pow(a, b);
    case BinaryFn::kMax: return std::isnan(a) || std::isnan(b) ? NAN : std::max(a, b);
    case BinaryFn::kMin: return std::isnan(a) || std::isnan(b) ? NAN : std::min(a, b);
  }
  return 0;
}

bool right(BinaryFn fn, float a, float b, float got) { return ulps(got, exact(fn, a, b)) <= (fn == BinaryFn::kPow ? 1.6 : 0.51); }

class Binary : public testing::TestWithParam<const KernelTable*> {};
INSTANTIATE_TEST_SUITE_P(Tables, Binary, testing::ValuesIn(tables_under_test()), TableName());

TEST_P(Binary, EveryTailStepAndAlias) {
  for (const BinaryFn fn : kAll)
    for (int64_t n = 0; n <= 50; ++n)
      for (int steps = 0; steps < 4; ++steps) {
        const int64_t step_a = steps & 1, step_b = steps >> 1;
        const size_t count = static_cast<size_t>(n);
        const std::vector<float> x = random_floats(std::max<size_t>(1, step_a ? count : 1), 1, 0.1f, 3);
        const std::vector<float> z = random_floats(std::max<size_t>(1, step_b ? count : 1), 2, -3, 3);
        const Guarded<float> a(x), b(z), y(count);
        GetParam()->binary_f32(fn, a.data(), step_a, b.data(), step_b, y.data(), n);
        for (int64_t i = 0; i < n; ++i)
          ASSERT_TRUE(
              right(fn, a[static_cast<size_t>(i * step_a)], b[static_cast<size_t>(i * step_b)], y[static_cast<size_t>(i)]))
              << static_cast<int>(fn) << " n " << n << " i " << i << " steps " << step_a << step_b;
        if (n == 0) continue;
        const std::vector<float> want = y.values();
        if (step_a == 1) {
          const Guarded<float> same(x);
          GetParam()->binary_f32(fn, same.data(), 1, b.data(), step_b, same.data(), n);
          ASSERT_TRUE(same_bits(same.values(), want));
        }
        if (step_b == 1) {
          const Guarded<float> same(z);
          GetParam()->binary_f32(fn, a.data(), step_a, same.data(), 1, same.data(), n);
          ASSERT_TRUE(same_bits(same.values(), want));
        }
      }
}

TEST_P(Binary, SpecialValuesInEveryPair) {
  const std::vector<float> s = {0.0f,      -0.0f,      1,    -1,     2,       -2,    3,      -3,      0.5f,        -0.5f,
                                kInfinity, -kInfinity, NAN,  1e-40f, -1e-40f, 1e30f, -1e30f, 3.4e38f, 0.99999994f, 1.0000001f,
                                16777216,  16777218,   2.5f, -2.5f,  1e-30f,  127,   128,    -126,    -149,        -150};
  for (const BinaryFn fn : kAll)
    for (const float a : s)
      for (const float b : s)
        for (const int64_t step : {0, 1}) {
          const std::vector<float> x(3, a), z(3, b);
          std::vector<float> y(3);
          GetParam()->binary_f32(fn, x.data(), 1, z.data(), step, y.data(), 3);
          const double want = exact(fn, a, b);
          EXPECT_TRUE(right(fn, a, b, y[2]))
              << static_cast<int>(fn) << ": " << a << ", " << b << " gave " << y[2] << ", expected " << want;
          if (fn == BinaryFn::kPow && want == 0) {
            EXPECT_EQ(std::signbit(y[2]), std::signbit(want)) << a << " to " << b;
          }
        }
}

TEST_P(Binary, PowersOfAllMagnitudes) {
  const size_t n = 200000;
  std::vector<float> x = random_floats(n, 3, -88, 88), e = random_floats(n, 4, -1, 1), y(n);
  for (size_t i = 0; i < n; ++i) {
    x[i] = std::exp(i % 2 ? x[i] : x[i] / 40);
    e[i] *= i % 2 ? 1 : 40;
  }
  GetParam()->binary_f32(BinaryFn::kPow, x.data(), 1, e.data(), 1, y.data(), static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) ASSERT_LE(ulps(y[i], std::pow(static_cast<double>(x[i]), e[i])), 1.6) << x[i] << " to " << e[i];
}

// The exponents with formulas of their own.
TEST_P(Binary, ConstantExponents) {
  const std::vector<float> x = random_floats(1000, 5, -30, 30);
  std::vector<float> y(x.size());
  for (const float e : {2.0f, 3.0f, 0.5f, -1.0f, 4.0f, 0.0f}) {
    GetParam()->binary_f32(BinaryFn::kPow, x.data(), 1, &e, 0, y.data(), static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i)
      ASSERT_LE(ulps(y[i], std::pow(static_cast<double>(x[i]), e)), 1.6) << x[i] << " to " << e;
  }
}

}  // namespace
}  // namespace ocior
