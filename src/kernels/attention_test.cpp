// Attention of every table against the formula in double: shapes, strides, masks, lengths, infinities, and bits that do not
// depend on how the tasks are shared out.
#include <gtest/gtest.h>

#include <cfloat>
#include <string>

#include "kernels/test_memory.h"
#include "kernels/test_tables.h"

namespace ocior {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

enum class Additive { kNone, kByKey, kPerHead, kFull };

struct Shape {
  int64_t batch = 1, heads = 1, kv_heads = 1, q = 1, kv = 1, d = 8, dv = 8;
  Additive bias = Additive::kNone, mask = Additive::kNone;
  bool causal = false, lengths = false, zero_masked = false;
  std::string text() const {
    return "batch " + std::to_string(batch) + " heads " + std::to_string(heads) + "/" + std::to_string(kv_heads) + " q " +
           std::to_string(q) + " kv " + std::to_string(kv) + " d " + std::to_string(d) + " dv " + std::to_string(dv) + " bias " +
           std::to_string(static_cast<int>(bias)) + " mask " + std::to_string(static_cast<int>(mask)) +
           (causal ? " causal" : "") + (lengths ? " lengths" : "") + (zero_masked ? " zero" : "");
  }
};

struct Strides {
  int64_t batch, head, row;
  int64_t floats(const Shape& s) const { return s.batch * batch; }
};

Strides strides(const Shape& s, Additive kind) {
  switch (kind) {
    case Additive::kByKey: return {s.kv, 0, 0};
    case Additive::kPerHead: return {s.heads * s.kv, s.kv, 0};
    default: return {s.heads * s.q * s.kv, s.q * s.kv, s.kv};
  }
}

// The operands of one shape in guarded memory: q, k and v as [batch, rows, heads, dim], each row with a few floats that nobody
// reads.
class Problem {
 public:
  Problem(const Shape& s, uint32_t seed)
      : shape(s),
        q(random_floats(size(s.q, s.heads, s.d), seed, -2, 2)),
        k(random_floats(size(s.kv, s.kv_heads, s.d), seed + 1, -2, 2)),
        v(random_floats(size(s.kv, s.kv_heads, s.dv), seed + 2, -2, 2)),
        out(std::vector<float>(size(s.q, s.heads, s.dv), 77)),
        bias(random_floats(static_cast<size_t>(strides(s, s.bias).floats(s)), seed + 3, -3, 3)),
        mask(static_cast<size_t>(strides(s, s.mask).floats(s))),
        lengths(static_cast<size_t>(s.batch)) {
    std::mt19937 random(seed + 4);
    for (size_t i = 0; i < mask.size(); ++i) mask[i] = random() % 3 != 0;
    for (int64_t b = 0; b < s.batch; ++b) lengths[static_cast<size_t>(b)] = static_cast<int32_t>(random() % (s.kv + 1));
    fill_args();
  }

  double score(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const int64_t g = h / (shape.heads / shape.kv_heads);
    double sum = 0;
    for (int64_t c = 0; c < shape.d; ++c)
      sum += static_cast<double>(args.q[b * args.q_batch + h * args.q_head + i * args.q_row + c]) *
             args.k[b * args.k_batch + g * args.k_head + j * args.k_row + c];
    sum *= args.scale;
    if (args.bias) sum += args.bias[b * args.bias_batch + h * args.bias_head + i * args.bias_row + j];
    bool seen = !args.mask || args.mask[b * args.mask_batch + h * args.mask_head + i * args.mask_row + j];
    if (args.kv_lengths && j >= args.kv_lengths[b]) seen = false;
    if (args.causal && j > i + shape.kv - shape.q) seen = false;
    return seen ? sum : -kInfinity;
  }

  // One row of the result, in double.
  std::vector<double> row(int64_t b, int64_t h, int64_t i) const {
    const int64_t g = h / (shape.heads / shape.kv_heads);
    std::vector<double> w(static_cast<size_t>(shape.kv)), r(static_cast<size_t>(shape.dv), 0);
    double top = -kInfinity, total = 0;
    for (int64_t j = 0; j < shape.kv; ++j) top = std::max(top, w[static_cast<size_t>(j)] = score(b, h, i, j));
    const double none = args.zero_masked_rows || shape.kv == 0 ? 0 : NAN;
    if (std::isinf(top) && top < 0) return std::vector<double>(r.size(), none);
    for (double& e : w) total += e = std::exp(e - top);
    for (int64_t j = 0; j < shape.kv; ++j)
      for (int64_t c = 0; c < shape.dv; ++c)
        if (w[static_cast<size_t>(j)] != 0)
          r[static_cast<size_t>(c)] +=
              w[static_cast<size_t>(j)] / total * args.v[b * args.v_batch + g * args.v_head + j * args.v_row + c];
    return r;
  }

  void run(const KernelTable& table) {
    Guarded<float> scratch((table.attention_scratch(args) + 63) / 64 * 16);
    std::fill(scratch.data(), scratch.data() + scratch.size(), std::nanf(""));
    table.attention(args, 0, table.attention_tasks(args), scratch.data());
  }

