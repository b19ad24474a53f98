// The matrix product of every kernel table, real and emulated, against double precision. Inputs of small whole numbers make every
// sum exact, so that shapes, strides and packing are compared bit for bit; random inputs are held to the componentwise bound
// gamma_k * |A||B|.
#include <gtest/gtest.h>
#include <string.h>

#include <atomic>
#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/test_memory.h"
#include "kernels/test_tables.h"

namespace ocior {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kSentinel = -12345.0f;

bool has_tiles(const KernelTable& table) { return strncmp(table.name, "amx", 3) == 0; }

// A[m, k] or B[k, n] with rows `pad` floats longer than needed, between guard pages.
struct Matrix {
  int64_t rows, cols, ld;
  Guarded<float> data;
  Matrix(int64_t r, int64_t c, int64_t pad, bool at_start)
      : rows(r), cols(c), ld(c + pad), data(static_cast<size_t>(r == 0 ? 0 : (r - 1) * ld + c), at_start) {
    std::fill(data.data(), data.data() + data.size(), kSentinel);
  }
  float& at(int64_t i, int64_t j) const { return data[static_cast<size_t>(i * ld + j)]; }
};

// B in packed form; `b` is dense [k, n].
struct Weight {
  int64_t n, k;
  Precision precision;
  Guarded<char> packed;
  Weight(const KernelTable& table, const std::vector<float>& b, int64_t n_, int64_t k_, Precision p = Precision::kHighest,
         bool transposed = false, int64_t pad = 0, bool at_start = false)
      : n(n_), k(k_), precision(p), packed(table.gemm_b_bytes(n_, k_, p), at_start) {
    const Matrix source(transposed ? n : k, transposed ? k : n, pad, at_start);
    for (int64_t i = 0; i < k; ++i)
      for (int64_t j = 0; j < n; ++j) (transposed ? source.at(j, i) : source.at(i, j)) = b[static_cast<size_t>(i * n + j)];
    table.gemm_pack_b(source.data.data(), source.ld, transposed, n, k, 0, n, precision, packed.data());
  }
};

struct How {
  int64_t pad = 0;
  bool at_start = false;
  bool reversed = false;  // chunks last to first
  int64_t m_step = 0;     // 0: the table's grid; else chunks of this many rows and one panel
  int threads = 1;
  Epilogue epilogue;                             // pointers as given
  bool in_place = false;                         // the residual is the output itself, holding `residual`
  const std::vector<float>* residual = nullptr;  // [m, n] dense
};

void run_chunks(const KernelTable& table, const GemmArgs& args, const How& how) {
  GemmGrid grid = table.gemm_grid(args.m, args.n, args.k, args.precision);
  if (how.m_step != 0) {
    const int64_t panel = table.gemm_panel(args.precision);
    grid = {how.m_step, panel, (args.m + how.m_step - 1) / how.m_step, (args.n + panel - 1) / panel};
  }
  const int64_t count = grid.m_chunks * grid.n_chunks;
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t i = next++; i < count; i = next++) {
      const int64_t chunk = how.reversed ? count - 1 - i : i;
      table.gemm_chunk(args, grid, chunk % grid.m_chunks, chunk / grid.m_chunks);
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < how.threads; ++i) others.emplace_back(work);
  work();
  for (std::thread& t : others) t.join();
}

