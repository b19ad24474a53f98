// Softmax and log-softmax rows of every table against double: tails, aliasing, large and infinite scores.
#include <gtest/gtest.h>

#include <cfloat>

#include "kernels/test_memory.h"
#include "kernels/test_tables.h"

namespace ocior {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<double> log_softmax(const std::vector<float>& x) {
  double top = -kInfinity, sum = 0;
  for (const float v : x) top = std::isnan(v) ? NAN : std::max<double>(top, v);
  for (const float v : x) sum += std::exp(v - top);
  std::vector<double> y;
  for (const float v : x) y.push_back(v - top - std::log(sum));
  return y;
}

class Softmax : public testing::TestWithParam<const KernelTable*> {
 protected:
  void expect_right(const std::vector<float>& x) {
    const int64_t n = static_cast<int64_t>(x.size());
    const std::vector<double> want = log_softmax(x);
    const Guarded<float> in(x), soft(x.size()), logs(x.size());
    GetParam()->softmax_f32(in.data(), soft.data(), n);
    GetParam()->log_softmax_f32(in.data(), logs.data(), n);
    for (size_t i = 0; i < x.size(); ++i) {
      const double p = std::exp(want[i]);
      if (std::isnan(p)) {
        ASSERT_TRUE(std::isnan(soft[i]) && std::isnan(logs[i])) << "n " << n << " i " << i;
        continue;
      }
      // x - max is rounded before the exponential sees it; a difference beyond float's range is -inf.
      const bool gone = want[i] < -static_cast<double>(FLT_MAX);
      ASSERT_NEAR(soft[i], p, gone ? 0.0 : (5e-7 + 1.2e-7 * std::fabs(want[i])) * p + 1e-37)
          << "n " << n << " i " << i << " x " << x[i];
      if (gone) ASSERT_EQ(logs[i], -INFINITY) << "n " << n << " i " << i;
      else ASSERT_NEAR(logs[i], want[i], 3e-7 * (1 + std::fabs(want[i]))) << "n " << n << " i " << i;
    }
    GetParam()->softmax_f32(in.data(), in.data(), n);
    ASSERT_TRUE(same_bits(in.values(), soft.values()));
    const Guarded<float> again(x);
    GetParam()->log_softmax_f32(again.data(), again.data(), n);
    ASSERT_TRUE(same_bits(again.values(), logs.values()));
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, Softmax, testing::ValuesIn(tables_under_test()), TableName());

TEST_P(Softmax, EveryTail) {
  for (size_t n = 0; n <= 130; ++n) expect_right(random_floats(n, static_cast<uint32_t>(n), -10, 10));
}

TEST_P(Softmax, LongRows) {
  for (const size_t n : {1000u, 1024u, 5001u, 50257u}) expect_right(random_floats(n, 3, -5, 5));
}

TEST_P(Softmax, LargeScores) {
  expect_right(random_floats(77, 4, 900, 1000));
  expect_right(random_floats(77, 5, -1000, -900));
  expect_right({1e30f, 1e30f, -1e30f, 0});
  expect_right({FLT_MAX, -FLT_MAX, 0});
}

TEST_P(Softmax, MaskedScores) {
  std::vector<float> x = random_floats(45, 6);
  for (size_t i = 0; i < x.size(); i += 3) x[i] = -kInfinity;
  expect_right(x);
  for (size_t i = 0; i < x.size(); i += 3) x[i] = -FLT_MAX;
  expect_right(x);
  expect_right(std::vector<float>(45, -FLT_MAX));    // all lowest: uniform
  expect_right(std::vector<float>(45, -kInfinity));  // nothing left: NaN, as the formula gives
}

TEST_P(Softmax, NanAndInfinityTakeTheRow) {
  for (const size_t at : {0u, 9u, 36u}) {
    std::vector<float> x = random_floats(37, 7);
    x[at] = NAN;
    std::vector<float> y(x.size());
    GetParam()->softmax_f32(x.data(), y.data(), 37);
    for (const float v : y) EXPECT_TRUE(std::isnan(v));
    x[at] = kInfinity;
    GetParam()->softmax_f32(x.data(), y.data(), 37);
    EXPECT_TRUE(std::isnan(y[at]));
  }
}

}  // namespace
}  // namespace ocior