  // The worst absolute error; infinite where NaN and number are confused or a float outside the result was written.
  double error() const {
    double worst = 0;
    for (int64_t b = 0; b < shape.batch; ++b)
      for (int64_t i = 0; i < shape.q; ++i)
        for (int64_t h = 0; h < shape.heads; ++h) {
          const std::vector<double> want = row(b, h, i);
          const float* got = args.out + b * args.o_batch + h * args.o_head + i * args.o_row;
          for (int64_t c = 0; c < shape.dv; ++c) {
            const double w = want[static_cast<size_t>(c)];
            if (std::isnan(w) != std::isnan(got[c])) return kInfinity;
            if (!std::isnan(w)) worst = std::max(worst, std::fabs(got[c] - w));
          }
          for (int64_t c = shape.dv; c < shape.dv + kGap && h == shape.heads - 1; ++c)
            if (got[c] != 77) return kInfinity;
        }
    return worst;
  }

  Shape shape;
  Guarded<float> q, k, v, out, bias;
  Guarded<uint8_t> mask;
  Guarded<int32_t> lengths;
  AttentionArgs args;

 private:
  static constexpr int64_t kGap = 3;

  size_t size(int64_t rows, int64_t heads, int64_t dim) const {
    return static_cast<size_t>(shape.batch * rows * (heads * dim + kGap));
  }

  void fill_args() {
    const Shape& s = shape;
    args.q = q.data(), args.k = k.data(), args.v = v.data(), args.out = out.data();
    args.batch = s.batch, args.heads = s.heads, args.kv_heads = s.kv_heads;
    args.q_len = s.q, args.kv_len = s.kv, args.head_dim = s.d, args.v_dim = s.dv;
    args.q_head = s.d, args.q_row = s.heads * s.d + kGap, args.q_batch = s.q * args.q_row;
    args.k_head = s.d, args.k_row = s.kv_heads * s.d + kGap, args.k_batch = s.kv * args.k_row;
    args.v_head = s.dv, args.v_row = s.kv_heads * s.dv + kGap, args.v_batch = s.kv * args.v_row;
    args.o_head = s.dv, args.o_row = s.heads * s.dv + kGap, args.o_batch = s.q * args.o_row;
    args.scale = s.d > 0 ? 1 / std::sqrt(static_cast<float>(s.d)) : 1;
    args.causal = s.causal, args.zero_masked_rows = s.zero_masked;
    if (s.lengths) args.kv_lengths = lengths.data();
    const Strides b = strides(s, s.bias), m = strides(s, s.mask);
    if (s.bias != Additive::kNone)
      args.bias = bias.data(), args.bias_batch = b.batch, args.bias_head = b.head, args.bias_row = b.row;
    if (s.mask != Additive::kNone)
      args.mask = mask.data(), args.mask_batch = m.batch, args.mask_head = m.head, args.mask_row = m.row;
  }
};

class Attention : public testing::TestWithParam<const KernelTable*> {
 protected:
  void expect_right(const Shape& shape, uint32_t seed = 1) {
    Problem problem(shape, seed);
    problem.run(*GetParam());
    EXPECT_LE(problem.error(), 4e-6) << shape.text();
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, Attention, testing::ValuesIn(tables_under_test()), TableName());

TEST_P(Attention, EveryTail) {
  for (int64_t q = 1; q <= 50; ++q) expect_right({1, 1, 1, q, 13, 8, 8}, static_cast<uint32_t>(q));
  for (int64_t kv = 1; kv <= 50; ++kv) expect_right({1, 2, 2, 9, kv, 8, 8}, static_cast<uint32_t>(kv));
  for (int64_t d = 1; d <= 50; ++d) expect_right({1, 2, 1, 17, 11, d, 51 - d}, static_cast<uint32_t>(d));
}

TEST_P(Attention, BlocksOfKeysAndRows) {
  expect_right({1, 2, 2, 130, 384, 32, 32});
  expect_right({1, 1, 1, 65, 257, 64, 64});
  expect_right({1, 1, 1, 3, 1025, 16, 16});
  expect_right({1, 4, 1, 40, 300, 8, 40});
}

TEST_P(Attention, RandomShapesAndMasks) {
  std::mt19937 random(7);
  const auto upto = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint32_t>(n)) + 1; };
  const auto kind = [&] { return static_cast<Additive>(random() % 4); };
  for (int round = 0; round < 150; ++round) {
    Shape s;
    s.batch = upto(3), s.kv_heads = upto(3), s.heads = s.kv_heads * upto(3);
    s.q = round % 5 == 0 ? upto(100) : upto(12), s.kv = round % 7 == 0 ? upto(600) : upto(40);
    s.d = upto(40), s.dv = upto(40);
    s.bias = kind(), s.mask = kind();
    s.causal = random() % 2, s.lengths = random() % 2, s.zero_masked = random() % 2;
    expect_right(s, static_cast<uint32_t>(round));
  }
}