// C, dense [m, n]; `a` is dense [m, k]. Checks that nothing between the rows of C was written.
std::vector<float> multiply(const KernelTable& table, const std::vector<float>& a, int64_t m, const Weight& w,
                            const How& how = {}) {
  const Matrix x(m, w.k, how.pad, how.at_start), c(m, w.n, how.pad, how.at_start);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < w.k; ++j) x.at(i, j) = a[static_cast<size_t>(i * w.k + j)];
  const Guarded<char> a_packed(table.gemm_a_bytes(m, w.n, w.k, w.precision), how.at_start);
  GemmArgs args{.a = x.data.data(),
                .lda = x.ld,
                .b = w.packed.data(),
                .c = c.data.data(),
                .ldc = c.ld,
                .m = m,
                .n = w.n,
                .k = w.k,
                .precision = w.precision,
                .epilogue = how.epilogue};
  const Matrix r(how.residual == nullptr ? 0 : m, w.n, how.pad + 1, how.at_start);
  if (how.residual != nullptr) {
    const Matrix& to = how.in_place ? c : r;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < w.n; ++j) to.at(i, j) = (*how.residual)[static_cast<size_t>(i * w.n + j)];
    args.epilogue.residual = to.data.data();
    args.epilogue.ld_residual = to.ld;
  }
  args.a_packed = a_packed.size() == 0 ? nullptr : a_packed.data();
  table.gemm_pack_a(args, 0, m);
  run_chunks(table, args, how);
  std::vector<float> result;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < c.ld; ++j) {
      if (j < w.n) {
        result.push_back(c.at(i, j));
      } else if (i + 1 < m) {
        EXPECT_EQ(c.at(i, j), kSentinel) << "written between rows at " << i << ", " << j;
      }
    }
  return result;
}

std::vector<float> whole_numbers(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> x(static_cast<size_t>(count));
  for (float& v : x) v = static_cast<float>(static_cast<int>(random() % 9) - 4);
  return x;
}

struct Oracle {
  std::vector<double> value, size;  // A B and |A| |B|
};
Oracle oracle(const std::vector<float>& a, const std::vector<float>& b, int64_t m, int64_t n, int64_t k) {
  Oracle o{std::vector<double>(static_cast<size_t>(m * n)), std::vector<double>(static_cast<size_t>(m * n))};
  for (int64_t i = 0; i < m; ++i)
    for (int64_t p = 0; p < k; ++p)
      for (int64_t j = 0; j < n; ++j) {
        const double product = static_cast<double>(a[static_cast<size_t>(i * k + p)]) * b[static_cast<size_t>(p * n + j)];
        o.value[static_cast<size_t>(i * n + j)] += product;
        o.size[static_cast<size_t>(i * n + j)] += std::fabs(product);
      }
  return o;
}

float bf16(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  u = (u + 0x7fff + ((u >> 16) & 1)) & 0xffff0000u;
  memcpy(&x, &u, 4);
  return x;
}
std::vector<float> bf16(std::vector<float> x) {
  for (float& v : x) v = bf16(v);
  return x;
}

// The documented rule for a lower precision than fp32.
bool lowered(const KernelTable& table, Precision p, int64_t m, int64_t n, int64_t k) {
  return has_tiles(table) && p != Precision::kHighest && k >= 64 && m * n * k >= 262144 &&
         (m >= 8 || (p == Precision::kMedium && n * k >= 262144));
}

// gamma_k and, for products of parts, the parts that are left out; relative to |A||B|.
double bound(Precision p, int64_t k) {
  const double gamma = static_cast<double>(k + 8) * 0x1p-24;
  return p == Precision::kHigh ? gamma + 0x1p-16 : gamma + 0x1p-24;
}

std::string at(int64_t m, int64_t n, int64_t k) {
  return std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k);
}

const Precision kPrecisions[] = {Precision::kHighest, Precision::kHigh, Precision::kMedium};

