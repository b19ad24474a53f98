// The 8-bit product of every table against the plain loop: shapes around every tile, all extremes, both ends of the memory; and
// the way back to bytes.
#include <gtest/gtest.h>

#include "kernels/test_memory.h"
#include "kernels/test_tables.h"

namespace ocior {
namespace {

enum class Bytes { kRandom, kLeast, kMost };

struct Case {
  int64_t m = 1, n = 1, k = 1;
  bool a_signed = false, b_signed = true, transposed = false, zeros = false;
  Bytes a = Bytes::kRandom, b = Bytes::kRandom;
};

std::vector<uint8_t> make_bytes(int64_t n, Bytes kind, bool is_signed, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> out(static_cast<size_t>(n));
  for (uint8_t& x : out)
    x = kind == Bytes::kRandom ? static_cast<uint8_t>(random())
        : kind == Bytes::kMost ? (is_signed ? 0x7f : 0xff)
                               : (is_signed ? 0x80 : 0);
  return out;
}

int32_t value(uint8_t byte, bool is_signed) { return is_signed ? static_cast<int8_t>(byte) : byte; }

class GemmI8 : public testing::TestWithParam<const KernelTable*> {
 protected:
  void check(const Case& t) {
    const KernelTable& kernels = *GetParam();
    const auto a = make_bytes(t.m * t.k, t.a, t.a_signed, 1), b = make_bytes(t.k * t.n, t.b, t.b_signed, 2);
    const int32_t a_zero = t.a_signed ? -128 : 255;
    std::vector<int32_t> b_zero(static_cast<size_t>(t.n));
    for (int64_t j = 0; j < t.n; ++j) b_zero[static_cast<size_t>(j)] = t.zeros ? static_cast<int32_t>(j * 77 % 256) - 128 : 0;

    const int64_t lda = (t.k + 1) / 2 * 2, panel = kernels.gemm_i8_panel();
    const Guarded<uint8_t> from(b), rows(a);
    Guarded<int16_t> wide(static_cast<size_t>(t.m * lda));
    std::vector<int32_t> sums(static_cast<size_t>(t.m));
    for (int64_t i = 0; i < t.m; ++i)
      kernels.gemm_i8_pack_row(rows.data() + i * t.k, t.a_signed, a_zero, t.k, wide.data() + i * lda,
                               &sums[static_cast<size_t>(i)]);
    Guarded<int8_t> packed(kernels.gemm_i8_b_bytes(t.n, t.k));
    const uint8_t flip = t.b_signed ? 0 : 0x80;
    const int64_t middle = std::min(t.n, panel);
    for (const auto& [begin, end] : {std::pair{int64_t{0}, middle}, {middle, t.n}})
      kernels.gemm_i8_pack_b(from.data(), t.transposed ? t.k : t.n, t.transposed, flip, t.n, t.k, begin, end, packed.data());

    std::vector<int32_t> zeros(b_zero);
    for (int32_t& z : zeros) z -= t.b_signed ? 0 : 128;
    ByteGemmArgs args;
    args.a = wide.data(), args.lda = lda, args.a_sums = sums.data(), args.b = packed.data();
    args.m = t.m, args.k = t.k, args.ldc = t.n;
    Guarded<int32_t> c(static_cast<size_t>(t.m * t.n));
    for (const auto& [begin, end] : {std::pair{int64_t{0}, middle}, {middle, t.n}}) {
      args.c = c.data() + begin;
      args.b_zero = t.b_signed && !t.zeros ? nullptr : zeros.data() + begin;
      kernels.gemm_i8(args, begin, end);
    }
    for (int64_t i = 0; i < t.m; ++i)
      for (int64_t j = 0; j < t.n; ++j) {
        uint32_t want = 0;
        for (int64_t k = 0; k < t.k; ++k)
          want += static_cast<uint32_t>(value(a[static_cast<size_t>(i * t.k + k)], t.a_signed) - a_zero) *
                  static_cast<uint32_t>(value(b[static_cast<size_t>(t.transposed ? j * t.k + k : k * t.n + j)], t.b_signed) -
                                        b_zero[static_cast<size_t>(j)]);
        ASSERT_EQ(c[static_cast<size_t>(i * t.n + j)], static_cast<int32_t>(want))
            << t.m << 'x' << t.k << 'x' << t.n << " at " << i << ", " << j;
      }
  }
};

TEST_P(GemmI8, ShapesAroundEveryTile) {
  for (const int64_t m : {1, 2, 3, 5, 6, 7, 13, 97})
    for (const int64_t n : {1, 7, 8, 16, 31, 65, 130})
      for (const int64_t k : {0, 1, 2, 5, 64}) check({.m = m, .n = n, .k = k, .zeros = (m + n) % 2 == 0});
}

TEST_P(GemmI8, EverySign) {
  for (const bool a : {false, true})
    for (const bool b : {false, true})
      for (const bool transposed : {false, true})
        for (const bool zeros : {false, true})
          check({.m = 9, .n = 37, .k = 33, .a_signed = a, .b_signed = b, .transposed = transposed, .zeros = zeros});
}

TEST_P(GemmI8, ExtremesWrapAndNeverSaturate) {
  for (const bool a : {false, true})
    for (const bool b : {false, true})
      for (const Bytes x : {Bytes::kLeast, Bytes::kMost})
        for (const Bytes z : {Bytes::kLeast, Bytes::kMost})
          for (const int64_t k : {2, 257, 1025, 66000})
            check({.m = 2, .n = 9, .k = k, .a_signed = a, .b_signed = b, .zeros = true, .a = x, .b = z});
}

TEST_P(GemmI8, SlicesOfALongSum) {
  for (const int64_t k : {1023, 1024, 1025, 2049}) check({.m = 14, .n = 45, .k = k});
}

TEST_P(GemmI8, ScatteredRows) {
  const KernelTable& kernels = *GetParam();
  for (const int64_t m : {1, 6, 20})
    for (const int64_t n : {1, 15, 40, 133})
      for (const int64_t k : {2, 6, 2050}) {
        const int64_t pairs = k / 2, row = 2 * (n + kernels.gemm_i8_panel());
        const std::vector<uint8_t> a = make_bytes(m * k, Bytes::kRandom, true, 3);
        const Guarded<uint8_t> b(make_bytes(pairs * row, Bytes::kRandom, true, 4));
        std::vector<int64_t> places;
        for (int64_t i = 0; i < pairs; ++i) places.push_back((pairs - 1 - i) * row);
        std::vector<int16_t> wide(a.size());
        std::vector<int32_t> sums(static_cast<size_t>(m)), zeros(static_cast<size_t>(n), -3);
        for (int64_t i = 0; i < m; ++i)
          kernels.gemm_i8_pack_row(a.data() + i * k, true, 5, k, wide.data() + i * k, &sums[static_cast<size_t>(i)]);
        Guarded<int32_t> c(static_cast<size_t>(m * n));
        ByteGemmArgs args;
        args.a = wide.data(), args.lda = k, args.a_sums = sums.data(), args.b_zero = zeros.data();
        args.b = reinterpret_cast<const int8_t*>(b.data()), args.pairs = places.data();
        args.c = c.data(), args.ldc = n, args.m = m, args.k = k;
        kernels.gemm_i8(args, 0, n);
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n; ++j) {
            int32_t want = 0;
            for (int64_t t = 0; t < k; ++t)
              want += (value(a[static_cast<size_t>(i * k + t)], true) - 5) *
                      (value(b[static_cast<size_t>(places[static_cast<size_t>(t / 2)] + 2 * j + t % 2)], true) + 3);
            ASSERT_EQ(c[static_cast<size_t>(i * n + j)], want) << m << 'x' << k << 'x' << n << " at " << i << ", " << j;
          }
      }
}

INSTANTIATE_TEST_SUITE_P(Tables, GemmI8, testing::ValuesIn(tables_under_test()), TableName());

}  // namespace
}  // namespace ocior