TEST_P(Attention, NothingToAttendTo) {
  for (const bool zero : {false, true}) {
    Shape s{2, 2, 2, 5, 9, 8, 8};
    s.zero_masked = zero;
    s.lengths = true;
    Problem problem(s, 3);
    problem.lengths[0] = 0;
    problem.lengths[1] = 4;
    problem.run(*GetParam());
    EXPECT_LE(problem.error(), 4e-6) << s.text();
    EXPECT_EQ(std::isnan(problem.out[0]), !zero);
  }
  expect_right({1, 1, 1, 4, 0, 8, 8});  // no keys at all: an empty sum
  Problem none({1, 1, 1, 0, 4, 8, 8}, 3);
  EXPECT_EQ(GetParam()->attention_tasks(none.args), 0);
}

TEST_P(Attention, MaskedByMinusInfinityOrTheLowestFloat) {
  for (const Additive kind : {Additive::kByKey, Additive::kFull})
    for (const float low : {-kInfinity, -FLT_MAX, -10000.0f})
      for (const int64_t kv : {7, 300}) {
        Shape s{1, 2, 2, 6, kv, 8, 8};
        s.bias = kind;
        Problem problem(s, 5);
        // Some rows have nothing but `low`; not for -10000, where fp32 itself keeps three digits of the scores.
        for (size_t i = 0; i < problem.bias.size(); ++i) problem.bias[i] = i % 3 == 0 || (i > 260 && low < -1e5f) ? low : 0;
        problem.run(*GetParam());
        EXPECT_LE(problem.error(), 4e-6) << s.text() << " low " << low;
      }
  // Every key lowest: all are equal in fp32, so the result is the mean of the values.
  Shape s{1, 1, 1, 4, 270, 8, 8};
  s.bias = Additive::kByKey;
  Problem problem(s, 6);
  std::fill(problem.bias.data(), problem.bias.data() + problem.bias.size(), -FLT_MAX);
  problem.run(*GetParam());
  EXPECT_LE(problem.error(), 4e-6);
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  Shape s{1, 1, 1, 9, 300, 4, 4};
  Problem problem(s, 8);
  problem.args.scale = 1000;
  problem.run(*GetParam());
  EXPECT_LE(problem.error(), 2e-3);  // scores of 1e4 carry an error of 1e-3 into the exponent
}

TEST_P(Attention, NanReachesItsRowsOnly) {
  Shape s{1, 2, 2, 20, 40, 8, 8};
  Problem problem(s, 9);
  problem.args.out = problem.out.data();
  const_cast<float*>(problem.args.q)[3 * problem.args.q_row] = NAN;  // head 0, query 3
  problem.run(*GetParam());
  EXPECT_LE(problem.error(), 4e-6);
  EXPECT_TRUE(std::isnan(problem.out[static_cast<size_t>(3 * problem.args.o_row)]));
}

TEST_P(Attention, KeysBeyondTheLengthAreNeverRead) {
  Shape s{1, 1, 1, 5, 20, 8, 8};
  s.lengths = true;
  Problem problem(s, 10);
  problem.lengths[0] = 6;
  for (size_t i = static_cast<size_t>(6 * problem.args.k_row); i < problem.k.size(); ++i) problem.k[i] = NAN;
  for (size_t i = static_cast<size_t>(6 * problem.args.v_row); i < problem.v.size(); ++i) problem.v[i] = kInfinity;
  problem.run(*GetParam());
  EXPECT_LE(problem.error(), 4e-6);
}

TEST_P(Attention, SameBitsHoweverTasksAreShared) {
  Shape s{2, 6, 3, 90, 400, 16, 16};
  s.causal = true;
  Problem whole(s, 11), parts(s, 11);
  whole.run(*GetParam());
  const size_t bytes = (GetParam()->attention_scratch(parts.args) + 63) / 64 * 64;
  const int64_t tasks = GetParam()->attention_tasks(parts.args);
  ASSERT_GT(tasks, 1);
  for (int64_t t = tasks - 1; t >= 0; --t) {
    Guarded<float> scratch(bytes / 4);
    GetParam()->attention(parts.args, t, t + 1, scratch.data());
  }
  EXPECT_TRUE(same_bits(whole.out.values(), parts.out.values()));
}

// A row's bits do not depend on which rows are computed with it.
TEST_P(Attention, RowsAreIndependent) {
  Problem many({1, 1, 1, 33, 300, 24, 24}, 12), one({1, 1, 1, 33, 300, 24, 24}, 12);
  many.run(*GetParam());
  one.args.q += 7 * one.args.q_row;
  one.args.out += 7 * one.args.o_row;
  one.args.q_len = 20;
  one.run(*GetParam());
  for (size_t i = 0; i < static_cast<size_t>(20 * one.args.o_row); ++i)
    ASSERT_EQ(one.args.out[i], many.args.out[7 * one.args.o_row + i]);
}

}  // namespace
}  // namespace ocior