class Gemm : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table = *GetParam();

  // Every element of an exact product, bit for bit.
  void expect_exact(int64_t m, int64_t n, int64_t k, Precision p, const How& how = {}, bool transposed = false) {
    const std::vector<float> a = whole_numbers(m * k, 1), b = whole_numbers(k * n, 2);
    const Oracle o = oracle(a, b, m, n, k);
    const std::vector<float> want(o.value.begin(), o.value.end());
    const Weight w(table, b, n, k, p, transposed, how.pad, how.at_start);
    ASSERT_EQ(multiply(table, a, m, w, how), want) << at(m, n, k) << " precision " << static_cast<int>(p);
  }

  void expect_close(const std::vector<float>& a, const std::vector<float>& b, int64_t m, int64_t n, int64_t k, Precision p) {
    const bool rounded = p == Precision::kMedium && lowered(table, p, m, n, k);
    const Oracle o = rounded ? oracle(bf16(a), bf16(b), m, n, k) : oracle(a, b, m, n, k);
    const std::vector<float> got = multiply(table, a, m, Weight(table, b, n, k, p));
    double worst = 0;
    for (size_t i = 0; i < got.size(); ++i)
      worst = std::max(worst, std::fabs(got[i] - o.value[i]) / (o.size[i] * bound(p, k) + 1e-37));
    EXPECT_LE(worst, 1) << at(m, n, k) << " precision " << static_cast<int>(p);
  }
};

TEST_P(Gemm, EveryShapeAroundTheTileEdges) {
  const int64_t panel = table.gemm_panel(Precision::kHighest), max_m = 30;
  std::vector<int64_t> widths;
  for (int64_t n = 1; n <= panel + 1; ++n) widths.push_back(n);
  for (int64_t n : {2 * panel - 1, 2 * panel, 2 * panel + 1, 3 * panel + 2, 4 * panel, 5 * panel + 3}) widths.push_back(n);
  for (int64_t k : {1, 2, 3, 4, 5, 7, 8, 9, 33, 63, 64, 65}) {
    const std::vector<float> a = whole_numbers(max_m * k, 1);
    for (int64_t n : widths) {
      const bool at_start = (n + k) % 2 == 0;
      const std::vector<float> b = whole_numbers(k * n, 2);
      const Oracle o = oracle(a, b, max_m, n, k);
      const std::vector<float> want(o.value.begin(), o.value.end());
      const Weight w(table, b, n, k, Precision::kHighest, n % 3 == 0, n % 4, at_start);
      const int64_t step = n <= 3 || n % panel < 2 ? 1 : 3;
      for (int64_t m = 1 + n % step; m <= max_m; m += step) {
        const std::vector<float> got = multiply(table, a, m, w, {.pad = m % 5, .at_start = at_start});
        ASSERT_TRUE(std::equal(got.begin(), got.end(), want.begin())) << at(m, n, k);
      }
    }
  }
}

TEST_P(Gemm, SlicesOfK) {
  for (int64_t k : {127, 128, 129, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 1537, 2048})
    for (int64_t m : {1, 3, 17, 45}) expect_exact(m, 2 * table.gemm_panel(Precision::kHighest) + 1, k, Precision::kHighest);
}

TEST_P(Gemm, ManyRowsAndChunks) {
  for (int64_t m : {191, 192, 193, 257, 400})
    for (int64_t k : {64, 200}) expect_exact(m, 101, k, Precision::kHighest, {.pad = 3}, true);
  expect_exact(5, 1500, 700, Precision::kHighest);
  expect_exact(1, 5000, 65, Precision::kHighest, {}, true);
}

// Shapes that the tables with tiles compute on tiles, in all precisions: rows and columns around 16 and 32, k around 32 and the
// slices.
TEST_P(Gemm, ShapesOfTheTiles) {
  for (Precision p : kPrecisions) {
    for (int64_t m : {8, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65})
      for (int64_t k : {64, 65, 95, 97})
        expect_exact(m, 262144 / (m * k) + 1, k, p, {.pad = m % 3, .at_start = k % 2 == 0}, m % 2 == 0);
    for (int64_t n : {127, 128, 129, 144, 145, 159, 160, 161}) expect_exact(35, n, 100, p, {.pad = n % 3}, n % 2 == 0);
    for (int64_t k : {127, 128, 129, 191, 192, 193, 255, 256, 257, 385, 600}) expect_exact(40, 100, k, p);
    expect_exact(300, 40, 70, p);
    // Few rows of a weight large enough to be stored as bf16 tiles.
    for (int64_t m : {1, 2, 7, 16, 17}) expect_exact(m, 1050, 257, p);
    expect_exact(3, 32 * 33, 256, p, {}, true);
  }
}

