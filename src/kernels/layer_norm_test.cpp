// Layer and RMS normalisation of every table against double: every combination of operands, tails, aliasing, large means.
#include <gtest/gtest.h>

#include <string>

#include "kernels/test_memory.h"
#include "kernels/test_tables.h"

namespace ocior {
namespace {

// The operands of one case; bits of `parts`: skip, bias, gamma, beta, sum, statistics, rms.
struct Case {
  Case(int64_t rows_, int64_t n_, int parts_, float mean = 0.5f, float spread = 2)
      : rows(rows_),
        n(n_),
        parts(parts_),
        x(random_floats(size(), 1, mean - spread, mean + spread)),
        skip(random_floats(size(), 2)),
        bias(random_floats(static_cast<size_t>(n), 3)),
        gamma(random_floats(static_cast<size_t>(n), 4, 0.5f, 1.5f)),
        beta(random_floats(static_cast<size_t>(n), 5)),
        y(size()),
        sum(size()),
        means(static_cast<size_t>(rows)),
        inv_stds(static_cast<size_t>(rows)) {
    args.x = x.data(), args.y = y.data(), args.n = n, args.epsilon = 1e-5f;
    if (has(0)) args.skip = skip.data();
    if (has(1)) args.bias = bias.data();
    if (has(2)) args.gamma = gamma.data();
    if (has(3)) args.beta = beta.data();
    if (has(4)) args.sum = sum.data();
    if (has(5)) args.mean = means.data(), args.inv_std = inv_stds.data();
    args.rms = has(6);
  }
  bool has(int bit) const { return (parts >> bit & 1) != 0; }
  size_t size() const { return static_cast<size_t>(rows * n); }

  // s of one element as fp32 forms it, so that what is tested is the normalisation.
  float s(const std::vector<float>& x0, const std::vector<float>& skip0, int64_t row, int64_t i) const {
    const size_t at = static_cast<size_t>(row * n + i);
    float v = x0[at];
    if (has(0)) v += skip0[at];
    if (has(1)) v += bias[static_cast<size_t>(i)];
    return v;
  }

  // The worst error of y in units of |normalised value| + 1, and of the outputs beside it.
  double error(const std::vector<float>& x0, const std::vector<float>& skip0) const {
    double worst = 0;
    for (int64_t row = 0; row < rows; ++row) {
      double mean = 0, square = 0;
      for (int64_t i = 0; i < n; ++i) mean += s(x0, skip0, row, i);
      mean = args.rms ? 0 : mean / static_cast<double>(n);
      for (int64_t i = 0; i < n; ++i) square += std::pow(s(x0, skip0, row, i) - mean, 2);
      const double inv_std = 1 / std::sqrt(square / static_cast<double>(n) + args.epsilon);
      for (int64_t i = 0; i < n; ++i) {
        const size_t at = static_cast<size_t>(row * n + i), c = static_cast<size_t>(i);
        const double normal = (s(x0, skip0, row, i) - mean) * inv_std;
        const double want = normal * (has(2) ? gamma[c] : 1) + (has(3) && !args.rms ? beta[c] : 0);
        worst = std::max(worst, std::fabs(args.y[row * n + i] - want) / (std::fabs(normal) + 1));
        if (has(4)) worst = std::max(worst, std::fabs(sum[at] - static_cast<double>(s(x0, skip0, row, i))));
      }
      if (has(5)) {
        worst = std::max(worst, std::fabs(means[static_cast<size_t>(row)] - mean) / (std::fabs(mean) + 1));
        worst = std::max(worst, std::fabs(inv_stds[static_cast<size_t>(row)] / inv_std - 1));
      }
    }
    return worst;
  }

  int64_t rows, n;
  int parts;
  Guarded<float> x, skip, bias, gamma, beta, y, sum, means, inv_stds;
  LayerNormArgs args;
};

class LayerNorm : public testing::TestWithParam<const KernelTable*> {};
INSTANTIATE_TEST_SUITE_P(Tables, LayerNorm, testing::ValuesIn(tables_under_test()), TableName());

TEST_P(LayerNorm, EveryCombinationOfOperands) {
  for (int parts = 0; parts < 128; ++parts)
    for (const int64_t n : {1, 7, 16, 35, 100}) {
      Case c(3, n, parts);
      const std::vector<float> x = c.x.values(), skip = c.skip.values();
      GetParam()->layer_norm(c.args, 0, c.rows);
      EXPECT_LE(c.error(x, skip), 6e-7) << "parts " << parts << " n " << n;
    }
}

TEST_P(LayerNorm, EveryTail) {
  for (int64_t n = 1; n <= 70; ++n) {
    Case c(2, n, 0b0001111);
    GetParam()->layer_norm(c.args, 0, 2);
    EXPECT_LE(c.error(c.x.values(), c.skip.values()), 6e-7) << n;
  }
}

TEST_P(LayerNorm, InPlaceOverXOrSkip) {
  for (const bool over_skip : {false, true})
    for (const int parts : {0b0001101, 0b0001100, 0b1000111}) {
      if (over_skip && (parts & 1) == 0) continue;
      Case apart(3, 45, parts), same(3, 45, parts);
      GetParam()->layer_norm(apart.args, 0, 3);
      same.args.y = over_skip ? same.skip.data() : same.x.data();
      GetParam()->layer_norm(same.args, 0, 3);
      EXPECT_TRUE(same_bits(apart.y.values(), over_skip ? same.skip.values() : same.x.values()));
    }
}

TEST_P(LayerNorm, RowsAreIndependent) {
  Case all(5, 33, 0b0101111), one(5, 33, 0b0101111);
  GetParam()->layer_norm(all.args, 0, 5);
  for (int64_t row = 4; row >= 0; --row) GetParam()->layer_norm(one.args, row, row + 1);
  EXPECT_TRUE(same_bits(all.y.values(), one.y.values()));
}

// A mean a thousand times the spread: one-pass formulas fail here, and a plain two-pass one carries the rounding of the mean
// along.
TEST_P(LayerNorm, LargeMean) {
  Case c(4, 768, 0b0001100, 1000, 1);
  GetParam()->layer_norm(c.args, 0, 4);
  EXPECT_LE(c.error(c.x.values(), c.skip.values()), 1e-6);
}

TEST_P(LayerNorm, ConstantRowGivesBeta) {
  Case c(1, 40, 0b0001100);
  std::fill(c.x.data(), c.x.data() + 40, 3.25f);
  GetParam()->layer_norm(c.args, 0, 1);
  for (size_t i = 0; i < 40; ++i) EXPECT_EQ(c.y[i], c.beta[i]);
}

TEST_P(LayerNorm, NanAndInfinityTakeTheirRow) {
  for (const float bad : {NAN, std::numeric_limits<float>::infinity()}) {
    Case c(2, 20, 0b0001100);
    c.x[5] = bad;
    GetParam()->layer_norm(c.args, 0, 2);
    EXPECT_TRUE(std::isnan(c.y[5]));
    for (size_t i = 20; i < 40; ++i) EXPECT_TRUE(std::isfinite(c.y[i]));
  }
}

}  // namespace
}  // namespace ocior
