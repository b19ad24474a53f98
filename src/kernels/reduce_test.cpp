// Reductions of every table: exact order-independent ones, error bounds of sums, NaN, empty input, tails between guard pages.
#include <gtest/gtest.h>

#include "kernels/test_memory.h"
#include "kernels/test_tables.h"

namespace ocior {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr ReduceFn kAll[] = {ReduceFn::kSum, ReduceFn::kMax, ReduceFn::kMin, ReduceFn::kSumSquare, ReduceFn::kSumAbs};

double neutral(ReduceFn fn) { return fn == ReduceFn::kMax ? -kInfinity : fn == ReduceFn::kMin ? kInfinity : 0.0; }

double join(ReduceFn fn, double acc, double x) {
  switch (fn) {
    case ReduceFn::kSum: return acc + x;
    case ReduceFn::kMax: return std::isnan(acc) || std::isnan(x) ? NAN : std::max(acc, x);
    case ReduceFn::kMin: return std::isnan(acc) || std::isnan(x) ? NAN : std::min(acc, x);
    case ReduceFn::kSumSquare: return acc + x * x;
    case ReduceFn::kSumAbs: return acc + std::fabs(x);
  }
  return 0;
}

class Reduce : public testing::TestWithParam<const KernelTable*> {
 protected:
  void expect_right(ReduceFn fn, const Guarded<float>& x) {
    const int64_t n = static_cast<int64_t>(x.size());
    double want = neutral(fn), size = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      want = join(fn, want, x[i]);
      size += fn == ReduceFn::kSumSquare ? static_cast<double>(x[i]) * x[i] : std::fabs(x[i]);
    }
    const float got = GetParam()->reduce_f32(fn, x.data(), n);
    const bool exact = fn == ReduceFn::kMax || fn == ReduceFn::kMin;
    // Blocks of 4096 in at least 16 lanes, then a tree: at most 256 + log2(n) roundings of each term.
    const double bound = exact ? 0 : 6e-8 * std::min<double>(static_cast<double>(n), 300) * size;
    if (std::isfinite(want)) EXPECT_LE(std::fabs(got - want), bound) << static_cast<int>(fn) << " n " << n;
    else EXPECT_EQ(ulps(got, want), 0) << static_cast<int>(fn) << " n " << n << " got " << got;
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, Reduce, testing::ValuesIn(tables_under_test()), TableName());

TEST_P(Reduce, EveryTail) {
  for (int64_t n = 0; n <= 130; ++n)
    for (const ReduceFn fn : kAll)
      expect_right(fn, Guarded<float>(random_floats(static_cast<size_t>(n), static_cast<uint32_t>(n) + 1)));
}

TEST_P(Reduce, LongInput) {
  for (const size_t n : {4095u, 4096u, 4097u, 12289u, 100003u})
    for (const ReduceFn fn : kAll) expect_right(fn, Guarded<float>(random_floats(n, 7)));
}

// A plain running sum of these would lose four percent.
TEST_P(Reduce, LongSumsKeepTheirDigits) {
  const std::vector<float> x(1 << 20, 0.1f);
  EXPECT_NEAR(GetParam()->reduce_f32(ReduceFn::kSum, x.data(), 1 << 20), 104857.6, 0.5);
}

TEST_P(Reduce, NanAnywhereReachesTheResult) {
  for (const size_t n : {1u, 5u, 64u, 100u, 9000u})
    for (size_t at = 0; at < n; at += n / 5 + 1)
      for (const ReduceFn fn : kAll) {
        std::vector<float> x = random_floats(n, 8);
        x[at] = NAN;
        EXPECT_TRUE(std::isnan(GetParam()->reduce_f32(fn, x.data(), static_cast<int64_t>(n))))
            << static_cast<int>(fn) << " " << at;
      }
}

TEST_P(Reduce, Infinities) {
  std::vector<float> x = random_floats(40, 9);
  x[17] = kInfinity;
  for (const ReduceFn fn : kAll) expect_right(fn, Guarded<float>(x));
  x[3] = -kInfinity;
  for (const ReduceFn fn : kAll) expect_right(fn, Guarded<float>(x));
}

TEST_P(Reduce, IntoAnAccumulator) {
  for (size_t n = 0; n <= 50; ++n)
    for (const ReduceFn fn : kAll) {
      const Guarded<float> x(random_floats(n, 10)), acc(random_floats(n, 11));
      if (n > 4) x[4] = NAN, acc[2] = NAN;
      const std::vector<float> before = acc.values();
      GetParam()->reduce_into_f32(fn, x.data(), acc.data(), static_cast<int64_t>(n));
      for (size_t i = 0; i < n; ++i) {
        const double want = join(fn, before[i], x[i]);
        if (std::isnan(want)) EXPECT_TRUE(std::isnan(acc[i]));
        else EXPECT_NEAR(acc[i], want, 1.3e-7 * (1 + std::fabs(want))) << static_cast<int>(fn) << " n " << n << " i " << i;
      }
    }
}

}  // namespace
}  // namespace ocior