TEST_P(Gemm, RandomValuesWithinTheBound) {
  for (Precision p : kPrecisions)
    for (const auto& [m, n, k] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{{1, 100, 768},
                                                                                    {3, 33, 100},
                                                                                    {8, 96, 96},
                                                                                    {13, 65, 513},
                                                                                    {32, 128, 768},
                                                                                    {64, 130, 200},
                                                                                    {70, 97, 1100},
                                                                                    {4, 1024, 300}}) {
      expect_close(random_floats(static_cast<size_t>(m * k), 3), random_floats(static_cast<size_t>(k * n), 4), m, n, k, p);
      expect_close(random_floats(static_cast<size_t>(m * k), 5, 0.1f, 1), random_floats(static_cast<size_t>(k * n), 6, 0, 1e-3f),
                   m, n, k, p);
    }
}

// The promise of `highest`: no less accurate than a chain of fp32 multiply-adds, for mixed signs and for one sign.
TEST_P(Gemm, HighestIsAsAccurateAsFp32) {
  const int64_t m = 64, n = 96, k = 768;
  for (float low : {-1.0f, 0.0f}) {
    const std::vector<float> a = random_floats(m * k, 7, low, 1), b = random_floats(k * n, 8, low, 1);
    const Oracle o = oracle(a, b, m, n, k);
    const std::vector<float> got = multiply(table, a, m, Weight(table, b, n, k));
    double worst = 0, worst_chain = 0;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        const size_t e = static_cast<size_t>(i * n + j);
        float chain = 0;
        for (int64_t p = 0; p < k; ++p)
          chain = std::fmaf(a[static_cast<size_t>(i * k + p)], b[static_cast<size_t>(p * n + j)], chain);
        worst = std::max(worst, std::fabs(got[e] - o.value[e]) / o.size[e]);
        worst_chain = std::max(worst_chain, std::fabs(chain - o.value[e]) / o.size[e]);
      }
    EXPECT_LE(worst, 1.5 * worst_chain) << "signs from " << low;  // products are rounded where there is no fused multiply-add
    if (has_tiles(table)) {
      EXPECT_LE(worst, worst_chain) << "signs from " << low;
    }
  }
}

TEST_P(Gemm, BitsDoNotDependOnChunksTheirOrderOrThreads) {
  for (Precision p : kPrecisions)
    for (const auto& [m, n, k] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{
             {70, 130, 600}, {257, 80, 64}, {2, 1100, 257}, {20, 300, 513}, {333, 25, 1030}}) {
      const std::vector<float> a = random_floats(static_cast<size_t>(m * k), 9),
                               b = random_floats(static_cast<size_t>(k * n), 10);
      const Weight w(table, b, n, k, p);
      const std::vector<float> want = multiply(table, a, m, w);
      EXPECT_TRUE(same_bits(want, multiply(table, a, m, w, {.pad = 5, .reversed = true}))) << "reversed, " << at(m, n, k);
      EXPECT_TRUE(same_bits(want, multiply(table, a, m, w, {.threads = 3}))) << "threads, " << at(m, n, k);
      if (m <= 16) continue;
      EXPECT_TRUE(same_bits(want, multiply(table, a, m, w, {.m_step = 32}))) << "32 rows, " << at(m, n, k);
      EXPECT_TRUE(same_bits(want, multiply(table, a, m, w, {.m_step = 96}))) << "96 rows, " << at(m, n, k);
    }
}

// In fp32 an element's sum depends on k alone, so a row alone gives the bits it has among others.
TEST_P(Gemm, Fp32BitsDoNotDependOnTheOtherRows) {
  const int64_t n = 77, k = 50, m = 40;
  const std::vector<float> a = random_floats(m * k, 11), b = random_floats(k * n, 12);
  const Weight w(table, b, n, k);
  const std::vector<float> all = multiply(table, a, m, w);
  for (int64_t rows = 1; rows < m; ++rows) {
    const std::vector<float> some = multiply(table, a, rows, w);
    EXPECT_TRUE(same_bits(some, std::vector<float>(all.begin(), all.begin() + rows * n))) << rows;
  }
}

TEST_P(Gemm, GridCoversTheProductAndChunksAreSmall) {
  for (Precision p : kPrecisions)
    for (int64_t m : {1, 5, 16, 17, 128, 1536, 100000})
      for (int64_t n : {1, 2, 96, 768, 30522})
        for (int64_t k : {0, 1, 64, 768, 100000}) {
          const GemmGrid g = table.gemm_grid(m, n, k, p);
          EXPECT_EQ(g.m_chunks, (m + g.m_step - 1) / g.m_step);
          EXPECT_EQ(g.n_chunks, (n + g.n_step - 1) / g.n_step);
          EXPECT_EQ(g.n_step % table.gemm_panel(p), 0);
          const double work =
              static_cast<double>(std::min(m, g.m_step)) * static_cast<double>(std::min(n, g.n_step)) * static_cast<double>(k);
          const double floor = 32.0 * 64 * static_cast<double>(k);  // a chunk is never less than a tile
          EXPECT_LE(work, std::max(floor, 40e6)) << at(m, n, k);
        }
  const GemmGrid none = table.gemm_grid(0, 5, 5, Precision::kHighest);
  EXPECT_EQ(none.m_chunks * none.n_chunks, 0);
}

TEST_P(Gemm, PackingInPiecesGivesTheSameBytes) {
  for (Precision p : kPrecisions)
    for (bool transposed : {false, true}) {
      const int64_t n = 1000, k = 263, panel = table.gemm_panel(p), size = static_cast<int64_t>(table.gemm_b_bytes(n, k, p));
      const std::vector<float> b = random_floats(static_cast<size_t>(n * k), 13);
      const int64_t ldb = transposed ? k : n;
      std::vector<char> whole(static_cast<size_t>(size), 1), pieces(static_cast<size_t>(size), 2);
      table.gemm_pack_b(b.data(), ldb, transposed, n, k, 0, n, p, whole.data());
      for (int64_t n0 = (n - 1) / (3 * panel) * 3 * panel; n0 >= 0; n0 -= 3 * panel)
        table.gemm_pack_b(b.data(), ldb, transposed, n, k, n0, std::min(n, n0 + 3 * panel), p, pieces.data());
      EXPECT_EQ(whole, pieces) << "transposed " << transposed;

      const int64_t m = 150;
      const std::vector<float> a = random_floats(static_cast<size_t>(m * k), 14);
      for (int64_t k2 : {k, int64_t{512}}) {
        const std::vector<float> a2 = random_floats(static_cast<size_t>(m * k2), 14);
        const size_t bytes = table.gemm_a_bytes(m, n, k2, p);
        if (bytes == 0) continue;
        const Guarded<char> one(bytes), two(bytes);
        memset(one.data(), 0, bytes);  // rows beyond m are padding that nobody reads and packing may leave
        memset(two.data(), 0, bytes);
        GemmArgs args{.a = a2.data(), .lda = k2, .m = m, .n = n, .k = k2, .precision = p, .a_packed = one.data()};
        table.gemm_pack_a(args, 0, m);
        args.a_packed = two.data();
        for (int64_t m0 : {64, 0, 128}) table.gemm_pack_a(args, m0, std::min<int64_t>(m, m0 + 64));
        EXPECT_EQ(memcmp(one.data(), two.data(), bytes), 0) << "k " << k2;
      }
    }
}

double activate(const Epilogue& e, double x) {
  switch (e.act) {
    case Activation::kNone: return x;
    case Activation::kRelu: return std::max(x, 0.0);
    case Activation::kGeluErf: return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
    case Activation::kGeluTanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kTanh: return std::tanh(x);
    case Activation::kSigmoid: return 1 / (1 + std::exp(-x));
    case Activation::kSilu: return x / (1 + std::exp(-x));
    case Activation::kHardSwish: return x * std::clamp(x / 6 + 0.5, 0.0, 1.0);
    case Activation::kHardSigmoid: return std::clamp(e.lo * x + e.hi, 0.0, 1.0);
    case Activation::kLeakyRelu: return x < 0 ? e.lo * x : x;
    case Activation::kClip: return std::min<double>(e.hi, std::max<double>(e.lo, x));
  }
  return kNan;
}

TEST_P(Gemm, EveryEpilogue) {
  for (const auto& [m, n, k] :
       std::vector<std::tuple<int64_t, int64_t, int64_t>>{{7, 43, 30}, {1, 130, 8}, {64, 67, 80}, {15, 96, 0}}) {
    const std::vector<float> a = random_floats(static_cast<size_t>(m * k), 15), b = random_floats(static_cast<size_t>(k * n), 16);
    const std::vector<float> residual = random_floats(static_cast<size_t>(m * n), 17);
    const Guarded<float> bias(random_floats(static_cast<size_t>(n), 18));
    const Oracle o = oracle(a, b, m, n, k);
    const Weight w(table, b, n, k);
    for (int act = 0; act <= static_cast<int>(Activation::kClip); ++act)
      for (int options = 0; options < 16; ++options) {
        How how{.pad = 2};
        how.epilogue.act = static_cast<Activation>(act);
        how.epilogue.bias = options & 1 ? bias.data() : nullptr;
        how.epilogue.alpha = options & 2 ? -0.375f : 1;
        how.residual = options & 4 ? &residual : nullptr;
        how.in_place = (options & 8) != 0;
        how.epilogue.lo = how.epilogue.act == Activation::kClip ? -0.5f : 0.25f;
        how.epilogue.hi = 0.625f;
        const std::vector<float> got = multiply(table, a, m, w, how);
        for (size_t i = 0; i < got.size(); ++i) {
          const double x = how.epilogue.alpha * o.value[i] + (options & 1 ? bias[i % static_cast<size_t>(n)] : 0);
          const double want = activate(how.epilogue, x) + (options & 4 ? residual[i] : 0);
          ASSERT_NEAR(got[i], want, 2e-6 + 2 * o.size[i] * bound(Precision::kHighest, k))
              << "act " << act << " options " << options << " " << at(m, n, k);
        }
      }
  }
}

TEST_P(Gemm, EmptyProducts) {
  const std::vector<float> none;
  EXPECT_TRUE(multiply(table, none, 0, Weight(table, std::vector<float>(15, 1), 3, 5)).empty());
  EXPECT_TRUE(multiply(table, std::vector<float>(10, 1), 2, Weight(table, none, 0, 5)).empty());
  EXPECT_EQ(multiply(table, none, 2, Weight(table, none, 3, 0)), std::vector<float>(6, 0));
}

// Finite, infinite or NaN as the exact result is, in every table and precision that has fp32 weights at hand.
TEST_P(Gemm, SpecialValuesKeepTheClassOfTheResult) {
  const float huge = std::numeric_limits<float>::max();
  const float specials[] = {kInf, -kInf, kNan, huge, -huge, 0, -0.0f, 1e-45f, 1.7e38f};
  for (Precision p : {Precision::kHighest, Precision::kHigh})
    for (const auto& [m, n, k] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{{5, 40, 20}, {64, 70, 100}, {33, 128, 65}}) {
      std::vector<float> a = random_floats(static_cast<size_t>(m * k), 19),
                         b = random_floats(static_cast<size_t>(k * n), 20, -0.5f, 0.5f);
      std::mt19937 random(21);
      for (int64_t i = 0; i < m; i += 3)
        a[static_cast<size_t>(i * k) + random() % static_cast<size_t>(k)] = specials[random() % 9];
      for (int64_t j = 0; j < n; j += 11)
        b[(random() % static_cast<size_t>(k)) * static_cast<size_t>(n) + static_cast<size_t>(j)] = specials[random() % 9];
      b[5] = 0;
      const Oracle o = oracle(a, b, m, n, k);
      const std::vector<float> got = multiply(table, a, m, Weight(table, b, n, k, p));
      for (size_t i = 0; i < got.size(); ++i) {
        if (std::isfinite(o.value[i]) && o.size[i] > 3.4e38) continue;  // a partial sum may overflow, in fp32 as well
        EXPECT_EQ(std::isnan(got[i]), std::isnan(o.value[i])) << i;
        if (std::isinf(o.value[i])) {
          EXPECT_EQ(got[i], o.value[i]) << i;
        }
        if (std::isfinite(o.value[i])) {
          EXPECT_LE(std::fabs(got[i] - o.value[i]), o.size[i] * bound(p, k) + 1e-36) << i;
        }
      }
    }
}

// bf16 keeps a NaN whatever its payload, and the largest finite values finite.
TEST_P(Gemm, MediumKeepsNanAndLargeValues) {
  const int64_t m = 9, n = 1100, k = 257;
  uint32_t payload = 0x7f800001u;
  float quiet_low;
  memcpy(&quiet_low, &payload, 4);
  std::vector<float> a(m * k, 0), b(k * n, 0);
  a[3] = quiet_low;
  for (int64_t j = 0; j < n; ++j) b[static_cast<size_t>(3 * n + j)] = 1, b[static_cast<size_t>(7 * n + j)] = 0.5f;
  a[2 * k + 7] = std::numeric_limits<float>::max();
  const std::vector<float> got = multiply(table, a, m, Weight(table, b, n, k, Precision::kMedium));
  for (int64_t j = 0; j < n; ++j) {
    EXPECT_TRUE(std::isnan(got[static_cast<size_t>(j)]));
    EXPECT_EQ(got[static_cast<size_t>(n + j)], 0);
    EXPECT_NEAR(got[static_cast<size_t>(2 * n + j)], 1.7014118e38f, 1.7e38f / 128);
  }
}

// fp32 keeps subnormal products. Tiles lose what lies below 2^-126 in an operand's part or a sum, and no more.
TEST_P(Gemm, SmallValues) {
  for (const auto& [m, n, k] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{{4, 30, 10}, {40, 120, 70}})
    for (const auto& [a_size, b_size] :
         std::vector<std::pair<float, float>>{{0x1p-70f, 0x1p-70f}, {0x1p-115f, 0x1p100f}, {0x1p-140f, 0x1p120f}}) {
      const std::vector<float> a = random_floats(static_cast<size_t>(m * k), 22, -a_size, a_size);
      const std::vector<float> b = random_floats(static_cast<size_t>(k * n), 23, -b_size, b_size);
      const Oracle o = oracle(a, b, m, n, k);
      const std::vector<float> got = multiply(table, a, m, Weight(table, b, n, k));
      const bool tiles = has_tiles(table) && m >= 32;
      const double lost = tiles ? static_cast<double>(k) * 0x1p-124 * (1 + b_size) : static_cast<double>(k) * 0x1p-149;
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_LE(std::fabs(got[i] - o.value[i]), o.size[i] * bound(Precision::kHighest, k) + lost) << i;
    }
}

INSTANTIATE_TEST_SUITE_P(Tables, Gemm, testing::ValuesIn(tables_under_test()), TableName());

}  // namespace
}  // namespace ocior
